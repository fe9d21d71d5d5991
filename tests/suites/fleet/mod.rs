//! The adapters that a fleet runs on, against the real servers.

mod s3;
