//! Surveys a snapshot: its content root, and how its items compare with the base snapshot's, in bounded memory.
//!
//! Items are hashed into a fixed space (see [`RootLine`]) and sorted there, where they lie in another order than in the
//! indexes; every index is read once. Commit and verify share this function.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::Peekable;

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::Result;
use lakehold_proto::format::{ContentRoot, Entry, PageRef, RootLine};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::manifest::{Counts, Manifest};
use lakehold_proto::outcome::Unlisted;
use lakehold_proto::plan::EnvPlan;
use lakehold_proto::store::Store;
use serde::{Deserialize, Serialize};

use super::{index, page};
use crate::spill::{Sorted, Spill};

/// Lines of one snapshot kept in memory at once: about a megabyte.
const LINES: usize = 8_192;
/// Indexes read from the store at once.
const READS: usize = 8;

/// What a survey found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The content root.
    pub content_root: Hash,
    /// Items by kind. `unlisted` is left at zero: slices are not items.
    pub counts: BTreeMap<Kind, Counts>,
}

/// What a snapshot is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Against<'a> {
    /// The base snapshot.
    pub base: &'a Manifest,
    /// What the new snapshot was to look at. An item of the base that was not met is gone only if it was looked for: not
    /// when its kind was left out, nor when only some paths were asked for.
    pub plan: &'a EnvPlan,
}

impl Against<'_> {
    fn looked_for(&self, kind: &Kind) -> bool {
        self.plan.selection.paths.is_empty() && !self.plan.excluded.contains_key(kind)
    }
}

/// Surveys the snapshot whose pages these are.
///
/// # Errors
/// The store's; `Integrity` when something that is named is absent or damaged.
pub async fn survey(store: &dyn Store, pages: &[PageRef], against: Option<Against<'_>>) -> Result<Survey> {
    let base_pages = against.map_or(&[][..], |against| &against.base.pages);
    let unknown = Unknown::read(store, pages).await?;
    let mut kinds = Kinds::default();
    let mut lines = Spill::new(LINES);
    each(store, pages, |kind, entry| lines.push(Line::new(kinds.number(kind), kind, entry))).await?;
    for (kind, root) in &unknown.slices {
        lines.push(Line::of_slice(kinds.number(kind), *root))?;
    }
    let mut before = Spill::new(LINES);
    each(store, base_pages, |kind, entry| {
        let line = Line::new(kinds.number(kind), kind, entry);
        before.push(Line { unknown: unknown.covers(kind, entry), ..line })
    })
    .await?;
    let looked_for = |number| {
        kinds.named(number).is_some_and(|kind| against.is_some_and(|against| against.looked_for(kind)))
    };
    let (content_root, counts) = compare(Lines::of(lines)?, Lines::of(before)?, looked_for)?;
    let named = |(number, counted)| kinds.named(number).map(|kind| (kind.clone(), counted));
    Ok(Survey { content_root, counts: counts.into_iter().filter_map(named).collect() })
}

/// The kinds met, so that a line needs not name its own.
#[derive(Debug, Default)]
struct Kinds(Vec<Kind>);

impl Kinds {
    fn number(&mut self, kind: &Kind) -> u32 {
        let known = self.0.iter().position(|known| known == kind);
        known.unwrap_or_else(|| {
            self.0.push(kind.clone());
            self.0.len() - 1
        }) as u32
    }

    fn named(&self, number: u32) -> Option<&Kind> {
        self.0.get(number as usize)
    }
}

/// One item, as much of it as is needed to hash and to count it. There are many: it is kept small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Line {
    root: RootLine,
    bytes: u64,
    /// A number of [`Kinds`].
    kind: u32,
    /// False for a slice that was not listed: it is hashed, not counted.
    item: bool,
    gap: bool,
    degraded: bool,
    /// For items of the base: whether the slice it lay in is unknown now.
    unknown: bool,
}

impl Line {
    fn new(number: u32, kind: &Kind, entry: &Entry) -> Self {
        Self {
            root: RootLine::of_entry(kind, entry),
            bytes: entry.bytes(),
            kind: number,
            item: true,
            gap: !entry.gaps.is_empty(),
            degraded: !entry.degraded.is_empty(),
            unknown: false,
        }
    }

    fn of_slice(kind: u32, root: RootLine) -> Self {
        Self { root, bytes: 0, kind, item: false, gap: false, degraded: false, unknown: false }
    }

    fn counts(&self) -> Counts {
        Counts {
            items: u64::from(self.item),
            gaps: u64::from(self.gap),
            degraded: u64::from(self.degraded),
            bytes: self.bytes,
            ..Counts::default()
        }
    }
}

