//! The adapters that a fleet runs on, against the real servers; and a fleet.

mod doctor;
mod rabbit;
mod redis;
mod redis_bucket;
mod redis_trouble;
pub(crate) mod run;
mod s3;
mod twice;
