//! One of the two sides of a comparison across environments: the items of a snapshot, found by key, by natural key, and by
//! the other ids that references hold.
//!
//! Memory holds the indexes of the snapshot and a few words for each item; bodies are read when they are looked at.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Index, Part, Role};
use lakehold_proto::ids::Kind;
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::SharedStore;
use lakehold_worker::source::blueprint::{Blueprint, By, Seen};
use serde_json::Value;

use crate::snapshot::items::{each_index, read_part};

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
    pub items: Vec<Held>,
    by_key: HashMap<(Kind, String), usize>,
    by_identity: HashMap<(Kind, String), Vec<usize>>,
    by_alias: HashMap<(Kind, String), usize>,
}

/// An item of a snapshot.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its kind.
    pub kind: Kind,
    index: Arc<Index>,
    at: usize,
    /// Its natural key.
    pub identity: String,
    /// The other id by which it is referred to.
    pub alias: Option<String>,
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
    /// Its entry.
    pub fn entry(&self) -> &Entry {
        &self.index.entries[self.at]
    }

    /// Where its frames lie.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// What it is, with `documents`.
    pub fn seen<'a>(&'a self, documents: &'a Documents) -> Seen<'a> {
        Seen {
            kind: &self.kind,
            entry: self.entry(),
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
            match self.entry().part(role).filter(|_| wanted) {
                Some(part) => read_document(store, &self.index, part).await,
                None => Ok(None),
            }
        };
        let (object, content, access) =
            futures::try_join!(document(Role::Object), document(Role::Content), document(Role::Permissions))?;
        Ok(Documents { object, content, access })
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
    pub async fn read(store: &SharedStore, manifest: Manifest, blueprint: &dyn Blueprint) -> Result<Self> {
        let mut items: Vec<Held> = Vec::new();
        let mut by_key: HashMap<(Kind, String), usize> = HashMap::new();
        each_index(&**store, &manifest, &|_| true, |named, index| {
            let index = Arc::new(index);
            for (at, entry) in index.entries.iter().enumerate() {
                let place = (named.kind.clone(), entry.key.clone());
                let held = Held {
                    kind: named.kind.clone(),
                    index: Arc::clone(&index),
                    at,
                    identity: entry.name.clone(),
                    alias: None,
                };
                match by_key.get(&place) {
                    // One that moved while it was listed stands in two shards: what has more of it counts.
                    Some(&known) if items[known].entry().parts.len() >= entry.parts.len() => {}
                    Some(&known) => items[known] = held,
                    None => {
                        by_key.insert(place, items.len());
                        items.push(held);
                    }
                }
            }
            Ok(true)
        })
        .await?;
        let mut side =
            Self { manifest, items, by_key, by_identity: HashMap::new(), by_alias: HashMap::new() };
        side.identify(store, blueprint).await?;
        Ok(side)
    }

    /// Finds out the natural keys, which for some kinds stand in the object alone.
    async fn identify(&mut self, store: &SharedStore, blueprint: &dyn Blueprint) -> Result<()> {
        let told = self.items.iter().enumerate().map(|(number, item)| async move {
            let documents = if blueprint.is_named(&item.kind) && !blueprint.has_alias(&item.kind) {
                Documents::default()
            } else {
                let object = match item.entry().part(Role::Object) {
                    Some(part) => match read_document(store, &item.index, part).await {
                        // One hurt item is told when it is looked at.
                        Err(fault) if fault.class == Class::Integrity => None,
                        read => read?,
                    },
                    None => None,
                };
                Documents { object, ..Documents::default() }
            };
            let seen = item.seen(&documents);
            Ok((number, blueprint.identity(&seen), blueprint.alias(&seen)))
        });
        let told: Vec<_> = futures::stream::iter(told).buffered(READS).try_collect().await?;
        for (number, identity, alias) in told {
            let item = &mut self.items[number];
            self.by_identity.entry((item.kind.clone(), identity.clone())).or_default().push(number);
            if let Some(alias) = &alias {
                self.by_alias.insert((item.kind.clone(), alias.clone()), number);
            }
            (item.identity, item.alias) = (identity, alias);
        }
        Ok(())
    }

    /// The item with this key.
    pub fn keyed(&self, kind: &Kind, key: &str) -> Option<usize> {
        self.by_key.get(&(kind.clone(), key.to_owned())).copied()
    }

    /// The items with this natural key.
    pub fn identified(&self, kind: &Kind, identity: &str) -> &[usize] {
        self.by_identity.get(&(kind.clone(), identity.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The item that a reference means, where exactly one fits.
    pub fn meant(&self, kind: &Kind, by: By, text: &str) -> Option<usize> {
        match by {
            By::Key => self.keyed(kind, text),
            By::Alias => self.by_alias.get(&(kind.clone(), text.to_owned())).copied(),
            By::Place => {
                let borders = text.match_indices('/').map(|(at, _)| &text[..at]);
                let mut above: Vec<_> = borders.chain([text]).collect();
                above.reverse();
                above.into_iter().find_map(|place| {
                    let place = place.trim_end_matches('/');
                    let found = |place: String| self.by_alias.get(&(kind.clone(), place)).copied();
                    found(place.to_owned()).or_else(|| found(format!("{place}/")))
                })
            }
            By::Identity => match self.identified(kind, text) {
                [one] => Some(*one),
                [] if text.chars().any(char::is_uppercase) => {
                    match self.identified(kind, &text.to_lowercase()) {
                        [one] => Some(*one),
                        _ => None,
                    }
                }
                _ => None,
            },
        }
    }

    /// The fault of an item of which a side is missing.
    pub fn gap(item: &Held, role: Role) -> Option<String> {
        let gap = item.entry().gaps.iter().find(|gap| gap.role == role)?;
        let last = gap.last_good.map_or_else(
            || "no earlier snapshot has it".to_owned(),
            |good| format!("the last snapshot that has it is {}", good.short()),
        );
        Some(format!("the snapshot lacks its {}: {}; {last}", role.word(), gap.fault.message))
    }
}
