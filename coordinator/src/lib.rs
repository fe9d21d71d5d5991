//! The coordinator: plan, dispatch, collect, commit, report.

pub mod backup;
pub mod embedded;
pub mod engine;
pub mod plan;
pub mod snapshot;
