//! One of the two sides of a comparison across environments: the items of a snapshot, found by key, by natural key, and by
//! the other ids that references hold.
//!
//! There may be very many. Memory holds what an item is called; its entry and its bodies are read when it is looked at.

use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, PoisonError, Weak};

use futures::TryStreamExt as _;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Index, IndexRef, Part, Role};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::SharedStore;
use lakehold_worker::source::blueprint::{Blueprint, By, Seen};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::snapshot::items::read_part;
use crate::snapshot::{index, page};

/// Bodies read from the store at once.
const READS: usize = 16;
/// Documents larger than this are no objects of an API.
const LARGEST: u64 = 64 << 20;

/// In which order the items of a side are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// One after the other: the side that is brought back.
    InOrder,
    /// As those of the other side come: the buckets of the two have nothing in common.
    AnyOrder,
}

impl Looked {
    /// Indexes that are kept when they were read. Each may take half a megabyte.
    const fn kept(self) -> usize {
        match self {
            Self::InOrder => 4,
            Self::AnyOrder => 16,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Side {
    /// The snapshot.
    pub manifest: Manifest,
    /// Its items, in the order of its pages.
    pub items: Vec<Held>,
    by_key: HashMap<Id, u32>,
    /// The last item of each natural key; the others of that key follow by [`Held::like`].
    by_identity: HashMap<Id, u32>,
    by_alias: HashMap<Id, u32>,
}

/// A kind and a text of it. Half of a hash is as good as the text, and smaller.
type Id = [u8; 16];

pub(super) fn id(kind: &Kind, text: &str) -> Id {
    let hash = Hash::of(format!("{kind}/{text}"));
    let mut id = Id::default();
    id.copy_from_slice(&hash.bytes()[..16]);
    id
}

/// An item of a snapshot.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its kind.
    pub kind: Kind,
    lies: Arc<Lies>,
    at: u32,
    key: Arc<str>,
    name: Arc<str>,
    /// Another item of its natural key.
    like: Option<u32>,
    /// Its natural key, where that is not its name.
    identity: Option<Box<str>>,
    /// The other id by which it is referred to.
    alias: Option<Box<str>>,
}

/// Where an entry lies: its index, which is read while somebody looks at it.
#[derive(Debug)]
struct Lies {
    named: IndexRef,
    read: Mutex<Weak<Index>>,
    recent: Arc<Recent>,
}

/// The indexes of a side that were read last, and so are kept.
#[derive(Debug)]
struct Recent {
    most: usize,
    kept: std::sync::Mutex<VecDeque<Arc<Index>>>,
}

impl Lies {
    async fn index(&self, store: &SharedStore) -> Result<Arc<Index>> {
        // Held while it is read: of many who look at once, one reads.
        let mut read = self.read.lock().await;
        if let Some(index) = read.upgrade() {
            return Ok(index);
        }
        let index = Arc::new(index(&**store, &self.named).await?);
        *read = Arc::downgrade(&index);
        let mut kept = self.recent.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Arc::clone(&index));
        if kept.len() > self.recent.most {
            kept.pop_front();
        }
        Ok(index)
    }
}

/// The entry of an item, while it is looked at.
#[derive(Clone, Debug)]
pub struct Shown {
    index: Arc<Index>,
    at: usize,
}

impl Deref for Shown {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.index.entries[self.at]
    }
}

impl Shown {
    /// Where its frames lie.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }
}

/// The documents of an item.
#[derive(Clone, Debug)]
pub struct Documents {
    /// Its entry.
    pub entry: Shown,
    /// Its object.
    pub object: Option<Value>,
    /// Its content, where that is JSON.
    pub content: Option<Value>,
    /// Who may do what with it.
    pub access: Option<Value>,
}

impl Documents {
    /// What an item of this kind is, with these.
    pub fn seen<'a>(&'a self, kind: &'a Kind) -> Seen<'a> {
        Seen {
            kind,
            entry: &self.entry,
            object: self.object.as_ref(),
            content: self.content.as_ref(),
            access: self.access.as_ref(),
        }
    }
}

impl Held {
    /// Its entry: read for it, so of many items it is asked for in their order.
    ///
    /// # Errors
    /// The store's; `Integrity` when its index is damaged.
    pub async fn entry(&self, store: &SharedStore) -> Result<Shown> {
        Ok(Shown { index: self.lies.index(store).await?, at: self.at as usize })
    }

    /// Its key.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its natural key.
    pub fn identity(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.name)
    }

    /// The other id by which it is referred to.
    pub fn alias(&self) -> Option<&str> {
        self.alias.as_deref()
    }

    /// Reads its documents.
    ///
    /// # Errors
    /// The store's; `Integrity` when one is damaged.
    pub async fn documents(&self, store: &SharedStore, blueprint: &dyn Blueprint) -> Result<Documents> {
        let entry = self.entry(store).await?;
        let shown = &entry;
        let document = |role: Role| async move {
            let wanted = role != Role::Content || blueprint.has_document(&self.kind);
            match shown.part(role).filter(|_| wanted) {
                Some(part) => read_document(store, shown.index(), part).await,
                None => Ok(None),
            }
        };
        let (object, content, access) =
            futures::try_join!(document(Role::Object), document(Role::Content), document(Role::Permissions))?;
        Ok(Documents { entry, object, content, access })
    }
}

