//! From decisions to steps: what is done with each item, and when.

use std::collections::{HashMap, HashSet};

use lakehold_proto::fault::Result;
use lakehold_proto::format::{Entry, Index, Part, Role};
use lakehold_proto::outcome::Standing;
use lakehold_proto::restore::{Act, Meant, Pointer, Step, StepPart};

use super::super::decisions::{Action, Decisions, Planned};
use super::super::side::Held;
use super::super::stages::{Order, order};
use super::{Found, Look, Planner};

impl Planner<'_> {
    /// Puts what comes in order, and writes everything down.
    pub(super) async fn conclude(self, found: Found, unmet: Vec<String>) -> Result<Decisions> {
        let mut decisions = Decisions { unmet, ..Decisions::new()? };
        let Found { actions, needs, hanging, looks, .. } = found;
        let layer = |(item, action): (usize, &Option<Action>)| {
            let comes = action.is_some_and(Action::comes);
            comes.then(|| self.blueprint.layer(self.from.kind(item)).unwrap_or(u8::MAX))
        };
        let layers: Vec<_> = actions.iter().enumerate().map(layer).collect();
        let order = order(&layers, &needs);
        // What each can refer to only once all exist.
        let mut waits: HashMap<usize, Vec<usize>> = HashMap::new();
        for (from, to) in &order.later {
            waits.entry(*from).or_default().push(*to);
        }
        let mut parts_of: HashMap<usize, (u64, u64)> = HashMap::new();
        for (part, whole) in self.wholes.iter().filter(|(part, whole)| part != whole) {
            if actions[*part].is_some_and(Action::comes) {
                let (count, bytes) = parts_of.entry(*whole).or_default();
                *count += 1;
                *bytes += self.from.item(*part)?.entry.parts.iter().map(|part| part.size).sum::<u64>();
            }
        }
        for look in looks.all() {
            let mut look = look?;
            if let Some(&absent) = hanging.get(&(look.item as u32)) {
                let absent = self.from.item(absent as usize)?;
                let why =
                    format!("it needs the {} {:?}, which does not come back", absent.kind, absent.name());
                (look.planned.action, look.planned.why) = (Action::Blocked, Some(why));
            }
            decisions.items.push(&look.planned)?;
            if look.planned.action.comes() {
                let waits = waits.get(&look.item).map_or(&[][..], Vec::as_slice);
                let of_it = parts_of.get(&look.item).copied().unwrap_or_default();
                self.add_steps(look, &order, waits, of_it, &mut decisions)?;
            }
        }
        if self.ask.delete_extra {
            self.take_away_extra(order.end + 2, &mut decisions).await?;
        }
        Ok(decisions)
    }

    /// The steps of one item; `waits` are those that it can refer to only once all exist, `of_it` tells how many are made in it, and their
    /// bytes.
    fn add_steps(
        &self,
        look: Look,
        order: &Order,
        waits: &[usize],
        (parts_of_it, bytes_of_it): (u64, u64),
        decisions: &mut Decisions,
    ) -> Result<()> {
        let Look { item: number, planned, whole, pointers, body, access, order: rank, .. } = look;
        let item = self.from.item(number)?;
        let others = self.twins_of(&item, number).into_iter();
        let step = Step {
            act: Act::Create,
            key: planned.key,
            name: planned.name,
            target: planned.target,
            others: others.map(|twin| Ok(self.to.item(twin)?.entry.key)).collect::<Result<_>>()?,
            parts: parts(&item.entry, &item.index, |_| true)?,
            whole,
            pointers,
            set: Vec::new(),
            parts_of_it: 0,
            bytes_of_it: 0,
        };
        // Kinds whose order matters are made in it.
        let mut add = |stage: u16, step: &Step| decisions.steps.push(stage, &item.kind, rank, step);
        if self.is_whole(number) {
            // Its parts are made in it, and then it is completed.
            add(order.stage[number], &step)?;
            add(order.end, &Step { act: Act::Complete, parts_of_it, bytes_of_it, ..step.clone() })?;
        } else if self.alone(number).is_some() || planned.action == Action::Create && waits.is_empty() {
            add(order.stage[number], &step)?;
        } else if planned.action == Action::Create {
            let keys = waits.iter().map(|waits| Ok(self.from.item(*waits)?.entry.key));
            let keys: HashSet<String> = keys.collect::<Result<_>>()?;
            let pointers = step.pointers.iter().cloned().map(|pointer| deferred(pointer, &keys)).collect();
            add(order.stage[number], &Step { pointers, ..step.clone() })?;
            add(order.end, &Step { act: Act::Complete, ..step.clone() })?;
        } else if body {
            // It is there already, and can be changed once all that it refers to is.
            let stage = if waits.is_empty() { order.stage[number] } else { order.end };
            add(stage, &Step { act: Act::Replace, ..step.clone() })?;
        }
        if access {
            let parts = step.parts.into_iter().filter(|part| part.role != Role::Content).collect();
            add(order.end + 1, &Step { act: Act::Access, parts, ..step })?;
        }
        Ok(())
    }

    /// Items of the target that the snapshot does not have, of the kinds asked for.
    async fn take_away_extra(&self, stage: u16, decisions: &mut Decisions) -> Result<()> {
        let mut matched = vec![false; self.to.len()];
        self.pairs.targets().for_each(|target| matched[target] = true);
        let (from, to) = (&self.from.manifest, &self.to.manifest);
        let reports = from.by_kind();
        for number in (0..self.to.len()).filter(|number| !matched[*number]) {
            let item = self.to.item(number)?;
            let wanted = self.select.takes(&item.kind, item.key(), item.name());
            let captured = reports
                .get(&item.kind)
                .is_some_and(|report| report.standing == Standing::Captured && report.counts.unlisted == 0);
            if !wanted || !captured {
                continue;
            }
            let documents = item.documents(self.store, self.blueprint).await?;
            let seen = item.seen(&documents);
            let mine = to.probe.identity.id == item.key();
            // What is part of a whole goes with it.
            let whole = self.blueprint.whole(&item.kind, item.key());
            let is_part = whole.is_some_and(|(kind, key)| kind != item.kind || key != item.key());
            if mine
                || is_part
                || self.blueprint.is_builtin(&seen)
                || self.blueprint.shared(&seen, &from.probe, &to.probe).is_some()
            {
                continue;
            }
            let why = Some("the snapshot does not have it".to_owned());
            decisions.items.push(&Planned { why, ..Planned::on_target(&item, Action::Delete) })?;
            let layer = self.blueprint.layer(&item.kind).unwrap_or_default();
            // What refers to others goes first.
            let stage = stage + u16::from(u8::MAX - layer);
            decisions.steps.push(stage, &item.kind, None, &on_target(Act::Delete, &item)?)?;
        }
        Ok(())
    }
}

