//! The base snapshot: what a run is compared with, so that nothing unchanged is fetched or stored twice.
//!
//! It is a help, not a truth: a base that is damaged costs a full capture and a warning, never a failed run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use lakehold_proto::fault::{Class, Result};
use lakehold_proto::format::{CANONICAL_RULE, Entry, Index, IndexRef, Page, PageRef, Part, Role, read_page};
use lakehold_proto::ids::{Hash, Kind, SnapshotId};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::Unlisted;
use lakehold_proto::store::{Key, Store, get_hashed};
use lakehold_proto::task::Shard;

use super::Surroundings;
use super::packer::Known;

/// Pages kept in memory: tasks of one kind follow each other, so a few serve most of them.
const PAGES_KEPT: usize = 4;

/// The manifest of the base snapshot, and its pages as they are needed. Shared by all tasks of a run.
#[derive(Debug)]
pub struct BaseSnapshot {
    manifest: Manifest,
    pages: Mutex<Vec<(Hash, Arc<Page>)>>,
    /// Packs that were read and checked, and whether they are whole.
    checked: Mutex<HashMap<Hash, bool>>,
}

impl BaseSnapshot {
    /// A base snapshot whose manifest was read.
    pub fn new(manifest: Manifest) -> Self {
        Self { manifest, pages: Mutex::default(), checked: Mutex::default() }
    }

    /// Its id.
    pub fn id(&self) -> SnapshotId {
        self.manifest.snapshot
    }

    /// Whether a pack is there and has the hash of its name. Asked once for each pack.
    async fn pack_is_sound(&self, store: &dyn Store, pack: Hash) -> Result<bool> {
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&sound) = checked().get(&pack) {
            return Ok(sound);
        }
        let sound = match get_hashed(store, &Key::pack(pack), pack).await {
            Ok(_) => true,
            Err(fault) if fault.class == Class::Integrity => {
                tracing::warn!(%fault, "the base snapshot is damaged: storing anew");
                false
            }
            Err(fault) => return Err(fault),
        };
        checked().insert(pack, sound);
        Ok(sound)
    }

    async fn page(&self, store: &dyn Store, page: &PageRef) -> Result<Arc<Page>> {
        let kept = || self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = kept().iter().find(|(hash, _)| *hash == page.sha256) {
            return Ok(Arc::clone(found));
        }
        let read = Arc::new(read_page(&get_hashed(store, &Key::index(page.sha256), page.sha256).await?)?);
        let mut kept = kept();
        kept.insert(0, (page.sha256, Arc::clone(&read)));
        kept.truncate(PAGES_KEPT);
        Ok(read)
    }

    /// The pages on which lines of (`by`, `scope`) may stand. Pages with indexes come first and are sorted, so these are
    /// the last that begins before it up to the last that begins with it. Unlisted slices may stand on any page.
    fn pages_for(&self, by: &Kind, scope: &str) -> Vec<PageRef> {
        let wanted = (by.as_str(), scope);
        let pages = &self.manifest.pages;
        let sorted = &pages[..pages.partition_point(|page| page.indexes > 0)];
        let position = |inclusive: bool| {
            sorted.partition_point(|page| {
                let first = (page.first.0.as_str(), page.first.1.as_str());
                if inclusive { first <= wanted } else { first < wanted }
            })
        };
        let near = position(false).saturating_sub(1)..position(true);
        let may = |(at, page): &(usize, &PageRef)| near.contains(at) || page.unlisted > 0;
        pages.iter().enumerate().filter(may).map(|(_, page)| page.clone()).collect()
    }
}

/// What the base snapshot has of one shard.
#[derive(Debug, Default)]
pub(super) struct BaseShard {
    base: Option<Arc<BaseSnapshot>>,
    refs: Vec<IndexRef>,
    sound: HashSet<Hash>,
    unlisted: Vec<Unlisted>,
    loaded: HashMap<Kind, Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    indexes: Vec<Arc<Index>>,
    by_key: HashMap<String, (usize, usize)>,
}

