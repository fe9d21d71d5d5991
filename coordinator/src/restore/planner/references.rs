//! What the references of an item become in the target, and what the item hangs on.

use std::collections::HashMap;

use lakehold_proto::fault::Result;
use lakehold_proto::ids::Kind;
use lakehold_proto::restore::{Meant, Pointer};
use lakehold_worker::source::blueprint::{By, Point, Renamed};
use lakehold_worker::source::databricks::FACT_WORKSPACE_ID;

use super::super::decisions::Action;
use super::super::fact;
use super::super::side::Side;
use super::{Look, Planner};

impl Planner<'_> {
    /// What each reference becomes, and what it hangs on.
    pub(super) fn meanings(&self, points: &[Point], look: &mut Look) -> Result<HashMap<Point, Renamed>> {
        let mut meanings = HashMap::new();
        for point in points {
            if meanings.contains_key(point) {
                continue;
            }
            let (renamed, pointer) = self.meaning(point, look)?;
            look.pointers.extend(pointer);
            meanings.insert(point.clone(), renamed);
        }
        look.pointers.sort_unstable();
        look.pointers.dedup();
        Ok(meanings)
    }

    fn meaning(&self, point: &Point, look: &mut Look) -> Result<(Renamed, Option<Pointer>)> {
        let crossing = &self.ask.crossing;
        let first = point.to.first().map(|(kind, _)| kind.clone());
        let pointer =
            |kind: &Kind, meant: Meant| Some(Pointer { kind: kind.clone(), text: point.text.clone(), meant });
        let text = |kind: &Kind, text: String| {
            let same = text == point.text;
            let renamed = if same { Renamed::Same } else { Renamed::Text(text.clone()) };
            (renamed, if same { None } else { pointer(kind, Meant::Text(text)) })
        };
        let Some((needed, kind, by)) = meant(self.from, point) else {
            return Ok(self.meaning_elsewhere(point, first, look));
        };
        let comes = self.selected[needed];
        let is_anew = comes && self.is_whole(needed);
        if let Some(target) = self.pairs.of(needed).filter(|_| !is_anew) {
            let target = self.to.item(target)?;
            return Ok(match by {
                By::Key => text(&kind, target.key().to_owned()),
                By::Alias => text(&kind, target.alias().unwrap_or_default().to_owned()),
                By::Place => (Renamed::Same, None),
                By::Identity if point.principal => text(&kind, target.name().to_owned()),
                By::Identity => text(&kind, self.blueprint.identity_across(&kind, &point.text, crossing)),
            });
        }
        if comes && needed != look.item {
            look.needs.push(needed as u32);
            if point.firm && !point.principal {
                look.firm.push(needed as u32);
            }
        }
        if by == By::Place && comes {
            return Ok((Renamed::Same, None));
        }
        Ok(match by {
            By::Identity if comes || !point.principal && !point.firm => {
                text(&kind, self.blueprint.identity_across(&kind, &point.text, crossing))
            }
            By::Key | By::Alias if comes => {
                let key = self.from.item(needed)?.entry.key;
                let meant = Meant::Made { key: key.clone(), alias: by == By::Alias };
                // Nothing of the target has this key: whatever is compared with it differs.
                (Renamed::Text(format!("\u{0}{key}")), pointer(&kind, meant))
            }
            _ => self.missing(point, &kind, self.from.item(needed)?.name(), look),
        })
    }

    /// A reference to nothing that the snapshot has.
    fn meaning_elsewhere(
        &self,
        point: &Point,
        kind: Option<Kind>,
        look: &mut Look,
    ) -> (Renamed, Option<Pointer>) {
        let crossing = &self.ask.crossing;
        let Some(kind) = kind else { return (Renamed::Same, None) };
        if crossing.same {
            return (Renamed::Same, None);
        }
        let is_workspace = point.to.iter().all(|(kind, _)| self.blueprint.layer(kind).is_none());
        if is_workspace {
            return self.workspace(point, &kind);
        }
        if point.principal {
            let mapped = crossing.mapping.principal(&point.text);
            let there = point.to.iter().find_map(|(kind, by)| self.to.meant(kind, *by, &mapped));
            return match there {
                Some(_) if mapped == point.text => (Renamed::Same, None),
                Some(_) => {
                    let meant = Meant::Text(mapped.clone());
                    (Renamed::Text(mapped), Some(Pointer { kind, text: point.text.clone(), meant }))
                }
                None => self.missing(point, &kind, &point.text, look),
            };
        }
        // A place that no item of the snapshot has may be the target's own.
        if point.firm && point.to.iter().all(|(_, by)| matches!(by, By::Key | By::Alias)) {
            return self.missing(point, &kind, &point.text, look);
        }
        (Renamed::Same, None)
    }

    /// A binding to the source's own workspace becomes one to the target's; others mean nothing there.
    fn workspace(&self, point: &Point, kind: &Kind) -> (Renamed, Option<Pointer>) {
        let of = |side: &Side| fact(&side.manifest, FACT_WORKSPACE_ID);
        let pointer = |meant| Some(Pointer { kind: kind.clone(), text: point.text.clone(), meant });
        match (of(self.from), of(self.to)) {
            (Some(from), Some(to)) if from == point.text => {
                (Renamed::Text(to.clone()), pointer(Meant::Text(to)))
            }
            _ => (Renamed::Missing, pointer(Meant::Nothing)),
        }
    }

    fn missing(&self, point: &Point, kind: &Kind, name: &str, look: &mut Look) -> (Renamed, Option<Pointer>) {
        let said = if point.principal {
            format!(
                "the target has no {name:?}: what it may do with this item, and its ownership, is left out"
            )
        } else {
            format!("it refers to the {kind} {name:?}, which neither comes along nor is in the target")
        };
        if point.firm && !point.principal {
            (look.planned.action, look.planned.why) = (Action::Blocked, Some(said));
        } else if !look.planned.degraded.contains(&said) {
            look.planned.degraded.push(said);
        }
        let pointer = Pointer { kind: kind.clone(), text: point.text.clone(), meant: Meant::Nothing };
        (Renamed::Missing, Some(pointer))
    }
}

/// The item that a reference means, and as which of the kinds that it may point to.
pub(super) fn meant(side: &Side, point: &Point) -> Option<(usize, Kind, By)> {
    point.to.iter().find_map(|(kind, by)| Some((side.meant(kind, *by, &point.text)?, kind.clone(), *by)))
}
