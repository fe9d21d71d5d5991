//! What the tasks found, read from the records that they left.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lakehold_proto::fault::{Class, Fault, FaultRecord, Result};
use lakehold_proto::format::{Entry, Frame, Index, Part};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::{Key, Store, missing};
use lakehold_proto::verify::{BODY, FRAME, PACK, read_frame_key};

use super::Damage;
use crate::snapshot::items::each_index;

/// What is hurt, by hash: what blame looks for.
#[derive(Debug, Default)]
pub(super) struct Hurt {
    /// Packs that are absent.
    lost: HashSet<Hash>,
    /// Frames: their pack and offset.
    frames: HashSet<(Hash, u64)>,
    /// Bodies of several frames that are together not what they should be.
    bodies: HashSet<Hash>,
}

impl Hurt {
    /// Whether some frame of a part is hurt, or the part as a whole.
    pub(super) fn hurts(&self, index: &Index, part: &Part) -> bool {
        let frame_hurt = |frame: &Frame| {
            let pack = index.header.packs.get(frame.pack as usize);
            pack.is_some_and(|pack| {
                self.lost.contains(&pack.sha256) || self.frames.contains(&(pack.sha256, frame.offset))
            })
        };
        self.bodies.contains(&part.sha256) || part.frames.iter().any(frame_hurt)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.frames.is_empty() && self.bodies.is_empty()
    }
}

/// What was found in the packs.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) packs: u64,
    pub(super) bytes: u64,
    pub(super) frames: u64,
    /// What nobody could read, and why: of that nothing is known.
    pub(super) unread: BTreeSet<String>,
    pub(super) hurt: Hurt,
    /// By object, and where in it.
    damage: BTreeMap<(Key, u64), Damage>,
}

impl Findings {
    /// Packs that are not there.
    pub(super) fn lost(&mut self, pack: Hash) {
        let key = Key::pack(pack);
        let damage = Damage::of(&key, &missing(&key));
        self.hurt.lost.insert(pack);
        self.damage.insert((key, 0), damage);
    }

    /// A part whose frames lie nowhere.
    pub(super) fn misled(&mut self, part: Hash, index: Hash, fault: &Fault) {
        let index = Key::index(index);
        self.hurt.bodies.insert(part);
        let damage = Damage::of(&index, fault);
        self.damage.insert((index, self.hurt.bodies.len() as u64), damage);
    }

    /// Takes in the record of one environment.
    ///
    /// # Errors
    /// The store's; `Integrity` when the record is damaged.
    pub(super) async fn read(&mut self, store: &dyn Store, record: &Manifest) -> Result<()> {
        let figures = &record.run.figures;
        self.bytes += figures.bytes_read;
        self.frames += figures.frames;
        for report in &record.kinds {
            self.packs += if report.kind == PACK { report.counts.items } else { 0 };
            if let Some(fault) = report.fault.as_ref().filter(|_| report.counts.unlisted > 0) {
                self.unread.insert(format!("{}: {}", record.environment, fault.message));
            }
        }
        if record.gaps() == 0 {
            return Ok(());
        }
        each_index(store, record, &|_| true, |named, index| {
            for entry in index.entries.iter().filter(|entry| !entry.gaps.is_empty()) {
                let faults = entry.gaps.iter().map(|gap| &gap.fault);
                for fault in faults {
                    let told = match &named.kind {
                        kind if *kind == PACK => self.pack(entry, fault),
                        kind if *kind == FRAME => self.frame(entry, fault),
                        kind if *kind == BODY => self.body(entry, fault),
                        _ => None,
                    };
                    told.ok_or_else(|| foreign(&named.kind, entry))?;
                }
            }
            Ok(true)
        })
        .await
    }

    fn pack(&mut self, entry: &Entry, fault: &FaultRecord) -> Option<()> {
        let pack: Hash = entry.key.parse().ok()?;
        if fault.code == "store.missing-object" {
            self.packs -= 1;
            self.lost(pack);
        } else {
            let key = Key::pack(pack);
            self.damage.insert((key.clone(), 0), Damage::recorded(&key, fault));
        }
        Some(())
    }

    fn frame(&mut self, entry: &Entry, fault: &FaultRecord) -> Option<()> {
        let (pack, offset) = read_frame_key(&entry.key)?;
        let key = Key::pack(pack);
        self.hurt.frames.insert((pack, offset));
        self.damage.entry((key.clone(), offset)).or_insert_with(|| Damage::recorded(&key, fault));
        Some(())
    }

    fn body(&mut self, entry: &Entry, fault: &FaultRecord) -> Option<()> {
        let (body, index) = (entry.key.parse().ok()?, Key::parse(entry.parent.as_deref()?).ok()?);
        self.hurt.bodies.insert(body);
        let number = self.hurt.bodies.len() as u64;
        self.damage.insert((index.clone(), number), Damage::recorded(&index, fault));
        Some(())
    }

    /// What is hurt, by object. The frames of a pack that is not there are not named one by one.
    pub(super) fn take_damage(&mut self) -> Vec<Damage> {
        let lost: HashSet<_> = self.hurt.lost.iter().map(|pack| Key::pack(*pack)).collect();
        let damage = std::mem::take(&mut self.damage).into_iter();
        damage
            .filter(|((key, offset), _)| *offset == 0 || !lost.contains(key))
            .map(|(_, damage)| damage)
            .collect()
    }
}

fn foreign(kind: &Kind, entry: &Entry) -> Fault {
    let detail = format!("{kind} {:?} is nothing that a worker of this version finds", entry.key);
    Fault::new(Class::Unsupported, "verify.foreign", "read the record of a verify", detail)
        .hint("let all workers run the version of this program")
}
