//! Indexes: the items of one shard, sorted by key; and pages: the indexes of a snapshot, sorted by who listed what.
//!
//! Both are JSON lines, compressed as one zstd frame and named by the hash of the compressed bytes. They hold no bodies
//! and nothing of the run, so equal shards of different snapshots are one object.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CANONICAL_RULE, Frame, Located, ZSTD_LEVEL, damaged, newer};
use crate::fault::{Class, Fault, FaultRecord, Result};
use crate::ids::{Hash, Kind, SnapshotId, TraceId};
use crate::outcome::Unlisted;
use crate::task::Shard;

/// The schema name of an index.
pub const INDEX_SCHEMA: &str = "lakehold.index/v1";
/// The schema name of a page.
pub const PAGE_SCHEMA: &str = "lakehold.page/v1";
/// Longest line a reader accepts: an entry of a 500 MB file in frames of 256 KiB, with room.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// The largest window, as a power of two, that a reader grants an index: eight megabytes.
const WINDOW_LOG: u32 = 23;

/// Which side of an item a part is: they are fetched at different times and stored apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What the API says the item is.
    Object,
    /// What is in it: a notebook's source, a file's bytes, a script.
    Content,
    /// Who may do what with it.
    Permissions,
    /// Rows.
    Data,
}

impl Role {
    /// The stable word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Content => "content",
            Self::Permissions => "permissions",
            Self::Data => "data",
        }
    }
}

/// One side of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which side.
    pub role: Role,
    /// Its plain bytes.
    pub size: u64,
    /// The hash of its plain bytes.
    pub sha256: Hash,
    /// The hash of its canonical form, where that differs from its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical: Option<Hash>,
    /// What form the bytes have, where a kind knows several: `source`, `jupyter`, `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Where its bytes lie, in order.
    pub frames: Vec<Frame>,
}

impl Part {
    /// What is compared to tell whether it changed.
    pub fn content(&self) -> Hash {
        self.canonical.unwrap_or(self.sha256)
    }
}

/// A side of an item that should be here and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Which side.
    pub role: Role,
    /// Why.
    pub fault: FaultRecord,
    /// The trace in which it happened.
    pub trace: TraceId,
    /// The last snapshot that has this side of the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<SnapshotId>,
}

/// One item of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The server's id where the vendor never uses one again, else the full path or full name. Unique within the kind.
    pub key: String,
    /// The natural key, used in addresses. Not unique: twins are told apart by key.
    pub name: String,
    /// The name of what it lies in: a directory, a schema, a secret scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What the list said by which a later run can tell that it did not change, where that can be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The hash of all its parts' content; absent when nothing of it was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Hash>,
    /// The version of the canonical rule that made `content`.
    pub rule: u32,
    /// What was captured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// In what lesser form than asked for it was captured, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// In the record of a restore: the key it has in the target now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub became: Option<String>,
}

impl Entry {
    /// An item of which nothing was captured yet.
    pub fn new(key: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            name: name.into(),
            parent: None,
            version: None,
            content: None,
            rule: CANONICAL_RULE,
            parts: Vec::new(),
            gaps: Vec::new(),
            degraded: Vec::new(),
            became: None,
        }
    }

    /// The part with this role.
    pub fn part(&self, role: Role) -> Option<&Part> {
        self.parts.iter().find(|p| p.role == role)
    }

    /// Plain bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.size).sum()
    }
}

/// Names a pack from an index, and says how its frames are sealed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackRef {
    /// The hash that names it.
    pub sha256: Hash,
    /// How its frames are encrypted; absent: not at all. A reader that does not know the word stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The zstd dictionary its frames were compressed with; absent: none. A reader that does not have it stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dictionary: Option<Hash>,
}

impl PackRef {
    /// A pack whose frames are compressed alone and not encrypted.
    pub const fn plain(sha256: Hash) -> Self {
        Self { sha256, cipher: None, dictionary: None }
    }
}

/// The first line of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `lakehold.index/v1`.
    pub schema: String,
    /// The kind of the items.
    pub kind: Kind,
    /// The slice.
    pub shard: Shard,
    /// The packs that frames refer to by position.
    pub packs: Vec<PackRef>,
    /// How many entries follow.
    pub entries: u64,
    /// Counts up where an equal object was found damaged and could not be overwritten. Means nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub variant: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// An index, read whole: shards are bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// What it is of.
    pub header: Header,
    /// The items, sorted by the bytes of their keys.
    pub entries: Vec<Entry>,
}

