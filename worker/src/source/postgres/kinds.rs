//! The kinds of a PostgreSQL server, a row for each.

use std::collections::BTreeMap;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Kind;
use lakehold_proto::plan::Selection;
use lakehold_proto::task::{Shard, TaskSpec};

/// What is known of a kind.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// What one item of it is.
    pub(super) about: &'static str,
    /// The kind whose root task finds it.
    pub(super) found_by: &'static str,
    /// Whether databases name items of it, which an empty server lacks.
    pub(super) is_named: bool,
    /// Why a server of our own cannot have it, where it cannot.
    pub(super) untried: Option<&'static str>,
}

/// What belongs to no database, as one script.
pub(super) const GLOBALS: &str = "globals";
/// A role.
pub(super) const ROLE: &str = "role";
/// A tablespace.
pub(super) const TABLESPACE: &str = "tablespace";
/// A database.
pub(super) const DATABASE: &str = "database";
/// The rows of a table.
pub(super) const TABLE: &str = "table";
/// What lies in a database and in no table.
pub(super) const LOOSE_DATA: &str = "loose_data";

/// All of them.
pub(super) const KINDS: &[Row] = &[
    Row {
        name: GLOBALS,
        about: "roles and tablespaces as `pg_dumpall -g` writes them, without passwords",
        found_by: GLOBALS,
        is_named: false,
        untried: None,
    },
    Row {
        name: ROLE,
        about: "a role: its properties, memberships and settings, without its password",
        found_by: GLOBALS,
        is_named: true,
        untried: None,
    },
    Row {
        name: TABLESPACE,
        about: "a tablespace: its place, owner and options",
        found_by: GLOBALS,
        is_named: false,
        untried: Some("a private server has no folders for tablespaces: everything lies in the one it has"),
    },
    Row {
        name: DATABASE,
        about: "a database: its properties, and its schema as `pg_dump -s` writes it",
        found_by: DATABASE,
        is_named: false,
        untried: None,
    },
    Row {
        name: TABLE,
        about: "the rows of a table, of a partition by itself, as `pg_dump -a` writes them",
        found_by: DATABASE,
        is_named: false,
        untried: None,
    },
    Row {
        name: LOOSE_DATA,
        about: "the large objects of a database, and the sequences that belong to no table of rows",
        found_by: DATABASE,
        is_named: false,
        untried: None,
    },
];

impl Row {
    pub(super) fn kind(&self) -> Kind {
        Kind::of(self.name)
    }
}

fn row(kind: &Kind) -> Option<&'static Row> {
    KINDS.iter().find(|row| row.name == kind.as_str())
}

/// What keeps a kind from being tried on a server of our own, if anything does.
pub fn untried(kind: &Kind) -> Option<&'static str> {
    row(kind)?.untried
}

/// Whether databases name items of a kind that an empty server lacks.
pub fn is_named_by_databases(kind: &Kind) -> bool {
    row(kind).is_some_and(|row| row.is_named)
}

/// Kinds left out by what was asked for, with the rule that says so.
///
/// # Errors
/// `Config` when there is no such kind.
pub(super) fn excluded(selection: &Selection) -> Result<BTreeMap<Kind, String>> {
    for kind in selection.kinds.iter().chain(&selection.exclude_kinds) {
        if row(kind).is_none() {
            let known: Vec<_> = KINDS.iter().map(|row| format!("{} ({})", row.name, row.about)).collect();
            let detail = format!("there is no kind {kind}");
            return Err(Fault::new(Class::Config, "selection.kind", "read the kinds asked for", detail)
                .hint(format!("the kinds are: {}", known.join("; "))));
        }
    }
    let rule = |kind: &Kind| {
        if selection.exclude_kinds.contains(kind) {
            Some(format!("--exclude-kind {kind}"))
        } else if !selection.kinds.is_empty() && !selection.kinds.contains(kind) {
            Some("not among the kinds asked for with --kind".to_owned())
        } else {
            None
        }
    };
    Ok(KINDS.iter().filter_map(|row| rule(&row.kind()).map(|rule| (row.kind(), rule))).collect())
}

/// Those of these kinds that are wanted.
pub(super) fn wanted(excluded: &BTreeMap<Kind, String>, found_by: &str) -> Vec<Kind> {
    let found = KINDS.iter().filter(|row| row.found_by == found_by).map(Row::kind);
    found.filter(|kind| !excluded.contains_key(kind)).collect()
}

/// The tasks to begin with.
pub(super) fn roots(excluded: &BTreeMap<Kind, String>) -> Vec<TaskSpec> {
    let root = |row: &Row| {
        let yields = wanted(excluded, row.name);
        let (kind, shard) = (row.kind(), Shard::whole());
        (!yields.is_empty()).then(|| TaskSpec {
            kind,
            shard,
            stage: 0,
            yields: yields.into(),
            long: false,
            input: Vec::new(),
        })
    };
    KINDS.iter().filter(|row| row.found_by == row.name).filter_map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_yielded_by_one_root() {
        let roots = roots(&BTreeMap::new());
        for row in KINDS {
            let finders = roots.iter().filter(|root| root.yields.contains(&row.kind())).count();
            assert_eq!((finders, row.about.is_empty()), (1, false), "{}", row.name);
        }
    }

    #[test]
    fn what_is_not_asked_for_is_not_begun() {
        let selection = Selection { kinds: vec![Kind::of("table")], ..Selection::default() };
        let left = excluded(&selection).unwrap();
        let roots = roots(&left);
        assert_eq!((roots.len(), left.len()), (1, KINDS.len() - 1));
        assert_eq!((roots[0].kind.as_str(), &*roots[0].yields), ("database", &[Kind::of("table")][..]));
        let unknown = Selection { exclude_kinds: vec![Kind::of("tables")], ..Selection::default() };
        assert_eq!(excluded(&unknown).unwrap_err().code, "selection.kind");
    }
}
