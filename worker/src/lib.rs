//! The worker: receive, execute, seal, upload, report, acknowledge.
//!
//! [`serve`](serve::serve) is the loop that every worker process and the embedded engine run. What it executes is a
//! [`source::Source`]; what a source finds goes through a [`capture::Capture`], which seals it into packs and indexes.

pub mod capture;
pub mod configured;
pub mod guard;
pub mod outcome;
pub mod plans;
pub mod progress;
pub mod reports;
pub mod serve;
pub mod signals;
pub mod source;
pub mod verify;
