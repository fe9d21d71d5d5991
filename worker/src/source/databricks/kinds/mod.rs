//! The table of kinds: one row for each, from which planning, capturing, restoring and the documentation are derived.
//!
//! To add a kind, add a row to the family it belongs to and a fixture to `fixtures/`; the tests say what is missing.

mod catalog;
mod compute;
mod identity;
mod jobs;
pub mod path;
mod row;
mod secrets;
mod sql;
#[cfg(test)]
mod tests;
mod workspace;

use lakehold_proto::ids::Kind;

pub use row::{
    Access, Builtin, Call, Carries, Class, Content, FieldRule, Find, Get, Holds, Is, List, One, Passive,
    Reference, Restore, Row, Scope, Shape, Stamp, Treat, When, Write,
};

/// When the vendor's pages were last compared with the table.
pub const CHECKED: &str = "2026-08-22";

/// The kind whose tasks walk the workspace tree.
pub const TREE: &str = "directory";

/// The kinds that only a workspace with a metastore has, by the family of their calls.
pub fn is_metastores(row: &Row) -> bool {
    matches!(row.list, List::Calls([call, ..]) if call.family.name == "unity-catalog")
}

/// Every row, family by family.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    identity::ROWS
        .iter()
        .chain(&compute::ROWS)
        .chain(&workspace::ROWS)
        .chain(&jobs::ROWS)
        .chain(&sql::ROWS)
        .chain(&secrets::ROWS)
        .chain(&catalog::ROWS)
}

/// The row of a kind.
pub fn row(name: &str) -> Option<&'static Row> {
    rows().find(|row| row.name == name)
}

impl Row {
    /// The kind.
    pub fn kind(&self) -> Kind {
        Kind::of(self.name)
    }

    /// The kind whose tasks list this one: its own, but for kinds that come along with others.
    pub fn task(&self) -> &'static str {
        match self.list {
            List::Tree => TREE,
            _ => self.listed_with.unwrap_or(self.name),
        }
    }

    /// The rows that a task of this kind lists.
    pub fn listed_together(&self) -> impl Iterator<Item = &'static Row> {
        let task = self.task();
        rows().filter(move |row| row.task() == task && !matches!(row.list, List::Carried))
    }

    /// The kinds whose tasks walk the items of this one.
    pub fn walked_by(&self) -> impl Iterator<Item = &'static Row> {
        let name = self.name;
        rows().filter(move |row| row.walks == Some(name) && row.task() == row.name)
    }
}

/// Every kind that a task of the kind `task`, or a task that it finds, may yield.
pub fn yields(task: &str) -> Vec<&'static Row> {
    let mut found = Vec::new();
    let Some(leader) = row(task) else { return found };
    for together in leader.listed_together() {
        found.push(together);
        found.extend(together.carries.and_then(|carries| row(carries.kind)));
        for child in together.walked_by() {
            found.extend(yields(child.name));
        }
    }
    found
}
