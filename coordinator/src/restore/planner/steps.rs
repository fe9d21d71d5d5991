//! From decisions to steps: what is done with each item, and when.

use std::collections::{HashMap, HashSet};

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Part, Role};
use lakehold_proto::outcome::Standing;
use lakehold_proto::restore::{Act, Meant, Pointer, Step, StepPart};

use super::super::side::{Held, Shown};
use super::super::stages::{Order, order};
use super::{Action, Decisions, Look, Planned, Planner};
use crate::spill::{Sorted, Spill};

impl Planner<'_> {
    pub(super) async fn conclude(mut self) -> Result<Decisions> {
        let items = self.from.items.iter().map(|item| (&item.kind, &**item.key(), &**item.name()));
        let mut decisions = Decisions { unmet: self.select.unmet(items), ..Decisions::default() };
        let mut drafts = std::mem::replace(&mut self.drafts, Spill::new(0)).sorted()?;
        let coming = self.looks.iter().enumerate().filter(|(_, look)| look.planned.action.comes());
        let (numbers, coming): (Vec<usize>, Vec<&Look>) = coming.unzip();
        let number: HashMap<usize, usize> =
            coming.iter().enumerate().map(|(at, look)| (look.item, at)).collect();
        let layers: Vec<_> =
            coming.iter().map(|look| self.blueprint.layer(&look.planned.kind).unwrap_or(u8::MAX)).collect();
        let is_made = |at: &usize| coming[*at].planned.action == Action::Create;
        let needs: Vec<Vec<usize>> = coming
            .iter()
            .map(|look| {
                look.needs.iter().filter_map(|item| number.get(item).copied()).filter(is_made).collect()
            })
            .collect();
        let Order { stage, later, end } = order(&layers, &needs);
        // Of each, the keys of what it can refer to only once all exist.
        let mut waits: HashMap<usize, HashSet<&str>> = HashMap::new();
        for (from, to) in &later {
            waits.entry(*from).or_default().insert(&coming[*to].planned.key);
        }
        for (at, look) in coming.iter().enumerate() {
            let step = draft(&mut drafts, numbers[at])?;
            // Kinds whose order matters are made in it.
            let mut add =
                |stage: u16, step: &Step| decisions.steps.push(stage, &look.planned.kind, look.order, step);
            if look.planned.action == Action::Create {
                match waits.get(&at) {
                    None => add(stage[at], &step)?,
                    Some(waits) => {
                        let pointers =
                            step.pointers.iter().cloned().map(|pointer| deferred(pointer, waits)).collect();
                        add(stage[at], &Step { pointers, ..step.clone() })?;
                        add(end, &Step { act: Act::Complete, ..step.clone() })?;
                    }
                }
            } else if look.body {
                // It is there already, and can be changed once all that it refers to is.
                let stage = if waits.contains_key(&at) { end } else { stage[at] };
                add(stage, &Step { act: Act::Replace, ..step.clone() })?;
            }
            if look.access {
                let parts = step.parts.into_iter().filter(|part| part.role != Role::Content).collect();
                add(end + 1, &Step { act: Act::Access, parts, ..step })?;
            }
        }
        let looks = std::mem::take(&mut self.looks);
        decisions.items = looks.into_iter().map(|look| look.planned).collect();
        if self.ask.delete_extra {
            self.take_away_extra(end + 2, &mut decisions).await?;
        }
        Ok(decisions)
    }

    /// What is done with an item that comes, before it is known when.
    pub(super) async fn step(&self, look: &mut Look) -> Result<Step> {
        let others =
            self.twins_of(look.item).iter().map(|&twin| self.to.items[twin].key().to_string()).collect();
        Ok(Step {
            act: Act::Create,
            key: look.planned.key.to_string(),
            name: look.planned.name.to_string(),
            target: look.planned.target.clone(),
            others,
            parts: parts(&self.from.items[look.item].entry(self.store).await?, |_| true)?,
            pointers: std::mem::take(&mut look.pointers),
            set: Vec::new(),
        })
    }

    /// Items of the target that the snapshot does not have, of the kinds asked for.
    async fn take_away_extra(&self, stage: u16, decisions: &mut Decisions) -> Result<()> {
        let matched: HashSet<usize> = self.matched.iter().flatten().copied().collect();
        let (from, to) = (&self.from.manifest, &self.to.manifest);
        let reports = from.by_kind();
        for (number, item) in self.to.items.iter().enumerate() {
            let wanted = self.select.takes(&item.kind, item.key(), item.name());
            let captured = reports
                .get(&item.kind)
                .is_some_and(|report| report.standing == Standing::Captured && report.counts.unlisted == 0);
            if matched.contains(&number) || !wanted || !captured {
                continue;
            }
            let documents = item.documents(self.store, self.blueprint).await?;
            let seen = documents.seen(&item.kind);
            let mine = to.probe.identity.id == **item.key();
            if mine
                || self.blueprint.is_builtin(&seen)
                || self.blueprint.shared(&seen, &from.probe, &to.probe).is_some()
            {
                continue;
            }
            let why = Some("the snapshot does not have it".to_owned());
            decisions
                .items
                .push(Planned { why, ..Planned::on_target(item, &documents.entry, Action::Delete) });
            let layer = self.blueprint.layer(&item.kind).unwrap_or_default();
            // What refers to others goes first.
            let stage = stage + u16::from(u8::MAX - layer);
            decisions.steps.push(
                stage,
                &item.kind,
                None,
                &on_target(Act::Delete, item, &documents.entry)?,
            )?;
        }
        Ok(())
    }
}

/// The step of the item with this number: they are asked for in order, and not all of them.
fn draft(drafts: &mut Sorted<(usize, String)>, wanted: usize) -> Result<Step> {
    let lost = |detail: &dyn std::fmt::Display| {
        Fault::new(Class::Bug, "restore.draft", "read a step that was written aside", detail)
    };
    for draft in drafts {
        let (number, text) = draft?;
        if number == wanted {
            return serde_json::from_str(&text).map_err(|e| lost(&e));
        }
    }
    Err(lost(&"it is not there"))
}

/// A step for an item as the target has it.
///
/// # Errors
/// `Integrity` when a frame names no pack.
pub(in crate::restore) fn on_target(act: Act, item: &Held, entry: &Shown) -> Result<Step> {
    Ok(Step {
        act,
        key: item.key().to_string(),
        name: item.name().to_string(),
        target: Some(item.key().to_string()),
        others: Vec::new(),
        // To take it away, the API wants no more than what names it.
        parts: parts(entry, |part| act != Act::Delete || part.role == Role::Object)?,
        pointers: Vec::new(),
        set: Vec::new(),
    })
}

/// A reference to what does not exist yet is left out until it does.
fn deferred(pointer: Pointer, waits: &HashSet<&str>) -> Pointer {
    match pointer.meant {
        Meant::Made { key, .. } if waits.contains(key.as_str()) => {
            Pointer { meant: Meant::Later { key }, ..pointer }
        }
        meant => Pointer { meant, ..pointer },
    }
}

/// Where the bytes of an item lie.
fn parts(entry: &Shown, wanted: impl Fn(&Part) -> bool) -> Result<Vec<StepPart>> {
    let part = |part: &Part| {
        let frames = part.frames.iter().map(|frame| entry.index().locate(frame)).collect::<Result<_>>()?;
        Ok(StepPart {
            role: part.role,
            format: part.format.clone(),
            size: part.size,
            sha256: part.sha256,
            frames,
        })
    };
    entry.parts.iter().filter(|part| wanted(part)).map(part).collect()
}
