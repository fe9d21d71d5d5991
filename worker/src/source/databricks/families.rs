//! The API families of a workspace: one row each, with the rate that the vendor allows and where that number is from.
//!
//! A bucket of the rate budget belongs to one family, one verb, and one workspace (or one metastore, which many workspaces
//! share). Where the vendor publishes a limit, the bucket starts at it (times the operator's share). Where it does not, the
//! ceiling is what other exporters survive with, and the bucket starts at half of it and climbs: a wrong guess then costs
//! a few throttled calls, never a ban.

use lakehold_proto::locks::{BucketKey, Limit};

/// Whether a call changes anything: vendors limit the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Changes nothing.
    Read,
    /// May change something.
    Write,
}

impl Verb {
    /// The word that buckets are named with.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a limit is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One workspace.
    Workspace,
    /// One metastore, from all workspaces attached to it. Counted per workspace while the metastore is not known.
    Metastore,
}

/// Calls a second that the vendor allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The ceiling.
    pub per_second: f64,
    /// What to begin with.
    pub start: f64,
}

/// A published limit: begin at it.
const fn published(per_second: f64) -> Rate {
    Rate { per_second, start: per_second }
}

/// An unpublished one: begin at half of what is believed to be safe.
const fn believed(per_second: f64) -> Rate {
    Rate { per_second, start: per_second / 2.0 }
}

/// One API family.
#[derive(Debug)]
pub struct Family {
    /// Its name, as it appears in buckets, figures and estimates.
    pub name: &'static str,
    /// What calls that change nothing may do.
    pub read: Rate,
    /// What calls that change something may do.
    pub write: Rate,
    /// Whether reads and writes draw on one limit. Their rates are then the same.
    pub one_limit: bool,
    /// Calls that may be under way at once, whatever the rate.
    pub concurrency: u32,
    /// What the limit is counted for.
    pub scope: Scope,
    /// Where the numbers are from.
    pub provenance: &'static str,
}

impl Family {
    /// The rate of one verb.
    pub const fn rate(&self, verb: Verb) -> Rate {
        match verb {
            Verb::Read => self.read,
            Verb::Write => self.write,
        }
    }

    /// What the budget may give at most, when the operator lets us have `share` of the limit.
    ///
    /// The burst is a tenth of a second's calls (at least two): large enough that a late timer loses nothing, small enough
    /// that a full second at the ceiling plus one burst stays near the limit itself.
    pub fn limit(&self, verb: Verb, share: f64) -> Limit {
        let rate = self.rate(verb);
        let burst = ((rate.per_second * share / 10.0).floor() as u32).max(2);
        Limit { per_second: rate.per_second * share, start: rate.start * share, burst }
    }

    /// The bucket of this family in `workspace`, or in `metastore` where it is known and the limit is counted there.
    pub fn bucket(&self, workspace: &str, metastore: Option<&str>, verb: Verb) -> BucketKey {
        let scope = match self.scope {
            Scope::Workspace => workspace,
            Scope::Metastore => metastore.unwrap_or(workspace),
        };
        BucketKey::new(scope, self.name, if self.one_limit { "any" } else { verb.word() })
    }
}

/// Microsoft's page of resource limits, as transcribed by a third party in May 2026.
const LIMITS_PAGE: &str = "published: learn.microsoft.com/azure/databricks/resources/limits (2026-05)";
/// Nothing is published; other exporters run this many workers against it and survive.
const EXPORTER: &str = "unpublished: believed from the worker counts of the Terraform exporter";

/// Users, groups, service principals, `Me`.
pub static SCIM: Family = Family {
    name: "scim",
    read: published(255.0 / 60.0),
    write: believed(2.0),
    one_limit: false,
    // The exporter reads principals with one or two workers; more only fills the server's queue.
    concurrency: 2,
    scope: Scope::Workspace,
    provenance: LIMITS_PAGE,
};

/// Access control lists of workspace objects.
pub static PERMISSIONS: Family = Family {
    name: "permissions",
    read: published(100.0),
    write: published(30.0),
    one_limit: false,
    concurrency: 11,
    scope: Scope::Workspace,
    provenance: LIMITS_PAGE,
};