impl BaseShard {
    pub(super) async fn open(around: &Surroundings, by: &Kind, shard: &Shard) -> Result<Self> {
        let Some(base) = &around.base else { return Ok(Self::default()) };
        let mut found = Self { base: Some(Arc::clone(base)), ..Self::default() };
        for page in base.pages_for(by, &shard.scope) {
            match base.page(&*around.store, &page).await {
                Ok(page) => {
                    let mine = |index: &&IndexRef| index.by == *by && index.shard.overlaps(shard);
                    found.refs.extend(page.indexes.iter().filter(mine).cloned());
                    let near = |slice: &&(Kind, Unlisted)| slice.1.shard.overlaps(shard);
                    found.unlisted.extend(page.unlisted.iter().filter(near).map(|(_, slice)| slice.clone()));
                }
                Err(fault) if fault.class == Class::Integrity => {
                    tracing::warn!(page = %page.sha256, %fault, "the base snapshot is damaged: capturing anew");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(found)
    }

    pub(super) fn buckets(&self) -> u32 {
        self.refs.iter().filter_map(|index| index.shard.bucket).map(|bucket| bucket.of).max().unwrap_or(1)
    }

    pub(super) async fn load(&mut self, store: &dyn Store, kind: &Kind) -> Result<()> {
        if self.loaded.contains_key(kind) {
            return Ok(());
        }
        let mut loaded = Loaded::default();
        for index in self.refs.iter().filter(|index| index.kind == *kind) {
            let bytes = get_hashed(store, &Key::index(index.sha256), index.sha256).await;
            let read = match bytes.and_then(|bytes| index.read(&bytes)) {
                Ok(read) => read,
                Err(fault) if fault.class == Class::Integrity => {
                    tracing::warn!(index = %index.sha256, %fault, "the base snapshot is damaged: capturing anew");
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let number = loaded.indexes.len();
            for (position, entry) in read.entries.iter().enumerate() {
                // Entries under another canonical rule cannot be compared. Those of a coarser bucket's other half are merely
                // not asked for; what an item carries lies in its bucket, whatever its own key hashes to.
                if entry.rule == CANONICAL_RULE {
                    loaded.by_key.insert(entry.key.clone(), (number, position));
                }
            }
            self.sound.insert(index.sha256);
            loaded.indexes.push(Arc::new(read));
        }
        self.loaded.insert(kind.clone(), loaded);
        Ok(())
    }

    /// The indexes that were read, and are whole.
    pub(super) fn sound(&self) -> &HashSet<Hash> {
        &self.sound
    }

    pub(super) async fn packs_are_sound(
        &self,
        store: &dyn Store,
        index: &Index,
        part: &Part,
    ) -> Result<bool> {
        let Some(base) = &self.base else { return Ok(false) };
        for frame in &part.frames {
            if !base.pack_is_sound(store, index.pack(frame)?.sha256).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn entry(&self, kind: &Kind, key: &str) -> Option<&Entry> {
        let loaded = self.loaded.get(kind)?;
        let &(index, position) = loaded.by_key.get(key)?;
        loaded.indexes.get(index)?.entries.get(position)
    }

    pub(super) fn part(&self, kind: &Kind, key: &str, role: Role) -> Option<Known> {
        let loaded = self.loaded.get(kind)?;
        let &(index, position) = loaded.by_key.get(key)?;
        let index = loaded.indexes.get(index)?;
        Some((Arc::clone(index), index.entries.get(position)?.part(role)?.clone()))
    }

    /// The last snapshot in which a slice was listed: the base, unless it was unlisted there too.
    pub(super) fn last_listed(&self, kinds: &[Kind], shard: &Shard) -> Option<SnapshotId> {
        let same =
            |slice: &&Unlisted| slice.shard == *shard && slice.kinds.iter().any(|kind| kinds.contains(kind));
        match self.unlisted.iter().find(same) {
            Some(slice) => slice.last_good,
            None => self.base.as_ref().map(|base| base.id()),
        }
    }
}
