//! The probe before the plan: who are we, which workspace is this, which metastore does it use?

use std::sync::Arc;
use std::time::Duration;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::plan::{Identity, Probe};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::Client;
use super::families::{Family, SCIM, SETTINGS, UNITY_CATALOG};
use super::host;
use super::request::Request;
use crate::capture::Meter;

/// The fact that names the workspace's numeric id. Absent when the workspace does not tell it.
pub const FACT_WORKSPACE_ID: &str = "workspace_id";
/// The fact that names the workspace's host.
pub const FACT_HOST: &str = "host";
/// The fact that names the cloud: `aws`, `azure` or `gcp`. Absent when it could not be found out.
pub const FACT_CLOUD: &str = "cloud";
/// The fact that names the account of the workspace. Absent when the host does not tell it.
pub const FACT_ACCOUNT_ID: &str = "account_id";
/// The fact that names the metastore attached to the workspace; absent when there is none, or it could not be found out.
pub const FACT_METASTORE_ID: &str = "metastore_id";
/// The fact that names that metastore's name; absent when we may not see it.
pub const FACT_METASTORE_NAME: &str = "metastore_name";
/// The fact that names that metastore's owner; absent when we may not see it.
pub const FACT_METASTORE_OWNER: &str = "metastore_owner";
/// The fact that is there, with the reason, when it could not be found out whether there is a metastore: what it holds is
/// then *not* "not enabled".
pub const FACT_METASTORE_UNKNOWN: &str = "metastore_unknown";

/// Each call of the probe is given up this long after its first failure.
const RETRIES: Duration = Duration::from_secs(4);
/// The group of a workspace's administrators.
const ADMINS: &str = "admins";

#[derive(Deserialize)]
struct Me {
    id: String,
    #[serde(rename = "userName")]
    user_name: Option<String>,
    #[serde(rename = "displayName")]
    display_name: Option<String>,
    #[serde(default)]
    groups: Vec<Membership>,
}

#[derive(Deserialize)]
struct Membership {
    display: Option<String>,
}

#[derive(Deserialize)]
struct Metastore {
    metastore_id: String,
    name: Option<String>,
    owner: Option<String>,
}

#[derive(Default, Deserialize)]
struct WellKnown {
    cloud: Option<String>,
    account_id: Option<String>,
}

/// Finds out who we are and what the workspace is. A few calls, all together within about ten seconds, whatever the host
/// does. What it learns of the metastore, `client` knows from then on.
///
/// # Errors
/// `Unavailable` when the host does not answer; `Denied` when it does not know us; `Config` when it is no workspace, or
/// another one than configured.
pub async fn probe(client: &Client, meter: &Arc<Meter>) -> Result<Probe> {
    let patience = client.settings().patience.probe;
    let asking = Asking { client, meter };
    tokio::select! {
        probe = asking.probe() => probe,
        () = client.clock().sleep(patience) => {
            let detail = format!("{} gave no answer of use within {} s", client.settings().host, patience.as_secs());
            Err(Fault::new(Class::Unavailable, "http.unreachable", "ask the workspace who we are", detail)
                .hint("check the host, the network and the proxy settings (HTTPS_PROXY, NO_PROXY)"))
        }
    }
}

/// Whether a refusal has the shape of the vendor's API: an absent call of a server that knows the others.
fn speaks_the_api(fault: &Fault) -> bool {
    let named = fault.http.as_ref().is_some_and(|refusal| refusal.code.is_some());
    named && matches!(fault.code, "http.absent" | "http.unsupported")
}

struct Asking<'a> {
    client: &'a Client,
    meter: &'a Arc<Meter>,
}