/// Lines in order, each id once.
struct Lines(Peekable<Sorted<Line>>);

impl Lines {
    fn of(lines: Spill<Line>) -> Result<Self> {
        Ok(Self(lines.sorted()?.peekable()))
    }

    /// The next line, if `wanted` wants it.
    fn next_if(&mut self, wanted: impl Fn(&Line) -> bool) -> Result<Option<Line>> {
        let Some(line) = self.0.next_if(|next| next.as_ref().map_or(true, &wanted)).transpose()? else {
            return Ok(None);
        };
        while self.0.next_if(|next| next.as_ref().is_ok_and(|next| next.root.id == line.root.id)).is_some() {}
        Ok(Some(line))
    }
}

/// Hashes and counts the lines, beside those of the base.
fn compare(
    mut lines: Lines,
    mut before: Lines,
    looked_for: impl Fn(u32) -> bool,
) -> Result<(Hash, BTreeMap<u32, Counts>)> {
    let mut root = ContentRoot::default();
    let mut counts: BTreeMap<u32, Counts> = BTreeMap::new();
    let gone = |line: &Line, counts: &mut BTreeMap<u32, Counts>| {
        if !line.unknown && looked_for(line.kind) {
            counts.entry(line.kind).or_default().gone += 1;
        }
    };
    while let Some(line) = lines.next_if(|_| true)? {
        root.push(&line.root);
        while let Some(missed) = before.next_if(|earlier| earlier.root.id < line.root.id)? {
            gone(&missed, &mut counts);
        }
        let counted = counts.entry(line.kind).or_default();
        counted.add(&line.counts());
        match before.next_if(|earlier| earlier.root.id == line.root.id)? {
            // Of an item that was not read, or not read before, nobody knows whether it changed.
            Some(earlier) if line.gap || earlier.gap => {}
            Some(earlier) => counted.changed += u64::from(earlier.root.content != line.root.content),
            None => counted.new += u64::from(line.item),
        }
    }
    while let Some(missed) = before.next_if(|_| true)? {
        gone(&missed, &mut counts);
    }
    Ok((root.finish(), counts))
}

/// Slices that were not listed: whatever the base snapshot has in them is unknown now.
#[derive(Debug, Default)]
pub(crate) struct Unknown {
    slices: Vec<(Kind, RootLine)>,
    /// By kind. Buckets are passed over: what an item carries lies in that item's bucket, so the whole scope is unknown.
    scopes: HashMap<Kind, HashSet<String>>,
}

impl Unknown {
    pub(crate) async fn read(store: &dyn Store, pages: &[PageRef]) -> Result<Self> {
        let mut unknown = Self::default();
        for named in pages.iter().filter(|page| page.unlisted > 0) {
            for (_, slice) in page(store, named).await?.unlisted {
                slice.kinds.iter().for_each(|kind| unknown.add(kind, &slice));
            }
        }
        Ok(unknown)
    }

    fn add(&mut self, kind: &Kind, slice: &Unlisted) {
        self.slices.push((kind.clone(), RootLine::of_unlisted(kind, slice)));
        let scopes = self.scopes.entry(kind.clone()).or_default();
        scopes.insert(slice.shard.scope.clone());
    }

    /// Whether the item lies in one of the slices: its name is, or lies below, the slice's scope.
    pub(crate) fn covers(&self, kind: &Kind, entry: &Entry) -> bool {
        let Some(scopes) = self.scopes.get(kind) else { return false };
        let name = &entry.name;
        let borders = name.char_indices().filter(|(_, c)| matches!(c, '/' | '.')).map(|(at, _)| &name[..at]);
        let root = name.starts_with('/').then_some("/");
        let mut above = borders.chain([name.as_str()]).chain(root);
        // The empty scope is all of the kind; for a path the first border gives it, for other names it is asked here.
        scopes.contains("") || above.any(|scope| scopes.contains(scope))
    }
}

/// Reads every entry, in the order of the pages.
async fn each(
    store: &dyn Store,
    pages: &[PageRef],
    mut take: impl FnMut(&Kind, &Entry) -> Result<()>,
) -> Result<()> {
    for named in pages {
        let indexes = page(store, named).await?.indexes.into_iter();
        let reads = indexes.map(|named| async move { Ok((index(store, &named).await?, named.kind)) });
        let mut read = futures::stream::iter(reads).buffered(READS);
        while let Some((index, kind)) = read.try_next().await? {
            index.entries.iter().try_for_each(|entry| take(&kind, entry))?;
        }
    }
    Ok(())
}
