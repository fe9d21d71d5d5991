//! All suites, one module each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a broken promise ends a test"
)]

mod chaos;
mod client;
mod dependencies;
mod engine;
mod fleet;
mod hostile;
mod killed;
mod killpoints;
mod postgres;
mod restore;
mod schedules;
mod service;
mod source;
mod telemetry;
mod tls;
mod usage;
mod verify;
mod workspace;
