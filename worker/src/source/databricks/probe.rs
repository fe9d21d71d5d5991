//! The probe before the plan: who are we, which workspace is this, which metastore does it use?

use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::plan::Probe;
use serde::Deserialize;

use super::client::Client;
use super::families::SCIM;
use super::request::Request;
use crate::capture::Meter;

/// The fact that names the workspace's numeric id.
pub const FACT_WORKSPACE_ID: &str = "workspace_id";
/// The fact that names the workspace's host.
pub const FACT_HOST: &str = "host";
/// The fact that names the cloud: `aws`, `azure` or `gcp`. Absent when it could not be found out.
pub const FACT_CLOUD: &str = "cloud";
/// The fact that names the metastore attached to the workspace; absent when there is none.
pub const FACT_METASTORE_ID: &str = "metastore_id";
/// The fact that names that metastore's name; absent when we may not see it.
pub const FACT_METASTORE_NAME: &str = "metastore_name";
/// The fact that names that metastore's owner; absent when we may not see it.
pub const FACT_METASTORE_OWNER: &str = "metastore_owner";

#[derive(Deserialize)]
struct Me {
    id: String,
    #[serde(rename = "userName")]
    user_name: String,
}

/// Finds out who we are and what the workspace is. A few calls, all together within about ten seconds, whatever the host
/// does.
///
/// # Errors
/// `Unavailable` when the host does not answer; `Denied` when it does not know us; `Config` when it is no workspace, or
/// another one than configured.
pub async fn probe(client: &Client, meter: &Arc<Meter>) -> Result<Probe> {
    let body = client.json(&Request::get(&SCIM, "/api/2.0/preview/scim/v2/Me"), meter).await?;
    let me: Me = serde_json::from_slice(&body)
        .map_err(|e| Fault::new(Class::Unavailable, "http.unexpected", "ask who we are", e))?;
    let mut probe = Probe::default();
    probe.identity.id = me.id;
    probe.identity.name = me.user_name;
    Ok(probe)
}
