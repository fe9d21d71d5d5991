//! A simulated Databricks workspace: an HTTP server with real behaviour, limits, quirks and a mean streak.
//!
//! It is written from the vendor's reference, not from Lakehold's table of kinds, and depends on none
//! of our crates, so that it cannot agree with our mistakes. It runs inside somebody else's runtime
//! ([`Sim::start`]) or on its own (the binary `lakehold-sim`).
//!
//! A call passes [`chain`]: authentication, faults, limits, latency, handler, faults, accounting.
//! A *domain* is one file under `api/` (its routes and handlers) and, where it can be generated, one
//! under `population/`; `api/instance_pools.rs` is the example to follow.

#![allow(dead_code, reason = "the domains that use these parts are being written")]

mod api;
mod archive;
mod calls;
mod chain;
mod clock;
mod content;
#[cfg(test)]
mod engine_tests;
mod errors;
mod faults;
mod identity;
mod limits;
mod paging;
mod population;
mod reply;
mod rng;
mod router;
mod sim;
mod state;
mod tree;

pub use calls::{CallCount, CallReport, Peak, SecondCount};
pub use clock::Clock;
pub use errors::Shape;
pub use faults::{Effect, Fault, When};
pub use identity::{CLIENT, IdentitySpec, OPERATOR, TOKEN};
pub use limits::{Limit, Limits};
pub use population::{Mutation, MutationReport, Population};
pub use sim::{Cloud, Sim, SimConfig, SimError};
