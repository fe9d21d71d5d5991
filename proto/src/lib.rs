//! The contract of Lakehold: what coordinator and workers must agree on.
//!
//! Four rooms: the **words** ([`ids`], [`address`], [`task`], [`outcome`], [`plan`], [`manifest`],
//! [`restore`], [`verify`]), the **format** of what lies in
//! a store ([`mod@format`], written down in `FORMAT.md`), the **fault taxonomy** ([`fault`]), and the three **ports** with
//! their adapters: [`queue`], [`locks`] (with the rate budget) and [`store`]. Nothing here knows what a source is.

pub mod address;
pub mod clock;
pub mod config;
pub mod fault;
pub mod format;
pub mod ids;
pub mod killpoint;
pub mod locks;
pub mod manifest;
pub mod open;
pub mod outcome;
pub mod plan;
pub mod process;
pub mod queue;
pub mod restore;
pub mod secret;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod verify;
