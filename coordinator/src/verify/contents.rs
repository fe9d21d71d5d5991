//! The first round: manifests, chains, pages, indexes, roots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, IndexRef, content_of};
use lakehold_proto::ids::{EnvName, Hash, Kind, SnapshotId};
use lakehold_proto::manifest::{KindReport, Manifest};
use lakehold_proto::store::{Key, SharedStore};

use super::{Damage, Verdict, finding};
use crate::snapshot::find::environments;
use crate::snapshot::survey::{Survey, survey};
use crate::snapshot::{ListedSnapshot, index, page, read_at, read_manifest, records};

/// What the first round found.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Snapshots whose manifest could be read.
    pub(super) snapshots: Vec<Arc<Manifest>>,
    /// Every sound index once, by the first environment that names it.
    pub(super) indexes: BTreeMap<EnvName, Indexes>,
    /// Hashes of all indexes and pages met, sound or not.
    pub(super) met: HashSet<Hash>,
    pub(super) damage: Vec<Damage>,
    pub(super) notes: Vec<String>,
    hurt_indexes: HashSet<Hash>,
    verdicts: Vec<Verdict>,
    /// Hashes of manifests read, by key: chains lead to them.
    manifests: HashMap<Key, Hash>,
}

/// Sound indexes.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    pub(super) indexes: Vec<IndexRef>,
    /// Packed bytes of their items, and the packs that these lie in, both counted with repetition.
    bytes: u64,
    packs: u64,
}

/// Packed bytes of one task: some seconds of work, so that little is read again after a crash.
const TASK_BYTES: u64 = 16 << 20;
/// Packs of one task: small ones take as many round trips.
const TASK_PACKS: u64 = 32;
/// Tasks of one environment.
const TASKS: u64 = 4096;

impl Indexes {
    /// In how many tasks they are read.
    pub(super) fn tasks(&self) -> u32 {
        let tasks = self.bytes.div_ceil(TASK_BYTES).max(self.packs.div_ceil(TASK_PACKS));
        tasks.clamp(1, TASKS).next_power_of_two() as u32
    }
}

impl Contents {
    /// Every sound index.
    pub(super) fn all_indexes(&self) -> impl Iterator<Item = &IndexRef> {
        self.indexes.values().flat_map(|of_one| &of_one.indexes)
    }

    pub(super) async fn read(
        &mut self,
        store: &SharedStore,
        environment: &EnvName,
        listed: &ListedSnapshot,
    ) -> Result<()> {
        let key = Key::manifest(environment, &listed.time, listed.snapshot);
        let mut verdict = Verdict {
            environment: environment.clone(),
            snapshot: listed.snapshot,
            time: listed.time.clone(),
            manifest_sha256: None,
            items: 0,
            sound: true,
        };
        match finding(read_manifest(&**store, environment, &listed.time, listed.snapshot).await)? {
            Err(fault) => {
                verdict.sound = false;
                self.damage.push(Damage::of(&key, &fault));
            }
            Ok((manifest, hash)) => {
                self.manifests.insert(key.clone(), hash);
                verdict.manifest_sha256 = Some(hash);
                verdict.items = manifest.totals().items;
                verdict.sound = self.read_all(store, &key, environment, listed, &manifest).await?;
                self.snapshots.push(Arc::new(manifest));
            }
        }
        self.verdicts.push(verdict);
        Ok(())
    }

    /// Reads the records of restores and of verifies as it reads snapshots.
    pub(super) async fn read_records(&mut self, store: &SharedStore) -> Result<()> {
        for environment in environments(&**store, "restores/").await? {
            self.read_records_of(store, &environment, &Key::restores(&environment)).await?;
        }
        for environment in environments(&**store, "verifies/").await? {
            self.read_records_of(store, &environment, &Key::verifies(&environment)).await?;
        }
        Ok(())
    }

    async fn read_records_of(
        &mut self,
        store: &SharedStore,
        environment: &EnvName,
        prefix: &str,
    ) -> Result<()> {
        for key in records(&**store, prefix).await? {
            match finding(read_at(&**store, &key).await)? {
                Err(fault) => self.damage.push(Damage::of(&key, &fault)),
                Ok((manifest, _)) => {
                    let listed = ListedSnapshot { time: manifest.time.clone(), snapshot: manifest.snapshot };
                    self.read_all(store, &key, environment, &listed, &manifest).await?;
                    self.snapshots.push(Arc::new(manifest));
                }
            }
        }
        Ok(())
    }

    async fn read_all(
        &mut self,
        store: &SharedStore,
        key: &Key,
        environment: &EnvName,
        listed: &ListedSnapshot,
        manifest: &Manifest,
    ) -> Result<bool> {
        let before = self.damage.len();
        if manifest.snapshot != listed.snapshot
            || manifest.environment != *environment
            || manifest.time != listed.time
        {
            let detail = format!(
                "it says it is {} of {} at {}",
                manifest.snapshot, manifest.environment, manifest.time
            );
            self.hurt(key, "manifest.misplaced", detail);
        }
        self.check_chain(store, key, manifest).await?;
        let mut readable = true;
        for named in &manifest.pages {
            self.met.insert(named.sha256);
            match finding(page(&**store, named).await)? {
                Ok(page) => {
                    for named in page.indexes {
                        readable &= self.read_index(store, environment, named).await?;
                    }
                }
                Err(fault) => {
                    readable = false;
                    self.damage.push(Damage::of(Key::index(named.sha256), &fault));
                }
            }
        }
        if readable {
            self.check_root(store, key, manifest).await?;
        }
        Ok(readable && self.damage.len() == before)
    }

