//! The coordinator: plan, dispatch, collect, commit, report; and the verbs that read.

pub mod backup;
pub mod cli;
pub mod diff;
pub mod embedded;
pub mod engine;
mod listed;
pub mod output;
pub mod plan;
pub mod restore;
pub mod running;
pub mod serve;
mod shelf;
pub mod snapshot;
mod spill;
pub mod verify;
