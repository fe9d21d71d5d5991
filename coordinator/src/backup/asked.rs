//! What a person may ask a backup for, on the command line or over the API, and what it means.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::plan::Selection;
use serde::{Deserialize, Serialize};

use super::Request;

/// As it was typed. The same words as the flags of `lakehold backup`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// Which environments.
    pub environments: Vec<EnvName>,
    /// All that are configured.
    pub all: bool,
    /// Only these kinds.
    pub kinds: Vec<String>,
    /// Not these kinds.
    pub exclude_kinds: Vec<String>,
    /// Only what matches one of these globs.
    pub paths: Vec<String>,
    /// Without jobs, clusters made by jobs, and notebooks.
    pub shared: bool,
    /// Fetch everything again.
    pub full: bool,
    /// Words for the snapshots.
    pub tags: Vec<String>,
    /// Go on with the latest unfinished run, whatever its age.
    pub resume: bool,
    /// Only plan.
    pub dry_run: bool,
}

impl Asked {
    /// What it means where these environments are `configured`.
    ///
    /// # Errors
    /// Those of [`Self::environments`].
    pub fn request(&self, configured: impl Iterator<Item = EnvName>) -> Result<Request> {
        Ok(Request {
            environments: self.environments(configured)?,
            selection: self.selection(),
            tags: self.tags.clone(),
            resume: self.resume,
            dry_run: self.dry_run,
            scheduled: None,
        })
    }

    /// What of an environment was asked for.
    pub fn selection(&self) -> Selection {
        let kinds = |names: &[String]| names.iter().map(Kind::named).collect();
        Selection {
            look: false,
            without_data: false,
            kinds: kinds(&self.kinds),
            exclude_kinds: kinds(&self.exclude_kinds),
            paths: self.paths.clone(),
            shared: self.shared,
            full: self.full,
        }
    }

    /// Which environments were asked for: those named, all with `--all`, or the only one there is.
    ///
    /// # Errors
    /// `Config` when none is configured, several are and none was named, or one that was named is not configured.
    pub fn environments(&self, configured: impl Iterator<Item = EnvName>) -> Result<Vec<EnvName>> {
        let configured: Vec<_> = configured.collect();
        let fault = |code, detail: String| Fault::new(Class::Config, code, "choose environments", detail);
        let list = || configured.iter().map(EnvName::as_str).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = self.environments.iter().find(|name| !configured.contains(name)) {
            return Err(fault("environment.unknown", format!("{unknown} is not configured")).hint(
                if configured.is_empty() {
                    "add it to lakehold.yaml".into()
                } else {
                    format!("known: {}", list())
                },
            ));
        }
        match (self.environments.is_empty(), self.all, configured.as_slice()) {
            (_, _, []) => Err(fault("environment.none", "no environment is configured".into())
                .hint("write a lakehold.yaml, set DATABRICKS_HOST and DATABRICKS_TOKEN, or give --profile")),
            (false, ..) => {
                let mut named = self.environments.clone();
                named.sort_unstable();
                named.dedup();
                Ok(named)
            }
            (true, false, [_, _, ..]) => {
                Err(fault("environment.which", format!("{} are configured", configured.len()))
                    .hint(format!("name one or several with --env ({}), or give --all", list())))
            }
            _ => Ok(configured),
        }
    }
}