    /// The base may be pruned by now, which is no damage; if it is there, it must be the one that was meant.
    async fn check_chain(&mut self, store: &SharedStore, key: &Key, manifest: &Manifest) -> Result<()> {
        let Some(base) = &manifest.base else { return Ok(()) };
        let base_key = Key::manifest(&manifest.environment, &base.time, base.snapshot);
        let known = match self.manifests.get(&base_key) {
            Some(hash) => Some(*hash),
            None => store.get(&base_key).await?.map(Hash::of),
        };
        match known {
            Some(hash) if hash != base.manifest => {
                self.hurt(
                    key,
                    "manifest.chain",
                    format!("its base {base_key} hashes to {hash}, not to {}", base.manifest),
                );
            }
            Some(_) => {}
            None => {
                self.notes.push(format!("the base of {key} is not in the store any more: {}", base.snapshot));
            }
        }
        Ok(())
    }

    /// Returns whether the index is sound. One that several snapshots name is read once.
    async fn read_index(
        &mut self,
        store: &SharedStore,
        environment: &EnvName,
        named: IndexRef,
    ) -> Result<bool> {
        if !self.met.insert(named.sha256) {
            return Ok(!self.hurt_indexes.contains(&named.sha256));
        }
        let read = finding(index(&**store, &named).await)?
            .and_then(|read| read.entries.iter().try_for_each(check_entry).map(|()| read));
        match read {
            Ok(read) => {
                let of_one = self.indexes.entry(environment.clone()).or_default();
                let parts = read.entries.iter().flat_map(|entry| &entry.parts);
                let lengths = parts.flat_map(|part| &part.frames).map(|frame| frame.length);
                of_one.packs += read.header.packs.len() as u64;
                of_one.bytes = lengths.fold(of_one.bytes, u64::saturating_add);
                of_one.indexes.push(named);
                Ok(true)
            }
            Err(fault) => {
                self.hurt_indexes.insert(named.sha256);
                let mut damage = Damage::of(Key::index(named.sha256), &fault);
                damage.detail = format!(
                    "{} (all {} of {}: {} items)",
                    damage.detail, named.kind, named.shard, named.entries
                );
                self.damage.push(damage);
                Ok(false)
            }
        }
    }

    async fn check_root(&mut self, store: &SharedStore, key: &Key, manifest: &Manifest) -> Result<()> {
        match finding(survey(&**store, &manifest.pages, None).await)? {
            Ok(found) if found.content_root == manifest.content_root => {
                if let Some(kind) = miscounted(manifest, &found) {
                    self.hurt(
                        key,
                        "manifest.counts",
                        format!("its counts of kind {kind} are not those of its items"),
                    );
                }
            }
            Ok(found) => {
                let detail = format!(
                    "its items hash to {}, not to its content root {}",
                    found.content_root, manifest.content_root
                );
                self.hurt(key, "manifest.content-root", detail);
            }
            Err(fault) => self.damage.push(Damage::of(key, &fault)),
        }
        Ok(())
    }

    fn hurt(&mut self, key: &Key, code: &str, detail: String) {
        self.damage.push(Damage { object: key.to_string(), code: code.to_owned(), detail });
    }

    /// The verdicts, when these snapshots turned out to hold hurt items. What was not read may be any one's.
    pub(super) fn verdicts(&self, hurt: &HashSet<SnapshotId>, all_read: bool) -> Vec<Verdict> {
        let judge = |verdict: &Verdict| Verdict {
            sound: all_read && verdict.sound && !hurt.contains(&verdict.snapshot),
            ..verdict.clone()
        };
        self.verdicts.iter().map(judge).collect()
    }
}

/// Whether an entry agrees with itself.
fn check_entry(entry: &Entry) -> Result<()> {
    let wrong = |detail: String| {
        Err(Fault::new(
            Class::Integrity,
            "index.entry",
            "read an index",
            format!("{:?}: {detail}", entry.key),
        ))
    };
    if entry.content != content_of(&entry.parts) {
        return wrong("its content hash is not that of its parts".into());
    }
    for (at, part) in entry.parts.iter().enumerate() {
        if entry.parts[..at].iter().any(|earlier| earlier.role == part.role) {
            return wrong(format!("it has two parts of the role {}", part.role.word()));
        }
        let size: u64 = part.frames.iter().map(|frame| frame.size).fold(0, u64::saturating_add);
        if size != part.size {
            return wrong(format!("its {} has {} bytes and frames of {size}", part.role.word(), part.size));
        }
        if let [frame] = part.frames.as_slice()
            && frame.sha256 != part.sha256
        {
            return wrong(format!("its {} and its one frame have different hashes", part.role.word()));
        }
    }
    Ok(())
}

/// A kind whose report does not count what its indexes hold.
fn miscounted(manifest: &Manifest, found: &Survey) -> Option<Kind> {
    let differs = |report: &&KindReport| {
        let held = found.counts.get(&report.kind).copied().unwrap_or_default();
        let said = &report.counts;
        (said.items, said.gaps, said.degraded, said.bytes)
            != (held.items, held.gaps, held.degraded, held.bytes)
    };
    let unsaid = |kind: &&Kind| manifest.kinds.iter().all(|report| report.kind != **kind);
    let reported = manifest.kinds.iter().find(differs).map(|report| report.kind.clone());
    reported.or_else(|| found.counts.keys().find(unsaid).cloned())
}