impl Index {
    /// The pack of a frame of this index.
    ///
    /// # Errors
    /// `Integrity` when the header does not list it, or when it is sealed in a way that this program does not know.
    pub fn pack(&self, frame: &Frame) -> Result<&PackRef> {
        frame.check()?;
        let pack = self.header.packs.get(frame.pack as usize).ok_or_else(|| {
            damaged(
                "read an index",
                format!("a frame names pack {} of {}", frame.pack, self.header.packs.len()),
            )
        })?;
        match (&pack.cipher, &pack.dictionary) {
            (None, None) => Ok(pack),
            (Some(cipher), _) => Err(sealed(format!("pack {} is encrypted as {cipher:?}", pack.sha256))),
            (_, Some(hash)) => Err(sealed(format!("pack {} needs the dictionary {hash}", pack.sha256))),
        }
    }

    /// Where a frame of this index lies.
    ///
    /// # Errors
    /// Those of [`Self::pack`].
    pub fn locate(&self, frame: &Frame) -> Result<Located> {
        self.pack(frame).map(|pack| frame.located(pack.sha256))
    }
}

fn sealed(detail: String) -> Fault {
    Fault::new(Class::Unsupported, "format.sealed", "open a pack", detail)
        .hint("a newer Lakehold wrote it: upgrade this one")
}

/// Names an index from a page or an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRef {
    /// The kind of the task that listed it (a walk that lists directories also finds notebooks).
    pub by: Kind,
    /// The kind of its items.
    pub kind: Kind,
    /// The slice.
    pub shard: Shard,
    /// The hash that names it.
    pub sha256: Hash,
    /// How many bytes the object has.
    pub size: u64,
    /// How many entries.
    pub entries: u64,
}

impl IndexRef {
    /// Reads the index that this names, and checks that it is what the name says.
    ///
    /// # Errors
    /// `Integrity` when it is not.
    pub fn read(&self, bytes: &[u8]) -> Result<Index> {
        let index = read_index(bytes)?;
        let header = &index.header;
        let agree = header.kind == self.kind && header.shard == self.shard && header.entries == self.entries;
        if !agree || bytes.len() as u64 != self.size {
            return Err(damaged(format!("read index {}", self.sha256), "it is not what its page says it is"));
        }
        Ok(index)
    }
}

/// Names a page from a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRef {
    /// The hash that names it, below `indexes/`.
    pub sha256: Hash,
    /// How many bytes the object has.
    pub size: u64,
    /// How many indexes it lists.
    pub indexes: u64,
    /// How many unlisted slices it lists.
    pub unlisted: u64,
    /// The `by` and the scope of its first line, by which a reader finds the page it needs.
    pub first: (Kind, String),
}

/// An index to be written.
#[derive(Clone, Debug)]
pub struct IndexDraft {
    by: Kind,
    header: Header,
    entries: Vec<Entry>,
}

impl IndexDraft {
    /// Sorts the entries and numbers the packs in the order of first use, so that the same items in the same packs give
    /// the same bytes. `packs` is what the frames' numbers mean so far.
    ///
    /// # Errors
    /// `Bug` when two entries have one key, or a frame's number is not in `packs`.
    pub fn new(
        by: &Kind,
        kind: &Kind,
        shard: &Shard,
        packs: &[PackRef],
        mut entries: Vec<Entry>,
    ) -> Result<Self> {
        entries.sort_by(|a, b| a.key.as_bytes().cmp(b.key.as_bytes()));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return Err(damaged(
                "write an index",
                format!("two items of kind {kind} have the key {:?}", pair[0].key),
            ));
        }
        let mut used = Vec::new();
        let mut numbers: HashMap<&PackRef, u32> = HashMap::new();
        for frame in entries.iter_mut().flat_map(|e| &mut e.parts).flat_map(|p| &mut p.frames) {
            let Some(pack) = packs.get(frame.pack as usize) else {
                return Err(damaged(
                    "write an index",
                    format!("a frame names pack {} of {}", frame.pack, packs.len()),
                ));
            };
            frame.pack = *numbers.entry(pack).or_insert_with(|| {
                used.push(pack.clone());
                used.len() as u32 - 1
            });
        }
        let header = Header {
            schema: INDEX_SCHEMA.into(),
            kind: kind.clone(),
            shard: shard.clone(),
            packs: used,
            entries: entries.len() as u64,
            variant: 0,
        };
        Ok(Self { by: by.clone(), header, entries })
    }

    /// The object, and how it is named.
    ///
    /// # Errors
    /// `Bug` when it cannot be written.
    pub fn write(&self) -> Result<(IndexRef, Bytes)> {
        let bytes = write_lines(&self.header, &self.entries)?;
        let index = IndexRef {
            by: self.by.clone(),
            kind: self.header.kind.clone(),
            shard: self.header.shard.clone(),
            sha256: Hash::of(&bytes),
            size: bytes.len() as u64,
            entries: self.header.entries,
        };
        Ok((index, bytes))
    }

    /// The same in another form, under another name: for when an equal object lies damaged in the store.
    pub fn vary(&mut self) {
        self.header.variant += 1;
    }
}