/// A step for an item as the target has it.
///
/// # Errors
/// `Integrity` when a frame names no pack.
pub(in crate::restore) fn on_target(act: Act, item: &Held) -> Result<Step> {
    Ok(Step {
        act,
        key: item.key().to_string(),
        name: item.name().to_string(),
        target: Some(item.key().to_string()),
        others: Vec::new(),
        // To take it away, the API wants no more than what names it.
        parts: parts(&item.entry, &item.index, |part| act != Act::Delete || part.role == Role::Object)?,
        whole: Vec::new(),
        pointers: Vec::new(),
        set: Vec::new(),
        parts_of_it: 0,
        bytes_of_it: 0,
    })
}

/// A reference to what does not exist yet is left out until it does.
fn deferred(pointer: Pointer, waits: &HashSet<String>) -> Pointer {
    match pointer.meant {
        Meant::Made { key, .. } if waits.contains(&key) => Pointer { meant: Meant::Later { key }, ..pointer },
        meant => Pointer { meant, ..pointer },
    }
}

/// Where the bytes of an item lie.
///
/// # Errors
/// `Integrity` when a frame names no pack.
pub(in crate::restore) fn parts(
    entry: &Entry,
    index: &Index,
    wanted: impl Fn(&Part) -> bool,
) -> Result<Vec<StepPart>> {
    let part = |part: &Part| {
        let frames = part.frames.iter().map(|frame| index.locate(frame)).collect::<Result<_>>()?;
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
