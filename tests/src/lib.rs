//! The harness: everything a suite needs to set a scene in three lines. Never shipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a harness that cannot set its scene ends the test"
)]

pub mod chaos;
pub mod component;
pub mod fleet;
pub mod program;
pub mod site;
pub mod small;
pub mod synthetic;
pub mod two;
pub mod workspace;
