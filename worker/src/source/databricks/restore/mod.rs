//! Bringing items back. What is sent follows from the table: an item loses what the server sets, its references are put into
//! the target's words ([`portable`]), and the row says which calls make, change and finish it ([`writes`]).
//!
//! **Twice is once**: what an item became is written down before anything depends on it; an attempt that may have had an
//! effect nobody heard of is looked for in the target before it is made again ([`mod@bring`]). **Order** inside one step: the
//! item, what else is set on it, stopping what that started. **Failures** of one item are its gap.

mod access;
mod bring;
mod known;
mod portable;
mod sql;
mod writes;

pub(super) use bring::bring;
pub use known::Databricks;
