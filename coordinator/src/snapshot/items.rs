//! What is in a snapshot: its items, an index at a time, and the bytes of their parts, a frame at a time.
//!
//! Memory holds one page, one index and one frame, however large the snapshot is. Every hash on the way is checked.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use lakehold_proto::address::{Fit, ItemAddress, Which};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Entry, Index, IndexRef, Part, read_located};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::{Key, SharedStore, Store};
use sha2::{Digest as _, Sha256};

use super::{index, page};
use crate::output::shown;

/// An item, with the index that knows its packs.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its kind.
    pub kind: Kind,
    /// The item.
    pub entry: Entry,
    /// Where its frames lie.
    pub index: Arc<Index>,
}

/// Which indexes are looked at.
pub type Wanted<'a> = &'a (dyn Fn(&IndexRef) -> bool + Send + Sync);

/// Hands every index of a snapshot that is `wanted` to `each`, in the order of its pages. Stops early when `each` says so.
///
/// # Errors
/// `Integrity` when a page or an index is absent or damaged; the store's; and what `each` returns.
pub async fn each_index(
    store: &dyn Store,
    manifest: &Manifest,
    wanted: Wanted<'_>,
    mut each: impl FnMut(IndexRef, Index) -> Result<bool>,
) -> Result<()> {
    for named in &manifest.pages {
        for named in page(store, named).await?.indexes.into_iter().filter(|named| wanted(named)) {
            let read = index(store, &named).await?;
            if !each(named, read)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The one item that an address means. An item that moved while it was listed may stand in two shards; it is one item.
///
/// # Errors
/// `item.absent`, with what a person may have meant; `item.ambiguous`, listing the twins; and those of [`each_index`].
pub async fn find_item(store: &dyn Store, manifest: &Manifest, address: &ItemAddress) -> Result<Item> {
    let Some(which) = &address.which else {
        let detail = format!("{} is a kind; an item is wanted", address.kind);
        return Err(Fault::new(Class::Config, "item.unnamed", format!("find {address}"), detail)
            .hint(format!("write {}/NAME; `lakehold ls` lists the names", address.kind)));
    };
    let mut best: Vec<(Fit, Item)> = Vec::new();
    let mut near = Nearest::new(which);
    each_index(store, manifest, &|named| named.kind == address.kind, |named, read| {
        let read = Arc::new(read);
        for entry in &read.entries {
            near.look_at(&entry.name);
            let Some(fit) = which.fits(&entry.name, &entry.key) else { continue };
            if best.first().is_some_and(|(found, _)| *found > fit) {
                continue;
            }
            best.retain(|(found, item)| *found >= fit && item.entry.key != entry.key);
            best.push((
                fit,
                Item { kind: named.kind.clone(), entry: entry.clone(), index: Arc::clone(&read) },
            ));
        }
        Ok(true)
    })
    .await?;
    match best.len() {
        1 => best.pop().map(|(_, item)| item).ok_or_else(|| absent(manifest, address, &near)),
        0 => Err(absent(manifest, address, &near)),
        _ => Err(twins(address, &best)),
    }
}

fn absent(manifest: &Manifest, address: &ItemAddress, near: &Nearest<'_>) -> Fault {
    let fault = |detail: String| Fault::new(Class::Absent, "item.absent", format!("find {address}"), detail);
    match manifest.kinds.iter().find(|report| report.kind == address.kind) {
        None => {
            let known: Vec<_> = manifest.kinds.iter().map(|report| report.kind.as_str()).collect();
            fault(format!("{} is no kind of {}", address.kind, manifest.source))
                .hint(format!("its kinds are {}", known.join(", ")))
        }
        Some(report) if report.counts.items == 0 => {
            let standing = report.standing.word();
            fault(format!("the snapshot has no {} ({standing})", address.kind))
        }
        Some(_) => {
            let fault = fault("the snapshot has no such item".into());
            match &near.best {
                Some((_, name)) => fault.hint(format!("did you mean {}/{name}?", address.kind)),
                None => {
                    fault.hint(format!("`lakehold ls {}:{}` lists them", manifest.environment, address.kind))
                }
            }
        }
    }
}

fn twins(address: &ItemAddress, found: &[(Fit, Item)]) -> Fault {
    let all: Vec<_> = found
        .iter()
        .take(20)
        .map(|(_, item)| {
            let (name, key) = (item.entry.name.as_str(), item.entry.key.as_str());
            let several = found.iter().filter(|(_, other)| {
                Which::of_twin(name, key).fits(&other.entry.name, &other.entry.key).is_some()
            });
            // What a terminal would not show as it is could not be typed again.
            let plain = shown(name) == name;
            let which =
                if plain && several.count() == 1 { Which::of_twin(name, key) } else { Which::of_key(key) };
            format!("{}/{}", address.kind, which.as_str())
        })
        .collect();
    Fault::new(
        Class::Config,
        "item.ambiguous",
        format!("find {address}"),
        format!("it fits {} items", found.len()),
    )
    .hint(format!("name one of them: {}", all.join(", ")))
}

/// The name most like the one that was typed.
struct Nearest<'a> {
    typed: &'a str,
    best: Option<(f64, String)>,
}

impl<'a> Nearest<'a> {
    fn new(which: &'a Which) -> Self {
        Self { typed: which.as_str(), best: None }
    }

    fn look_at(&mut self, name: &str) {
        // Only names of about that length: the measure is quadratic, and names may be long.
        if name.len().abs_diff(self.typed.len()) > 4 || name.len() > 256 {
            return;
        }
        let score = strsim::jaro_winkler(self.typed, name);
        if score > self.best.as_ref().map_or(0.85, |(best, _)| *best) {
            self.best = Some((score, name.to_owned()));
        }
    }
}

/// The plain bytes of a part, a frame at a time. Each frame is checked before it is handed on; the hash over all of them
/// at the end, so a reader must see the stream end without an error before it trusts the whole.
pub fn read_part(store: SharedStore, index: Arc<Index>, part: Part) -> BoxStream<'static, Result<Bytes>> {
    let state = (store, index, part, 0_usize, Some(Sha256::new()));
    futures::stream::unfold(state, |(store, index, part, n, hasher)| async move {
        let mut hasher = hasher?;
        let Some(frame) = part.frames.get(n) else {
            let found = Hash::finish(hasher);
            let hurt = (found != part.sha256).then(|| Err(body_hurt(&part, found)))?;
            return Some((hurt, (store, index, part, n, None)));
        };
        let read = match index.locate(frame) {
            Ok(located) => read_located(&*store, &Key::pack(located.object), &located).await,
            Err(fault) => Err(fault),
        };
        let next = read.is_ok().then(|| {
            if let Ok(bytes) = &read {
                hasher.update(bytes);
            }
            hasher
        });
        Some((read, (store, index, part, n + 1, next)))
    })
    .boxed()
}

/// The fault of a body whose frames are each sound and together are not the body.
pub fn body_hurt(part: &Part, found: Hash) -> Fault {
    let detail = format!("its frames together hash to {found}, not to {}", part.sha256);
    Fault::new(Class::Integrity, "item.hash-mismatch", "read a part", detail)
}

/// The plain bytes of a part, whole: for objects and permissions, which are small.
///
/// # Errors
/// `Integrity` when they are damaged, `Unsupported` when the part is larger than `limit`; and the store's.
pub async fn read_whole(store: &SharedStore, item: &Item, part: &Part, limit: u64) -> Result<Bytes> {
    if part.size > limit {
        let detail = format!("it has {} bytes; {limit} are read whole", part.size);
        return Err(Fault::new(Class::Unsupported, "item.large", "read a part", detail));
    }
    let mut whole = Vec::with_capacity(part.size as usize);
    let mut frames = read_part(Arc::clone(store), Arc::clone(&item.index), part.clone());
    while let Some(frame) = frames.next().await {
        whole.extend_from_slice(&frame?);
    }
    Ok(whole.into())
}
