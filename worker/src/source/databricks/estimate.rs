//! What a backup will probably take: from the counts of the base snapshot, the calls that each row says its items cost, and
//! the rates of the families. Pure.

use std::collections::BTreeMap;

use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::plan::{Estimate, Probe, Selection};

use super::families::{FAMILIES, GRANTS, PERMISSIONS, SECRETS, Verb, WORKSPACE_EXPORT, WORKSPACE_LIST};
use super::kinds::{self, Access, Content, List, Row, Stamp};
use super::paging::Paging;
use super::probe::{FACT_METASTORE_ID, FACT_METASTORE_UNKNOWN};

/// Items on a page whose size the server chooses.
const PAGE: u64 = 100;

/// Estimates a backup. An environment without a base snapshot was never counted: nothing is known.
pub(super) fn estimate(
    excluded: &BTreeMap<Kind, String>,
    selection: &Selection,
    probe: &Probe,
    base: Option<&Manifest>,
    share: f64,
) -> Estimate {
    let Some(base) = base else { return Estimate::default() };
    let counted: BTreeMap<&str, u64> =
        base.kinds.iter().map(|report| (report.kind.as_str(), report.counts.items)).collect();
    let metastore =
        [FACT_METASTORE_ID, FACT_METASTORE_UNKNOWN].iter().any(|fact| probe.facts.contains_key(*fact));
    let mut items = 0;
    let mut calls = BTreeMap::new();
    for row in kinds::rows() {
        if excluded.contains_key(&row.kind()) || (kinds::is_metastores(row) && !metastore) {
            continue;
        }
        let count = counted.get(row.name).copied().unwrap_or_default();
        items += count;
        for (family, made) in calls_of(row, count, &counted, selection.full) {
            *calls.entry(family.to_owned()).or_default() += made;
        }
    }
    calls.retain(|_, made| *made > 0);
    let seconds = calls.iter().filter_map(|(family, made)| seconds(family, *made, share)).fold(0.0, f64::max);
    Estimate { items: Some(items), calls, seconds: Some(seconds) }
}

/// Families have budgets of their own and go on side by side: the slowest bounds the run.
fn seconds(family: &str, calls: u64, share: f64) -> Option<f64> {
    let family = FAMILIES.iter().find(|known| known.name == family)?;
    Some(calls as f64 / (family.rate(Verb::Read).per_second * share))
}

fn calls_of(row: &Row, count: u64, counted: &BTreeMap<&str, u64>, full: bool) -> Vec<(&'static str, u64)> {
    let mut calls = Vec::new();
    match row.list {
        // Each directory is listed once; the root is no item of another.
        List::Tree if row.name == kinds::TREE => calls.push((WORKSPACE_LIST.name, count + 1)),
        List::Calls(listed) => {
            let parents = row.walks.and_then(|parent| counted.get(parent).copied()).unwrap_or(1);
            let made = |paging| pages(paging, count).max(parents);
            calls.extend(listed.iter().map(|call| (call.family.name, made(call.paging))));
        }
        List::Tree | List::Carried => {}
    }
    // Most items do not change from one day to the next.
    let unchanged = !full && matches!(row.stamp, Stamp::Trusted(_));
    if let Some(get) = row.get.filter(|_| !unchanged) {
        calls.push((get.family.name, count));
    }
    match row.content {
        Content::Notebook | Content::File if !unchanged => calls.push((WORKSPACE_EXPORT.name, count)),
        Content::Encoded { call, .. } if !unchanged => calls.push((call.family.name, count)),
        Content::Answer { call, .. } => calls.push((call.family.name, count)),
        Content::None | Content::Notebook | Content::File | Content::Encoded { .. } => {}
    }
    match row.access {
        Access::Object { .. } => calls.push((PERMISSIONS.name, count)),
        Access::Grants { .. } => calls.push((GRANTS.name, count)),
        Access::Secrets { .. } => calls.push((SECRETS.name, count)),
        Access::None { .. } => {}
    }
    calls
}

fn pages(paging: Paging, count: u64) -> u64 {
    let by = |size: u64| count.div_ceil(size.max(1)).max(1);
    match paging {
        Paging::None => 1,
        Paging::Token { size, .. } => {
            by(size.and_then(|(_, size)| size.parse().ok()).filter(|&size| size > 0).unwrap_or(PAGE))
        }
        // Only an empty page ends them.
        Paging::Scim { count: size } | Paging::Page { size } => by(u64::from(size)) + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_what_its_items_cost() {
        let counted = BTreeMap::from([("schema", 7), ("catalog", 2)]);
        let of = |kind: &str, count, full| calls_of(kinds::row(kind).unwrap(), count, &counted, full);
        assert_eq!(of("job", 250, false), [("jobs", 3), ("jobs", 250), ("permissions", 250)]);
        assert_eq!(of("notebook", 9, false), [("permissions", 9)], "unchanged ones are not exported again");
        assert_eq!(of("notebook", 9, true), [("workspace-export", 9), ("permissions", 9)]);
        assert_eq!(
            of("volume", 3, false),
            [("unity-catalog", 7), ("grants", 3)],
            "one listing for each schema"
        );
        assert_eq!(of("user", 1200, false), [("scim", 4)]);
    }

    #[test]
    fn what_was_never_counted_is_not_guessed() {
        let estimate = estimate(&BTreeMap::new(), &Selection::default(), &Probe::default(), None, 1.0);
        assert_eq!(estimate, Estimate::default());
    }
}
