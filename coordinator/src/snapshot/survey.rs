//! Surveys a snapshot: its content root, and how its items compare with the base snapshot's, in bounded memory.
//!
//! Items are hashed into a fixed space (see [`RootLine`]), which is gone through in ranges: each pass reads all indexes and
//! keeps only the lines of its range, so memory does not grow with the snapshot. Commit and verify share this function.

use std::collections::{BTreeMap, HashMap, HashSet};

use lakehold_proto::fault::Result;
use lakehold_proto::format::{ContentRoot, Entry, PageRef, RootLine};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::manifest::{Counts, Manifest};
use lakehold_proto::outcome::Unlisted;
use lakehold_proto::plan::EnvPlan;
use lakehold_proto::store::Store;

use super::{index, page};

/// Lines of one snapshot kept in memory at once: about eight megabytes.
const LINES: u64 = 65_536;

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
    let passes = entries(store, pages).await?.max(entries(store, base_pages).await?).div_ceil(LINES).max(1);
    let mut counts = BTreeMap::new();
    let mut root = ContentRoot::default();
    let mut kinds = Kinds::default();
    for pass in 0..passes {
        let range = Range { pass, passes };
        let mut lines = Vec::new();
        each(store, pages, |kind, entry| {
            lines.extend(range.keep(Line::new(kinds.number(kind), kind, entry)));
        })
        .await?;
        for (kind, root) in unknown.slices.iter().filter(|(_, root)| range.holds(root)) {
            lines.push(Line::of_slice(kinds.number(kind), *root));
        }
        let lines = in_order(lines);
        let mut before = Vec::new();
        each(store, base_pages, |kind, entry| {
            let line = Line::new(kinds.number(kind), kind, entry);
            before.extend(range.keep(Line { unknown: unknown.covers(kind, entry), ..line }));
        })
        .await?;
        lines.iter().for_each(|line| root.push(&line.root));
        let looked_for = |number| {
            kinds.named(number).is_some_and(|kind| against.is_some_and(|against| against.looked_for(kind)))
        };
        count(&lines, &in_order(before), looked_for, &mut counts);
    }
    let named = |(number, counted)| kinds.named(number).map(|kind| (kind.clone(), counted));
    Ok(Survey { content_root: root.finish(), counts: counts.into_iter().filter_map(named).collect() })
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

/// One item, as much of it as is needed to hash and to count it. There are many at once: it is kept small.
#[derive(Clone, Copy, Debug)]
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

fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
    // Stable: of lines that are wholly alike the first in the order of the pages counts.
    lines.sort_by_key(|line| line.root.precedence());
    lines.dedup_by_key(|line| line.root.id);
    lines
}

#[derive(Clone, Copy)]
struct Range {
    pass: u64,
    passes: u64,
}

impl Range {
    fn holds(self, line: &RootLine) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = line.id;
        let position = u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        (position * u128::from(self.passes)) >> 64 == u128::from(self.pass)
    }

    fn keep(self, line: Line) -> Option<Line> {
        self.holds(&line.root).then_some(line)
    }
}

fn count(
    lines: &[Line],
    before: &[Line],
    looked_for: impl Fn(u32) -> bool,
    counts: &mut BTreeMap<u32, Counts>,
) {
    let mut before = before.iter().peekable();
    let gone = |line: &Line, counts: &mut BTreeMap<u32, Counts>| {
        if !line.unknown && looked_for(line.kind) {
            counts.entry(line.kind).or_default().gone += 1;
        }
    };
    for line in lines {
        while let Some(missed) = before.next_if(|earlier| earlier.root.id < line.root.id) {
            gone(missed, counts);
        }
        let counted = counts.entry(line.kind).or_default();
        counted.add(&line.counts());
        match before.next_if(|earlier| earlier.root.id == line.root.id) {
            // Of an item that was not read, or not read before, nobody knows whether it changed.
            Some(earlier) if line.gap || earlier.gap => {}
            Some(earlier) => counted.changed += u64::from(earlier.root.content != line.root.content),
            None => counted.new += u64::from(line.item),
        }
    }
    before.for_each(|missed| gone(missed, counts));
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

async fn entries(store: &dyn Store, pages: &[PageRef]) -> Result<u64> {
    let mut sum = 0;
    for named in pages {
        sum += page(store, named).await?.indexes.iter().map(|index| index.entries).sum::<u64>();
    }
    Ok(sum)
}

/// Reads every entry, an index at a time.
async fn each(store: &dyn Store, pages: &[PageRef], mut take: impl FnMut(&Kind, &Entry)) -> Result<()> {
    for named in pages {
        for named in page(store, named).await?.indexes {
            let read = index(store, &named).await?;
            read.entries.iter().for_each(|entry| take(&named.kind, entry));
        }
    }
    Ok(())
}