impl Asking<'_> {
    async fn probe(&self) -> Result<Probe> {
        let mut probe = Probe::default();
        let host = &self.client.settings().host;
        let groups = self.identity(&mut probe).await?;
        probe.facts.insert(FACT_HOST.into(), host.as_str().trim_end_matches('/').to_owned());
        let told = self.told().await;
        let by_name = host::cloud(host).map(str::to_owned);
        let cloud = by_name.or_else(|| told.cloud.map(|cloud| cloud.to_ascii_lowercase()));
        probe.facts.extend(cloud.map(|cloud| (FACT_CLOUD.into(), cloud)));
        probe.facts.extend(told.account_id.map(|id| (FACT_ACCOUNT_ID.into(), id)));
        self.metastore(&mut probe, &groups).await?;
        if let Some(id) = probe.facts.get(FACT_METASTORE_ID) {
            self.client.know_metastore(id);
        }
        Ok(probe)
    }

    /// Who we are, and which workspace answered. Answers the groups we are in.
    async fn identity(&self, probe: &mut Probe) -> Result<Vec<String>> {
        const DOING: &str = "ask the workspace who we are";
        let request = Request::get(&SCIM, "/api/2.0/preview/scim/v2/Me");
        let no_workspace = |detail: &dyn std::fmt::Display| {
            Fault::new(Class::Config, "config.no-workspace", DOING, detail).hint(
                "check that the host is a Databricks workspace and not an account console or something else",
            )
        };
        let (body, org) = match self.client.json_within(&request, self.meter, RETRIES).await {
            Ok(answer) => answer,
            // A server that speaks the API and lacks this call can still be read; nobody can say how completely.
            Err(fault) if speaks_the_api(&fault) => {
                probe
                    .warnings
                    .push(format!("who asks is not known ({}): lists may silently be short", fault.detail));
                return Ok(Vec::new());
            }
            Err(fault) => {
                return Err(match fault.code {
                    "http.absent" | "http.not-json" | "http.unsupported" | "http.refused" => {
                        no_workspace(&fault.detail)
                    }
                    _ => fault.while_doing(DOING),
                });
            }
        };
        let me: Me =
            serde_json::from_slice(&body).map_err(|_| no_workspace(&"it answers as no workspace does"))?;
        if let Some(id) = org.or_else(|| self.client.settings().workspace_id.clone()) {
            self.same_workspace(&id)?;
            probe.facts.insert(FACT_WORKSPACE_ID.into(), id);
        }
        let groups: Vec<String> = me.groups.into_iter().filter_map(|group| group.display).collect();
        let admin = groups.iter().any(|group| group == ADMINS);
        let name = me.user_name.or(me.display_name).unwrap_or_else(|| me.id.clone());
        if !admin {
            probe.warnings.push(format!(
                "{name} is not a workspace admin: lists may silently leave out what it may not see"
            ));
        }
        probe.identity = Identity { id: me.id, name, admin: Some(admin) };
        Ok(groups)
    }

    fn same_workspace(&self, answered: &str) -> Result<()> {
        match &self.client.settings().workspace_id {
            Some(wanted) if wanted != answered => {
                let detail = format!("the configuration says {wanted}, and {answered} answered");
                Err(Fault::new(
                    Class::Config,
                    "config.wrong-workspace",
                    "check which workspace answers",
                    detail,
                )
                .hint("correct host or workspace_id; nothing was read"))
            }
            _ => Ok(()),
        }
    }

    /// What the host says of itself; nothing hangs on it, so failing is no error.
    async fn told(&self) -> WellKnown {
        self.ask(&SETTINGS, "/.well-known/databricks-config").await.unwrap_or_default()
    }

    /// The metastore, and whether we may see all of it.
    async fn metastore(&self, probe: &mut Probe, groups: &[String]) -> Result<()> {
        let found =
            match self.ask::<Metastore>(&UNITY_CATALOG, "/api/2.1/unity-catalog/metastore_summary").await {
                // Whoever may not see the summary, or has a server that knows none, may still see which one it is.
                Err(fault)
                    if fault.code != "http.not-enabled"
                        && matches!(fault.class, Class::Denied | Class::Absent | Class::Unsupported) =>
                {
                    self.ask(&UNITY_CATALOG, "/api/2.1/unity-catalog/current-metastore-assignment").await
                }
                other => other,
            };
        let metastore = match found {
            Ok(metastore) => metastore,
            Err(fault) if fault.code == "http.not-enabled" => return Ok(()),
            Err(fault)
                if fault.code == "http.denied"
                    || matches!(fault.class, Class::Unsupported | Class::Absent) =>
            {
                probe.warnings.push("which metastore the workspace uses cannot be seen".into());
                probe.facts.insert(FACT_METASTORE_UNKNOWN.into(), fault.to_string());
                return Ok(());
            }
            Err(fault) => return Err(fault.while_doing("ask for the metastore")),
        };
        let me = &probe.identity.name;
        match &metastore.owner {
            Some(owner) if owner == me || groups.contains(owner) => {}
            Some(owner) => probe.warnings.push(format!(
                "{me} is not the metastore's admin ({owner} is): lists of Unity Catalog may silently be short"
            )),
            None => probe.warnings.push(
                "who administers the metastore is not known: lists of Unity Catalog may silently be short"
                    .into(),
            ),
        }
        probe.facts.insert(FACT_METASTORE_ID.into(), metastore.metastore_id);
        probe.facts.extend(metastore.name.map(|name| (FACT_METASTORE_NAME.into(), name)));
        probe.facts.extend(metastore.owner.map(|owner| (FACT_METASTORE_OWNER.into(), owner)));
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(&self, family: &'static Family, path: &str) -> Result<T> {
        let request = Request::get(family, path);
        let (body, _) = self.client.json_within(&request, self.meter, RETRIES).await?;
        serde_json::from_slice(&body).map_err(|e| {
            Fault::new(
                Class::Unavailable,
                "http.unexpected",
                request.context(),
                format!("an unexpected answer: {e}"),
            )
        })
    }
}
