//! Restore: what was backed up comes back, into another workspace, as it was.

mod round_trip;
mod safety;
mod trouble;
mod verbs;