async fn read_document(store: &SharedStore, index: &Arc<Index>, part: &Part) -> Result<Option<Value>> {
    if part.size > LARGEST {
        let detail = format!("a document of {} bytes", part.size);
        return Err(Fault::new(Class::Unsupported, "item.large", "read an item", detail));
    }
    let mut whole = Vec::with_capacity(part.size as usize);
    let mut frames = read_part(Arc::clone(store), Arc::clone(index), part.clone());
    while let Some(frame) = frames.try_next().await? {
        whole.extend_from_slice(&frame);
    }
    serde_json::from_slice(&whole).map(Some).map_err(|e| {
        Fault::new(Class::Integrity, "item.no-document", "read an item", format!("it is no JSON: {e}"))
    })
}

impl Side {
    /// Reads the items of a snapshot.
    ///
    /// # Errors
    /// The store's; `Integrity` when something that is needed is absent or damaged.
    pub async fn read(
        store: &SharedStore,
        manifest: Manifest,
        blueprint: &dyn Blueprint,
        looked: Looked,
    ) -> Result<Self> {
        let most = (manifest.totals().items as usize).min(1 << 20);
        let mut items: Vec<Held> = Vec::with_capacity(most);
        let mut by_key: HashMap<Id, u32> = HashMap::with_capacity(most);
        let recent = Arc::new(Recent { most: looked.kept(), kept: std::sync::Mutex::default() });
        for named in &manifest.pages {
            for named in page(&**store, named).await?.indexes {
                let read = index(&**store, &named).await?;
                let kind = named.kind.clone();
                let lies = Arc::new(Lies { named, read: Mutex::default(), recent: Arc::clone(&recent) });
                for (at, entry) in read.entries.iter().enumerate() {
                    let place = id(&kind, &entry.key);
                    let key: Arc<str> = entry.key.as_str().into();
                    let same = entry.name == entry.key;
                    let name = if same { Arc::clone(&key) } else { entry.name.as_str().into() };
                    let (kind, lies, at) = (kind.clone(), Arc::clone(&lies), at as u32);
                    let held = Held { kind, lies, at, key, name, like: None, identity: None, alias: None };
                    match by_key.get(&place).map(|known| &mut items[*known as usize]) {
                        Some(known) => {
                            // One that moved while it was listed stands in two shards: what has more of it counts.
                            if known.entry(store).await?.parts.len() < entry.parts.len() {
                                *known = held;
                            }
                        }
                        None => {
                            by_key.insert(place, items.len() as u32);
                            items.push(held);
                        }
                    }
                }
            }
        }
        let mut side = Self {
            manifest,
            items,
            by_key,
            by_identity: HashMap::with_capacity(most),
            by_alias: HashMap::new(),
        };
        side.identify(store, blueprint).await?;
        Ok(side)
    }

    /// Finds out the natural keys, which for some kinds stand in the object alone.
    async fn identify(&mut self, store: &SharedStore, blueprint: &dyn Blueprint) -> Result<()> {
        let (by_identity, by_alias) = (&mut self.by_identity, &mut self.by_alias);
        for (first, items) in self.items.chunks_mut(READS).enumerate() {
            let told = items.iter().map(|item| identify(item, store, blueprint));
            let told = futures::future::try_join_all(told).await?;
            for (number, (item, (identity, alias))) in items.iter_mut().zip(told).enumerate() {
                let number = (first * READS + number) as u32;
                item.like = by_identity.insert(id(&item.kind, &identity), number);
                if let Some(alias) = &alias {
                    by_alias.insert(id(&item.kind, alias), number);
                }
                item.identity = (identity != **item.name()).then(|| identity.into());
                item.alias = alias.map(Into::into);
            }
        }
        Ok(())
    }

    /// The item with this key.
    pub fn keyed(&self, kind: &Kind, key: &str) -> Option<usize> {
        self.by_key.get(&id(kind, key)).map(|number| *number as usize)
    }

    fn aliased(&self, kind: &Kind, alias: &str) -> Option<usize> {
        self.by_alias.get(&id(kind, alias)).map(|number| *number as usize)
    }

    /// The items with this natural key, in their order.
    pub fn identified(&self, kind: &Kind, identity: &str) -> Vec<usize> {
        let last = self.by_identity.get(&id(kind, identity)).copied();
        let mut all: Vec<_> =
            std::iter::successors(last, |number| self.items[*number as usize].like).collect();
        all.reverse();
        all.into_iter().map(|number| number as usize).collect()
    }

