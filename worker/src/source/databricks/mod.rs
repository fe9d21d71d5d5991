//! The Databricks source: one workspace, its kinds, and the client that reads them.
//!
//! [`Client`] sends calls within the rate budget, tries again where that is safe, and turns every refusal into a fault;
//! [`paging`] turns listings into pages. What the kinds are, and how a task captures them, lies beside them and knows
//! nothing of HTTP.

mod attributes;
mod auth;
mod body;
mod budget;
mod client;
mod dns;
mod errors;
mod estimate;
pub mod families;
mod host;
pub mod kinds;
mod paging;
mod probe;
mod profile;
mod request;
mod restore;
mod retry;
mod room;
mod settings;
mod source;
mod work;

pub use client::Client;
pub use paging::{Page, Paging};
pub use probe::{
    FACT_ACCOUNT_ID, FACT_CLOUD, FACT_HOST, FACT_METASTORE_ID, FACT_METASTORE_NAME, FACT_METASTORE_OWNER,
    FACT_METASTORE_UNKNOWN, FACT_WORKSPACE_ID, probe,
};
pub use request::{Request, segment};
pub use restore::Databricks;
pub use settings::{Credentials, Patience, SecretSource, Settings};
pub use source::{DatabricksSource, NAME, comparable};
