//! One of the two sides of a comparison across environments: the items of a snapshot, found by key, by natural key, and by
//! the other ids that references hold.
//!
//! There may be very many. Memory holds some fifty bytes of each; what it is lies on disk, and is read when it is asked for.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Index, Part, Role};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::SharedStore;
use lakehold_worker::source::blueprint::{Blueprint, By, Seen};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::shelf::{Filling, Shelf};
use crate::snapshot::items::read_part;
use crate::snapshot::{index, page};

/// Bodies read from the store at once.
const READS: usize = 16;
/// Documents larger than this are no objects of an API.
const LARGEST: u64 = 64 << 20;

/// See the module.
#[derive(Debug)]
pub struct Side {
    /// The snapshot.
    pub manifest: Manifest,
    /// Its items, in the order of its pages.
    items: Vec<Kept>,
    /// Its indexes without their entries: they know the packs.
    indexes: Vec<Arc<Index>>,
    shelf: Shelf<Told>,
    by_key: HashMap<Id, u32>,
    /// All items, by natural key and number.
    by_identity: Vec<u32>,
    by_alias: HashMap<Id, u32>,
}

/// A kind and a text of it. Half of a hash is as good as the text, and smaller.
pub(super) type Id = [u8; 16];

pub(super) fn id(kind: &Kind, text: &str) -> Id {
    let hash = Hash::of(format!("{kind}/{text}"));
    let mut id = Id::default();
    id.copy_from_slice(&hash.bytes()[..16]);
    id
}

/// What memory keeps of an item.
#[derive(Clone, Copy, Debug)]
struct Kept {
    place: u64,
    identity: Id,
    index: u32,
    parts: u8,
}

/// What the disk keeps of it.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    entry: Entry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
}

/// An item of a snapshot, while it is looked at.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its kind.
    pub kind: Kind,
    /// Its entry.
    pub entry: Entry,
    /// Where its frames lie.
    pub index: Arc<Index>,
    identity: Option<String>,
    alias: Option<String>,
}

/// The documents of an item.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Its object.
    pub object: Option<Value>,
    /// Its content, where that is JSON.
    pub content: Option<Value>,
    /// Who may do what with it.
    pub access: Option<Value>,
}