/// Reads an index.
///
/// # Errors
/// `Integrity` when the bytes are not one, are cut off, or are not sorted.
pub fn read_index(bytes: &[u8]) -> Result<Index> {
    let mut entries: Vec<Entry> = Vec::new();
    let header: Header = read_lines(bytes, INDEX_SCHEMA, |entry| entries.push(entry))?;
    if entries.len() as u64 != header.entries {
        return Err(damaged(
            "read an index",
            format!("it has {} entries and claims {}", entries.len(), header.entries),
        ));
    }
    if entries.windows(2).any(|pair| pair[0].key.as_bytes() >= pair[1].key.as_bytes()) {
        return Err(damaged("read an index", "its entries are not sorted by key"));
    }
    Ok(Index { header, entries })
}

/// The first line of a page.
#[derive(Serialize, Deserialize)]
struct PageHeader {
    schema: String,
    lines: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    variant: u32,
}

/// A line of a page.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PageLine {
    Index(IndexRef),
    Unlisted { by: Kind, slice: Unlisted },
}

/// Writes a page. Indexes come sorted by (`by`, scope, bucket, kind), unlisted slices behind them. Another `variant` gives
/// other bytes that mean the same: see [`IndexDraft::vary`].
///
/// # Errors
/// `Bug` when it cannot be written.
pub fn write_page(
    indexes: &[IndexRef],
    unlisted: &[(Kind, Unlisted)],
    variant: u32,
) -> Result<(PageRef, Bytes)> {
    let lines: Vec<_> = indexes
        .iter()
        .cloned()
        .map(PageLine::Index)
        .chain(unlisted.iter().cloned().map(|(by, slice)| PageLine::Unlisted { by, slice }))
        .collect();
    let header = PageHeader { schema: PAGE_SCHEMA.into(), lines: lines.len() as u64, variant };
    let bytes = write_lines(&header, &lines)?;
    let first = match lines.first() {
        Some(PageLine::Index(index)) => (index.by.clone(), index.shard.scope.clone()),
        Some(PageLine::Unlisted { by, slice }) => (by.clone(), slice.shard.scope.clone()),
        None => (Kind::of(""), String::new()),
    };
    let page = PageRef {
        sha256: Hash::of(&bytes),
        size: bytes.len() as u64,
        indexes: indexes.len() as u64,
        unlisted: unlisted.len() as u64,
        first,
    };
    Ok((page, bytes))
}

/// A page, read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its indexes, sorted by (`by`, scope, bucket, kind).
    pub indexes: Vec<IndexRef>,
    /// Its unlisted slices, with the kind of the task that met each.
    pub unlisted: Vec<(Kind, Unlisted)>,
}

/// Reads a page.
///
/// # Errors
/// `Integrity` when the bytes are not one.
pub fn read_page(bytes: &[u8]) -> Result<Page> {
    let mut page = Page::default();
    let header: PageHeader = read_lines(bytes, PAGE_SCHEMA, |line| match line {
        PageLine::Index(index) => page.indexes.push(index),
        PageLine::Unlisted { by, slice } => page.unlisted.push((by, slice)),
    })?;
    let found = (page.indexes.len() + page.unlisted.len()) as u64;
    if found != header.lines {
        return Err(damaged("read a page", format!("it has {found} lines and claims {}", header.lines)));
    }
    Ok(page)
}

