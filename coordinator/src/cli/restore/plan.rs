//! The plan of a restore, as it is told, saved, and compared with one that was saved.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::restore::Mapping;

use super::TOLD;
use crate::cli::diff::field_line;
use crate::output::{age, count, escaped, name_line, print_lines, say, shown};
use crate::restore::decisions::{Action, Planned};
use crate::restore::document::{Document, Summary};

/// Fields that are told of one item.
const FIELDS: usize = 6;

/// Writes a plan into a file.
pub(super) fn save(path: &Path, plan: &Document) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        Fault::new(Class::Unavailable, "restore.save", format!("write {}", path.display()), e)
    };
    let mut out = BufWriter::new(File::create(path).map_err(|e| failed(&e))?);
    serde_json::to_writer_pretty(&mut out, plan).map_err(|e| failed(&e))?;
    out.flush().map_err(|e| failed(&e))?;
    say(&format!("saved {}: `lakehold restore apply {}` carries it out", path.display(), path.display()));
    Ok(())
}

/// The fault of a target that is not as it was when the plan was saved.
pub(super) fn moved(saved: &Document, now: &Document) -> Result<Fault> {
    let some: Vec<_> = moved_items(saved, now)?
        .into_iter()
        .map(|item| format!("{}/{}", item.kind, shown(&item.name)))
        .collect();
    let detail = format!(
        "{} has moved since: {}",
        saved.target,
        if some.is_empty() { "items are gone".into() } else { some.join(", ") }
    );
    Ok(Fault::new(Class::Conflict, "restore.moved", "carry out a saved plan", detail)
        .hint("plan again, read it, and apply that; nothing was changed"))
}

/// Some items of a plan that an earlier one does not have, or has otherwise. Both are in the same order.
fn moved_items(before: &Document, now: &Document) -> Result<Vec<Planned>> {
    let mut before = before.items.iter();
    let (mut was, mut found) = (before.next().transpose()?, Vec::new());
    for item in now.items.iter() {
        let item = item?;
        while was.as_ref().is_some_and(|was| was.place() < item.place()) {
            was = before.next().transpose()?;
        }
        if was.as_ref() != Some(&item) {
            found.push(item);
        }
        if found.len() == 5 {
            break;
        }
    }
    Ok(found)
}

/// The addresses of what a plan does something about.
pub(super) fn print_names(plan: &Document) -> Result<()> {
    let line = |item: Planned| name_line(&format!("{}:{}/{}", plan.target, item.kind, item.name));
    let comes = |item: &Planned| !matches!(item.action, Action::Unchanged | Action::Shared);
    print_lines(plan.items.iter().filter(|item| item.as_ref().map_or(true, comes)).map(|item| item.map(line)))
}

/// The plan for people. `short` leaves out fields.
pub(super) fn render(plan: &Document, short: bool) -> Result<String> {
    let from = &plan.from;
    let mut text = format!(
        "{}@{} ({}) -> {}{}\n",
        from.environment,
        from.snapshot.short(),
        from.time,
        plan.target,
        if plan.ask.crossing.passive { ", passive: nothing starts by itself" } else { "" }
    );
    let mut told: BTreeMap<Action, Vec<Planned>> = BTreeMap::new();
    let (mut by_hand, mut more_by_hand) = (Vec::new(), 0_usize);
    for item in plan.items.iter() {
        let item = item?;
        if item.action != Action::Blocked && !item.by_hand.is_empty() {
            if by_hand.len() < TOLD { by_hand.push(item.clone()) } else { more_by_hand += 1 }
        }
        let of_it = told.entry(item.action).or_default();
        if of_it.len() < TOLD {
            of_it.push(item);
        }
    }
    let Summary { create, replace, adopt, delete, blocked, left, .. } = plan.summary;
    let sorts = [
        (Action::Create, "+", create),
        (Action::Replace, "~", replace),
        (Action::Adopt, "~", adopt),
        (Action::Delete, "-", delete),
        (Action::Blocked, "!", blocked),
        (Action::Left, "?", left),
    ];
    for (action, sign, all) in sorts {
        let items = told.remove(&action).unwrap_or_default();
        for item in &items {
            text += &format!(
                "  {sign} {}/{}{}\n",
                item.kind,
                shown(&item.name),
                remark(&plan.ask.crossing.mapping, item)
            );
            for change in item.changes.iter().take(if short { 0 } else { FIELDS }) {
                text += &format!("      {}\n", field_line(change));
            }
        }
        let more = all - items.len() as u64;
        if more > 0 {
            text += &format!("  {sign} … and {more} more to {} (all: -o json)\n", action.word());
        }
    }
    if !by_hand.is_empty() {
        text += "\nA person must see to:\n";
        for item in &by_hand {
            for what in &item.by_hand {
                text += &format!("  {}/{}: {}\n", item.kind, shown(&item.name), escaped(what));
            }
        }
        if more_by_hand > 0 {
            text += &format!("  … and {more_by_hand} more items (all: -o json)\n");
        }
    }
    let calls: u64 = plan.estimate.calls.values().sum();
    if calls > 0 {
        let time = age(jiff::SignedDuration::from_secs(plan.estimate.seconds.ceil() as i64));
        text +=
            &format!("\nAbout {} calls, at least {time} at the rates that the API allows.\n", count(calls));
    }
    Ok(text + &format!("{}\n", summary_line(&plan.summary)))
}

fn remark(mapping: &Mapping, item: &Planned) -> String {
    let mut remarks = Vec::new();
    if let Some(name) = mapping.name(&item.kind, &item.name) {
        remarks.push(format!("as {}", shown(name)));
    }
    if item.action == Action::Adopt {
        remarks.push("the target has one of this name".to_owned());
    }
    remarks.extend(item.why.iter().map(|why| escaped(why).into_owned()));
    remarks.extend(item.degraded.iter().map(|why| format!("degraded: {}", escaped(why))));
    if item.starts && item.action == Action::Create {
        remarks.push("starts when it is made, and is stopped at once".into());
    }
    if remarks.is_empty() { String::new() } else { format!("  {}", remarks.join("; ")) }
}

/// As Terraform tells it.
pub(super) fn summary_line(summary: &Summary) -> String {
    let Summary { create, replace, adopt, unchanged, shared, left, blocked, delete, degraded, .. } = *summary;
    let mut told = vec![
        format!("{} to create", count(create)),
        format!("{} to replace", count(replace)),
        format!("{} to adopt", count(adopt)),
        format!("{} to delete", count(delete)),
        format!("{} unchanged", count(unchanged)),
    ];
    let more = [(shared, "shared"), (left, "left to others"), (degraded, "degraded"), (blocked, "blocked")];
    told.extend(more.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{} {word}", count(n))));
    format!("Plan: {}.", told.join(", "))
}