impl Held {
    /// Its key.
    pub fn key(&self) -> &str {
        &self.entry.key
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Its natural key, which mostly is its name.
    pub fn identity(&self) -> &str {
        self.identity.as_deref().unwrap_or(&self.entry.name)
    }

    /// The other id by which it is referred to.
    pub fn alias(&self) -> Option<&str> {
        self.alias.as_deref()
    }

    /// What it is, with these documents.
    pub fn seen<'a>(&'a self, documents: &'a Documents) -> Seen<'a> {
        Seen {
            kind: &self.kind,
            entry: &self.entry,
            object: documents.object.as_ref(),
            content: documents.content.as_ref(),
            access: documents.access.as_ref(),
        }
    }

    /// Reads its documents.
    ///
    /// # Errors
    /// The store's; `Integrity` when one is damaged.
    pub async fn documents(&self, store: &SharedStore, blueprint: &dyn Blueprint) -> Result<Documents> {
        let document = |role: Role| async move {
            let wanted = role != Role::Content || blueprint.has_document(&self.kind);
            match self.entry.part(role).filter(|_| wanted) {
                Some(part) => read_document(store, &self.index, part).await,
                None => Ok(None),
            }
        };
        let (object, content, access) =
            futures::try_join!(document(Role::Object), document(Role::Content), document(Role::Permissions))?;
        Ok(Documents { object, content, access })
    }

    /// Why a part of it is missing in the snapshot, where it is.
    pub fn gap(&self, role: Role) -> Option<String> {
        let gap = self.entry.gaps.iter().find(|gap| gap.role == role)?;
        let last = gap.last_good.map_or_else(
            || "no earlier snapshot has it".to_owned(),
            |good| format!("the last snapshot that has it is {}", good.short()),
        );
        Some(format!("the snapshot lacks its {}: {}; {last}", role.word(), gap.fault.message))
    }

    /// Finds out its natural key, which for some kinds stands in the object alone, and the other id by which it is
    /// referred to.
    async fn identified(mut self, store: &SharedStore, blueprint: &dyn Blueprint) -> Result<Self> {
        let part = self
            .entry
            .part(Role::Object)
            .filter(|_| !blueprint.is_named(&self.kind) || blueprint.has_alias(&self.kind));
        let object = match part {
            Some(part) => match read_document(store, &self.index, part).await {
                // One hurt item is told when it is looked at.
                Err(fault) if fault.class == Class::Integrity => None,
                read => read?,
            },
            None => None,
        };
        let documents = Documents { object, ..Documents::default() };
        let seen = self.seen(&documents);
        let (identity, alias) = (blueprint.identity(&seen), blueprint.alias(&seen));
        (self.identity, self.alias) = ((identity != self.entry.name).then_some(identity), alias);
        Ok(self)
    }
}

pub(super) async fn read_document(
    store: &SharedStore,
    index: &Arc<Index>,
    part: &Part,
) -> Result<Option<Value>> {
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
    /// The store's; `Integrity` when something that is needed is absent or damaged; `Unavailable` when there is no room for
    /// temporary files.
    pub async fn read(store: &SharedStore, manifest: Manifest, blueprint: &dyn Blueprint) -> Result<Self> {
        let most = (manifest.totals().items as usize).min(1 << 20);
        let mut items: Vec<Kept> = Vec::with_capacity(most);
        let mut by_key: HashMap<Id, u32> = HashMap::with_capacity(most);
        let (mut by_alias, mut shelf, mut indexes) = (HashMap::new(), Filling::new()?, Vec::new());
        for named in &manifest.pages {
            for named in page(&**store, named).await?.indexes {
                let Index { header, entries } = index(&**store, &named).await?;
                let (kind, without) = (named.kind, Arc::new(Index { header, entries: Vec::new() }));
                indexes.push(Arc::clone(&without));
                let held = entries.into_iter().map(move |entry| {
                    let (kind, index) = (kind.clone(), Arc::clone(&without));
                    let held = Held { kind, entry, index, identity: None, alias: None };
                    held.identified(store, blueprint)
                });
                let mut held = futures::stream::iter(held).buffered(READS);
                while let Some(Held { kind, entry, identity, alias, .. }) = held.try_next().await? {
                    let number = *by_key.entry(id(&kind, &entry.key)).or_insert(items.len() as u32);
                    let known = items.get_mut(number as usize);
                    let parts = entry.parts.len() as u8;
                    // One that moved while it was listed stands in two shards: what has more of it counts.
                    if known.as_ref().is_some_and(|known| known.parts >= parts) {
                        continue;
                    }
                    if let Some(alias) = &alias {
                        by_alias.insert(id(&kind, alias), number);
                    }
                    let name = id(&kind, identity.as_deref().unwrap_or(&entry.name));
                    let place = shelf.push(&Told { entry, identity, alias })?;
                    let kept = Kept { place, identity: name, index: indexes.len() as u32 - 1, parts };
                    match known {
                        Some(known) => *known = kept,
                        None => items.push(kept),
                    }
                }
            }
        }
        let mut by_identity: Vec<_> = (0..items.len() as u32).collect();
        by_identity.sort_unstable_by_key(|number| (items[*number as usize].identity, *number));
        Ok(Self { manifest, items, indexes, shelf: shelf.filled()?, by_key, by_identity, by_alias })
    }

    /// How many items it has. Their numbers go from 0.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item with this number.
    ///
    /// # Errors
    /// `Unavailable` when the temporary file cannot be read.
    pub fn item(&self, number: usize) -> Result<Held> {
        let kept = &self.items[number];
        let (kind, index) = (self.kind(number).clone(), Arc::clone(&self.indexes[kept.index as usize]));
        let Told { entry, identity, alias } = self.shelf.get(kept.place)?;
        Ok(Held { kind, entry, index, identity, alias })
    }

    /// All items, in their order.
    pub fn all(&self) -> impl Iterator<Item = Result<Held>> {
        (0..self.len()).map(|number| self.item(number))
    }

    /// The kind of the item with this number.
    pub fn kind(&self, number: usize) -> &Kind {
        &self.indexes[self.items[number].index as usize].header.kind
    }

    /// The item with this key.
    pub fn keyed(&self, kind: &Kind, key: &str) -> Option<usize> {
        self.by_key.get(&id(kind, key)).map(|number| *number as usize)
    }

    fn aliased(&self, kind: &Kind, alias: &str) -> Option<usize> {
        self.by_alias.get(&id(kind, alias)).map(|number| *number as usize)
    }

    /// The items with this natural key, in their order.
    pub fn identified(&self, kind: &Kind, identity: &str) -> &[u32] {
        self.with_identity(&id(kind, identity))
    }

    pub(super) fn with_identity(&self, identity: &Id) -> &[u32] {
        let of = |number: &u32| &self.items[*number as usize].identity;
        let (_, from) = self.by_identity.split_at(self.by_identity.partition_point(|n| of(n) < identity));
        from.split_at(from.partition_point(|n| of(n) == identity)).0
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
                [one] => Some(one as usize),
                [] if text.chars().any(char::is_uppercase) => {
                    match self.identified(kind, &text.to_lowercase())[..] {
                        [one] => Some(one as usize),
                        _ => None,
                    }
                }
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use lakehold_worker::configured::blueprint;

    use super::super::decisions::{Action, Planned};
    use super::super::planner::{Ask, IdMap, decide};
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
        let side = Side::read(&site.store, found.manifest, blueprint("databricks").unwrap()).await.unwrap();
        let kind = Kind::named("job");
        let key = |number: usize| side.item(number).unwrap().entry.key;
        assert_eq!(side.keyed(&kind, "42").map(key).as_deref(), Some("42"));
        assert_eq!(side.keyed(&Kind::named("query"), "42"), None);
        let twins = side.identified(&kind, "twin");
        assert!(twins.len() == 10 && twins.is_sorted(), "{twins:?}");
        assert!(twins.iter().all(|twin| key(*twin as usize).ends_with('3')));
        assert!(side.identified(&kind, "none").is_empty());
    }

    #[tokio::test]
    async fn an_item_that_stands_in_two_shards_is_the_one_of_which_there_is_more() {
        let site = Site::new();
        let moved = |name: &str| Seed::new("notebook", "7", name, "{}");
        for (first, second) in
            [(moved("/a"), moved("/b").content(&[b"text"])), (moved("/b").content(&[b"text"]), moved("/a"))]
        {
            let shards = vec![first, Seed::new("notebook", "8", "/c", "{}"), second];
            let found = site.snapshot(2, shards, Made::default()).await.manifest;
            let side = Side::read(&site.store, found, blueprint("databricks").unwrap()).await.unwrap();
            let kind = Kind::named("notebook");
            assert_eq!(side.len(), 2);
            let item = side.item(side.keyed(&kind, "7").unwrap()).unwrap();
            assert_eq!((item.name(), item.entry.parts.len()), ("/b", 2));
            assert!(side.identified(&kind, "/a").is_empty());
            assert_eq!(side.identified(&kind, "/b"), [side.keyed(&kind, "7").unwrap() as u32]);
        }
    }

    #[tokio::test]
    async fn a_document_that_is_no_json_blocks_its_item_alone() {
        let site = Site::new();
        let seeds = || vec![job("1", "sound"), Seed::new("job", "2", "hurt", "no JSON")];
        let from = site.snapshot(2, seeds(), Made::default()).await.manifest;
        let to = site.snapshot(4, vec![job("3", "other")], Made::default()).await.manifest;
        let blueprint = blueprint("databricks").unwrap();
        let from = Side::read(&site.store, from, blueprint).await.unwrap();
        let to = Side::read(&site.store, to, blueprint).await.unwrap();
        for with_dependencies in [false, true] {
            let ask = Ask { wanted: Wanted { with_dependencies, ..Wanted::default() }, ..Ask::default() };
            let decided = decide(&site.store, blueprint, &from, &to, &ask, &IdMap::new()).await.unwrap();
            let items: Vec<Planned> = decided.items.sorted().unwrap().iter().collect::<Result<_>>().unwrap();
            let of = |key: &str| items.iter().find(|item| item.key == key).unwrap();
            assert_eq!(of("1").action, Action::Create);
            assert_eq!(of("2").action, Action::Blocked);
            assert!(of("2").why.as_deref().unwrap().contains("no JSON"), "{:?}", of("2"));
        }
    }
}