fn write_lines(header: &impl Serialize, lines: &[impl Serialize]) -> Result<Bytes> {
    let bug = |e: serde_json::Error| damaged("write an index", e);
    let mut plain = serde_json::to_vec(header).map_err(bug)?;
    for line in lines {
        plain.push(b'\n');
        serde_json::to_writer(&mut plain, line).map_err(bug)?;
    }
    plain.push(b'\n');
    Ok(zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(|e| damaged("compress an index", e))?.into())
}

/// Reads lines one by one, so that a reader holds the compressed object and one line, not the whole text.
fn read_lines<H, L>(bytes: &[u8], schema: &str, mut each: impl FnMut(L)) -> Result<H>
where
    H: DeserializeOwned,
    L: DeserializeOwned,
{
    #[derive(Deserialize)]
    struct Schema {
        schema: String,
    }
    let context = "read an index";
    let mut decoder = zstd::stream::Decoder::with_buffer(bytes).map_err(|e| damaged(context, e))?;
    decoder.window_log_max(WINDOW_LOG).map_err(|e| damaged(context, e))?;
    let decoder = decoder.single_frame();
    let mut reader = BufReader::new(decoder);
    let mut header = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read =
            (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| damaged(context, e))?;
        if read == 0 {
            break;
        }
        if line.pop() != Some(b'\n') {
            return Err(damaged(context, "its last line is cut off"));
        }
        if header.is_some() {
            each(serde_json::from_slice(&line).map_err(|e| damaged(context, e))?);
            continue;
        }
        let found: Schema = serde_json::from_slice(&line).map_err(|e| damaged(context, e))?;
        if found.schema != schema {
            return Err(newer(context, &found.schema, schema));
        }
        header = Some(serde_json::from_slice(&line).map_err(|e| damaged(context, e))?);
    }
    header.ok_or_else(|| damaged(context, "it is empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, pack: u32) -> Entry {
        let frame = Frame { pack, offset: 8, length: 3, size: 5, sha256: Hash::of(key) };
        let part = Part {
            role: Role::Object,
            size: 5,
            sha256: Hash::of(key),
            canonical: None,
            format: None,
            frames: vec![frame],
        };
        Entry { parts: vec![part], ..Entry::new(key, key) }
    }

    fn write(packs: &[Hash], entries: Vec<Entry>) -> Result<(IndexRef, Bytes)> {
        let packs: Vec<_> = packs.iter().copied().map(PackRef::plain).collect();
        IndexDraft::new(&Kind::of("job"), &Kind::of("job"), &Shard::whole(), &packs, entries)?.write()
    }

    #[test]
    fn the_same_items_give_the_same_bytes_however_they_came() {
        let (a, b) = (Hash::of("a"), Hash::of("b"));
        let one = write(&[a, b], vec![entry("x", 0), entry("y", 1)]).unwrap();
        let two = write(&[b, Hash::of("unused"), a], vec![entry("y", 0), entry("x", 2)]).unwrap();
        assert_eq!(one, two);
        let index = read_index(&one.1).unwrap();
        assert_eq!(index.header.packs, [PackRef::plain(a), PackRef::plain(b)]);
        assert_eq!(index.locate(&index.entries[1].parts[0].frames[0]).unwrap().object, b);
    }

    #[test]
    fn doubled_keys_and_unknown_packs_are_refused() {
        assert!(write(&[Hash::of("a")], vec![entry("x", 0), entry("x", 0)]).is_err());
        assert!(write(&[], vec![entry("x", 0)]).is_err());
    }

    #[test]
    fn a_cut_or_foreign_index_is_damage() {
        let (_, bytes) =
            write(&[Hash::of("a")], (0..200).map(|n| entry(&format!("{n:03}"), 0)).collect()).unwrap();
        assert_eq!(read_index(&bytes).unwrap().entries.len(), 200);
        for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(read_index(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(read_page(&bytes).is_err(), "an index is no page");
        assert!(read_index(b"hello").is_err());
    }

    #[test]
    fn hostile_names_survive() {
        let names =
            ["../../etc/passwd", "a\nb", "nul\0", "\u{202e}rtl", "🦆", "é", "e\u{301}", &"x".repeat(4096)];
        let entries = names.iter().map(|n| entry(n, 0)).collect();
        let (_, bytes) = write(&[Hash::of("a")], entries).unwrap();
        let read: Vec<_> = read_index(&bytes).unwrap().entries.into_iter().map(|e| e.name).collect();
        assert!(names.iter().all(|n| read.iter().any(|r| r == n)));
    }
}