/// Listing directories, status of one path.
pub static WORKSPACE_LIST: Family = Family {
    name: "workspace-list",
    read: believed(30.0),
    write: believed(10.0),
    one_limit: false,
    concurrency: 10,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Exporting (read) and importing (write) notebooks and files.
pub static WORKSPACE_EXPORT: Family = Family {
    name: "workspace-export",
    read: published(60.0),
    write: published(30.0),
    one_limit: false,
    concurrency: 10,
    scope: Scope::Workspace,
    provenance: LIMITS_PAGE,
};

/// Git folders.
pub static REPOS: Family = Family {
    name: "repos",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 5,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Jobs. Creating is published at 20 a second; reading a job's settings is not, only `runs/get` is (100 a second).
pub static JOBS: Family = Family {
    name: "jobs",
    read: believed(50.0),
    write: published(20.0),
    one_limit: false,
    concurrency: 10,
    scope: Scope::Workspace,
    provenance: "create published: learn.microsoft.com/azure/databricks/resources/limits (2026-05); read believed: half of runs/get",
};

/// Declarative pipelines.
pub static PIPELINES: Family = Family {
    name: "pipelines",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 10,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Clusters.
pub static CLUSTERS: Family = Family {
    name: "clusters",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 10,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Instance pools and instance profiles.
pub static INSTANCE_POOLS: Family = Family {
    name: "instance-pools",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 5,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Cluster policies and policy families.
pub static POLICIES: Family = Family {
    name: "policies",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 5,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Libraries on clusters.
pub static LIBRARIES: Family = Family {
    name: "libraries",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 5,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Global init scripts.
pub static GLOBAL_INIT_SCRIPTS: Family = Family {
    name: "global-init-scripts",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 5,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// SQL warehouses.
pub static SQL_WAREHOUSES: Family = Family {
    name: "sql-warehouses",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 5,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Saved queries. Ten lists at once may end in a ban (the SDK's own warning), so it stays well below.
pub static SQL_QUERIES: Family = Family {
    name: "sql-queries",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 6,
    scope: Scope::Workspace,
    provenance: "concurrency: the SDK warns of 10 at once; rate believed from the Terraform exporter's 6 workers",
};

/// Alerts, both generations; the same warning as for queries.
pub static SQL_ALERTS: Family = Family {
    name: "sql-alerts",
    read: believed(10.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 2,
    scope: Scope::Workspace,
    provenance: "concurrency: the SDK warns of 10 at once; rate believed from the Terraform exporter's 2 workers",
};

/// Lakeview dashboards.
pub static LAKEVIEW: Family = Family {
    name: "lakeview",
    read: believed(20.0),
    write: believed(5.0),
    one_limit: false,
    concurrency: 4,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Secret scopes, keys and their access lists.
pub static SECRETS: Family = Family {
    name: "secrets",
    read: published(1100.0 / 60.0),
    write: published(1100.0 / 60.0),
    one_limit: true,
    concurrency: 5,
    scope: Scope::Workspace,
    provenance: LIMITS_PAGE,
};

/// Unity Catalog objects.
pub static UNITY_CATALOG: Family = Family {
    name: "unity-catalog",
    read: believed(50.0),
    write: believed(10.0),
    one_limit: false,
    concurrency: 10,
    scope: Scope::Metastore,
    provenance: EXPORTER,
};

/// Grants on Unity Catalog objects: one call for each securable, so they are counted apart from the objects.
pub static GRANTS: Family = Family {
    name: "grants",
    read: believed(50.0),
    write: believed(10.0),
    one_limit: false,
    concurrency: 10,
    scope: Scope::Metastore,
    provenance: EXPORTER,
};

/// Workspace settings, tokens, IP access lists, and whatever else is a handful of calls.
pub static SETTINGS: Family = Family {
    name: "settings",
    read: believed(10.0),
    write: believed(2.0),
    one_limit: false,
    concurrency: 4,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// SQL statements. They occupy a warehouse, so few at once.
pub static STATEMENTS: Family = Family {
    name: "statements",
    read: believed(20.0),
    write: believed(10.0),
    one_limit: false,
    concurrency: 8,
    scope: Scope::Workspace,
    provenance: EXPORTER,
};

/// Every family, by name.
pub static FAMILIES: [&Family; 21] = [
    &CLUSTERS,
    &GLOBAL_INIT_SCRIPTS,
    &GRANTS,
    &INSTANCE_POOLS,
    &JOBS,
    &LAKEVIEW,
    &LIBRARIES,
    &PERMISSIONS,
    &PIPELINES,
    &POLICIES,
    &REPOS,
    &SCIM,
    &SECRETS,
    &SETTINGS,
    &SQL_ALERTS,
    &SQL_QUERIES,
    &SQL_WAREHOUSES,
    &STATEMENTS,
    &UNITY_CATALOG,
    &WORKSPACE_EXPORT,
    &WORKSPACE_LIST,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_unique_and_sensible() {
        assert!(FAMILIES.is_sorted_by(|a, b| a.name < b.name), "sorted, and no name twice");
        for family in FAMILIES {
            assert!(!family.provenance.is_empty(), "{}", family.name);
            assert!(family.concurrency > 0, "{}", family.name);
            assert!(!family.one_limit || family.read == family.write, "{}", family.name);
            for rate in [family.read, family.write] {
                assert!(rate.start > 0.0 && rate.start <= rate.per_second, "{}", family.name);
            }
        }
        for warned in [&SQL_QUERIES, &SQL_ALERTS] {
            assert!(warned.concurrency < 10, "{} may be banned", warned.name);
        }
    }

    #[test]
    fn a_full_second_and_one_burst_stay_within_a_tenth_of_the_limit() {
        for family in FAMILIES.iter().filter(|family| family.read.per_second >= 30.0) {
            let limit = family.limit(Verb::Read, 0.97);
            let most = limit.per_second + f64::from(limit.burst);
            assert!(most <= 1.1 * family.read.per_second, "{}: {most}", family.name);
        }
    }

    #[test]
    fn catalog_calls_are_counted_for_the_metastore_once_it_is_known() {
        assert_eq!(GRANTS.bucket("ws", None, Verb::Read).as_str(), "ws/grants/read");
        assert_eq!(GRANTS.bucket("ws", Some("ms"), Verb::Read).as_str(), "ms/grants/read");
        assert_eq!(SECRETS.bucket("ws", None, Verb::Write), SECRETS.bucket("ws", None, Verb::Read));
        assert_eq!(JOBS.bucket("ws", Some("ms"), Verb::Write).as_str(), "ws/jobs/write");
    }
}
