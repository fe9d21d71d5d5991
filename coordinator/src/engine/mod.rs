//! The engine: one way to carry out a run, whatever its verb.

pub mod commit;
pub mod drive;
pub mod ledger;
mod sending;
pub mod state;
pub mod view;