    /// The item that a reference means, where exactly one fits.
    pub fn meant(&self, kind: &Kind, by: By, text: &str) -> Option<usize> {
        match by {
            By::Key => self.keyed(kind, text),
            By::Alias => self.aliased(kind, text),
            By::Place => {
                let borders = text.match_indices('/').map(|(at, _)| &text[..at]);
                let mut above: Vec<_> = borders.chain([text]).collect();
                above.reverse();
                above.into_iter().find_map(|place| {
                    let place = place.trim_end_matches('/');
                    self.aliased(kind, place).or_else(|| self.aliased(kind, &format!("{place}/")))
                })
            }
            By::Identity => match self.identified(kind, text)[..] {
                [one] => Some(one),
                [] if text.chars().any(char::is_uppercase) => {
                    match self.identified(kind, &text.to_lowercase())[..] {
                        [one] => Some(one),
                        _ => None,
                    }
                }
                _ => None,
            },
        }
    }

    /// The fault of an item of which a side is missing.
    pub fn gap(entry: &Entry, role: Role) -> Option<String> {
        let gap = entry.gaps.iter().find(|gap| gap.role == role)?;
        let last = gap.last_good.map_or_else(
            || "no earlier snapshot has it".to_owned(),
            |good| format!("the last snapshot that has it is {}", good.short()),
        );
        Some(format!("the snapshot lacks its {}: {}; {last}", role.word(), gap.fault.message))
    }
}

/// The natural key of an item, and the other id by which it is referred to.
async fn identify(
    item: &Held,
    store: &SharedStore,
    blueprint: &dyn Blueprint,
) -> Result<(String, Option<String>)> {
    let entry = item.entry(store).await?;
    let part = entry
        .part(Role::Object)
        .filter(|_| !blueprint.is_named(&item.kind) || blueprint.has_alias(&item.kind));
    let object = match part {
        Some(part) => match read_document(store, entry.index(), part).await {
            // One hurt item is told when it is looked at.
            Err(fault) if fault.class == Class::Integrity => None,
            read => read?,
        },
        None => None,
    };
    let documents = Documents { entry, object, content: None, access: None };
    let seen = documents.seen(&item.kind);
    Ok((blueprint.identity(&seen), blueprint.alias(&seen)))
}

#[cfg(test)]
mod tests {
    use lakehold_worker::configured::blueprint;

    use super::super::planner::{Action, Ask, IdMap, decide};
    use super::super::select::Wanted;
    use super::*;
    use crate::snapshot::fixture::{Made, Seed, Site};

    fn job(key: &str, name: &str) -> Seed {
        Seed::new("job", key, name, &format!("{{\"job_id\": {key}, \"settings\": {{\"name\": \"{name}\"}}}}"))
    }

    #[tokio::test]
    async fn items_are_found_by_key_and_all_of_one_name_in_their_order() {
        let site = Site::new();
        let seeds: Vec<_> =
            (0..100).map(|n| job(&n.to_string(), if n % 10 == 3 { "twin" } else { "one" })).collect();
        let found = site.snapshot(2, seeds, Made::default()).await;
        let side = Side::read(&site.store, found.manifest, blueprint("databricks").unwrap(), Looked::InOrder)
            .await
            .unwrap();
        let (kind, keys) = (Kind::named("job"), |found: Vec<usize>| {
            found.into_iter().map(|number| side.items[number].key().to_string()).collect::<Vec<_>>()
        });
        assert_eq!(keys(side.keyed(&kind, "42").into_iter().collect()), ["42"]);
        assert_eq!(side.keyed(&Kind::named("query"), "42"), None);
        let twins = side.identified(&kind, "twin");
        assert!(twins.len() == 10 && twins.is_sorted(), "{twins:?}");
        assert!(keys(twins).iter().all(|key| key.ends_with('3')));
        assert!(side.identified(&kind, "none").is_empty());
    }

    #[tokio::test]
    async fn a_document_that_is_no_json_blocks_its_item_alone() {
        let site = Site::new();
        let seeds = || vec![job("1", "sound"), Seed::new("job", "2", "hurt", "no JSON")];
        let from = site.snapshot(2, seeds(), Made::default()).await.manifest;
        let to = site.snapshot(4, vec![job("3", "other")], Made::default()).await.manifest;
        let blueprint = blueprint("databricks").unwrap();
        let from = Side::read(&site.store, from, blueprint, Looked::InOrder).await.unwrap();
        let to = Side::read(&site.store, to, blueprint, Looked::AnyOrder).await.unwrap();
        for with_dependencies in [false, true] {
            let ask = Ask { wanted: Wanted { with_dependencies, ..Wanted::default() }, ..Ask::default() };
            let decided = decide(&site.store, blueprint, &from, &to, &ask, &IdMap::new()).await.unwrap();
            let of = |key: &str| decided.items.iter().find(|item| *item.key == *key).unwrap();
            assert_eq!(of("1").action, Action::Create);
            assert_eq!(of("2").action, Action::Blocked);
            assert!(of("2").why.as_deref().unwrap().contains("no JSON"), "{:?}", of("2"));
        }
    }
}
