//! The object types that have permissions, as data (reference section 3.0).

use crate::tree::NodeKind;

/// Where objects of a type are found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Home {
    /// Documents of this kind in the workspace's store.
    Store(&'static str),
    /// Entries of the tree.
    Tree(NodeKind),
    /// Exactly one object of this name.
    Single(&'static str),
}

/// One object type.
pub(crate) struct Type {
    /// As in the URL.
    pub(crate) url: &'static str,
    /// `object_type` of the response.
    pub(crate) object_type: &'static str,
    /// The name ACLs are kept by, the same for the two URLs of warehouses.
    pub(crate) key: &'static str,
    pub(crate) home: Home,
    /// Weakest first.
    pub(crate) levels: &'static [&'static str],
}

const FILE_LEVELS: &[&str] = &["CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"];
const WAREHOUSE_LEVELS: &[&str] = &["CAN_USE", "CAN_MONITOR", "CAN_VIEW", "CAN_MANAGE", "IS_OWNER"];

const fn row(
    url: &'static str,
    object_type: &'static str,
    key: &'static str,
    home: Home,
    levels: &'static [&'static str],
) -> Type {
    Type { url, object_type, key, home, levels }
}

/// The types whose objects are simulated.
pub(crate) const TYPES: &[Type] = &[
    row(
        "cluster-policies",
        "cluster-policy",
        "cluster-policies",
        Home::Store("cluster_policy"),
        &["CAN_USE"],
    ),
    row(
        "instance-pools",
        "instance-pool",
        "instance-pools",
        Home::Store("instance_pool"),
        &["CAN_ATTACH_TO", "CAN_MANAGE"],
    ),
    row(
        "clusters",
        "cluster",
        "clusters",
        Home::Store("cluster"),
        &["CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE"],
    ),
    row(
        "pipelines",
        "pipelines",
        "pipelines",
        Home::Store("pipeline"),
        &["CAN_VIEW", "CAN_RUN", "CAN_MANAGE", "IS_OWNER"],
    ),
    row("jobs", "job", "jobs", Home::Store("job"), &["CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"]),
    row("notebooks", "notebook", "notebooks", Home::Tree(NodeKind::Notebook), FILE_LEVELS),
    row("directories", "directory", "directories", Home::Tree(NodeKind::Directory), FILE_LEVELS),
    row("files", "file", "files", Home::Tree(NodeKind::File), FILE_LEVELS),
    row("repos", "repo", "repos", Home::Tree(NodeKind::Repo), FILE_LEVELS),
    row(
        "experiments",
        "mlflowExperiment",
        "experiments",
        Home::Tree(NodeKind::Experiment),
        &["CAN_READ", "CAN_EDIT", "CAN_MANAGE"],
    ),
    row("sql/warehouses", "warehouses", "sql/warehouses", Home::Store("warehouse"), WAREHOUSE_LEVELS),
    row("warehouses", "warehouses", "sql/warehouses", Home::Store("warehouse"), WAREHOUSE_LEVELS),
    row("sql/queries", "query", "sql/queries", Home::Store("query"), FILE_LEVELS),
    row("queries", "query", "sql/queries", Home::Store("query"), FILE_LEVELS),
    row("sql/alerts", "alert", "sql/alerts", Home::Store("alert"), FILE_LEVELS),
    row("alerts", "alert", "sql/alerts", Home::Store("alert"), FILE_LEVELS),
    row("alertsv2", "alertv2", "alertsv2", Home::Store("alert_v2"), FILE_LEVELS),
    row("dashboards", "dashboard", "dashboards", Home::Store("dashboard"), FILE_LEVELS),
    row(
        "authorization/tokens",
        "tokens",
        "authorization/tokens",
        Home::Single("tokens"),
        &["CAN_USE", "CAN_MANAGE"],
    ),
    row(
        "authorization/passwords",
        "passwords",
        "authorization/passwords",
        Home::Single("passwords"),
        &["CAN_USE"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_unique_and_levels_are_there() {
        for (i, t) in TYPES.iter().enumerate() {
            assert!(!t.levels.is_empty(), "{}", t.url);
            assert!(TYPES[i + 1..].iter().all(|u| u.url != t.url), "{}", t.url);
        }
    }
}
