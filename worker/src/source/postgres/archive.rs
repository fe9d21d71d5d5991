//! Reads what `pg_dump -Fc` writes, as it flows: the table of contents, then block after block. Of one dump of many tables
//! each becomes an archive of its own: its *head* (the dump's own, with the entries of that table alone) and its *rows* (its
//! block). Head and rows, one after the other, are what `pg_restore` reads.
//!
//! The format is that of PostgreSQL's `pg_backup_archiver.c` and `pg_backup_custom.c`, versions 1.14 (PostgreSQL 12 to 15),
//! 1.15 (16) and 1.16 (17, 18); a newer one is refused. Nothing is compressed: `-Z0`.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Hash;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// What is read at once. The copy of it that goes on is small enough for the allocator to have it at hand.
const READ: usize = 96 * 1024;
/// The longest text of a table of contents that is believed.
const LONGEST: i64 = 1 << 30;
/// The kind of block that holds the rows of a table.
const ROWS: u8 = 1;

/// One entry of a table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number in this dump: it means nothing in another.
    pub(super) id: i32,
    /// The server's id of what it is about, in digits.
    pub(super) oid: String,
    /// What it is, such as `TABLE DATA`.
    pub(super) what: String,
    /// The name.
    pub(super) tag: String,
    /// The schema.
    pub(super) schema: String,
    /// The entries without which it cannot be.
    pub(super) needs: Vec<i32>,
    /// Where its texts lie in `raw`.
    texts: Texts,
    /// All that stays the same from dump to dump while nobody changes it.
    lasting: Hash,
    raw: Vec<u8>,
}

/// See [`Entry`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Texts {
    definition: Range<usize>,
    copy: Range<usize>,
    tablespace: Range<usize>,
    method: Range<usize>,
    owner: Range<usize>,
}

/// A dump on its way in.
#[derive(Debug)]
pub(super) struct Archive<R> {
    from: BufReader<R>,
    /// The bytes before the number of entries.
    preface: Vec<u8>,
    /// The table of contents.
    pub(super) entries: Vec<Entry>,
    scanner: Scanner,
}

/// A block that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Of which entry.
    pub(super) id: i32,
    is_rows: bool,
    raw: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Archive<R> {
    /// Reads the table of contents.
    ///
    /// # Errors
    /// `Unavailable` (`pg.archive`) when it breaks off before its end; `Unsupported` when it is none that is known here.
    pub(super) async fn open(from: R) -> Result<Self> {
        let mut reading = Reading { from: BufReader::with_capacity(READ, from), taken: Vec::new() };
        let magic = reading.take(11).await?;
        let [major, minor, int_size, format] = [magic[5], magic[6], magic[8], magic[10]];
        let known = &magic[..5] == b"PGDMP" && (1, 14) <= (major, minor) && (major, minor) <= (1, 16);
        if !known || int_size != 4 || format != 1 {
            let detail = format!("version {major}.{minor} of its format is not known here");
            return Err(Fault::new(Class::Unsupported, "pg.archive-format", "read a dump", detail)
                .hint("upgrade lakehold, or name the folder of an older pg_dump: `programs:`"));
        }
        // Compression, and when it was made: seven numbers of a calendar.
        if minor >= 15 {
            reading.take(1).await?
        } else {
            reading.take(5).await?
        };
        for _ in 0..7 {
            reading.int().await?;
        }
        for _ in ["database", "server's version", "program's version"] {
            reading.text().await?;
        }
        let preface = std::mem::take(&mut reading.taken);
        let count = reading.int().await?;
        reading.taken.clear();
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(reading.entry(minor).await?);
        }
        Ok(Self { from: reading.from, preface, entries, scanner: Scanner::default() })
    }

    /// The next block; `None` at the end of the archive.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn block(&mut self) -> Result<Option<Block>> {
        if self.from.fill_buf().await.map_err(broken)?.is_empty() {
            return Ok(None);
        }
        let mut raw = vec![0; 6];
        self.from.read_exact(&mut raw).await.map_err(broken)?;
        self.scanner = Scanner::default();
        Ok(Some(Block { id: int(&raw[1..])?, is_rows: raw[0] == ROWS, raw }))
    }

    /// A piece of the rows of the block that was begun; `None` behind the last.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn rows(&mut self) -> Result<Option<Bytes>> {
        if self.scanner.ended {
            return Ok(None);
        }
        let read = self.from.fill_buf().await.map_err(broken)?;
        if read.is_empty() {
            return Err(broken("it ends within a block"));
        }
        let length = self.scanner.scan(read)?;
        let piece = Bytes::copy_from_slice(&read[..length]);
        self.from.consume(length);
        Ok(Some(piece))
    }

    /// How many rows the block had, once it ended.
    pub(super) fn counted(&self) -> u64 {
        self.scanner.rows
    }

    /// A piece of all that is left, whatever it is; `None` at the end.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn rest(&mut self) -> Result<Option<Bytes>> {
        let read = self.from.fill_buf().await.map_err(broken)?;
        if read.is_empty() {
            return Ok(None);
        }
        let piece = Bytes::copy_from_slice(read);
        let length = read.len();
        self.from.consume(length);
        Ok(Some(piece))
    }

    /// The head of an archive of a table's rows alone, for a table that is called otherwise: `table` is SQL.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn head_for(mut self, table: &str) -> Result<Bytes> {
        let mut entries = Vec::new();
        for entry in &self.entries {
            if entry.is_rows() {
                entries.push(entry.rows_for(table).ok_or_else(|| broken("its rows are for no table"))?);
            } else if entry.is_setting() {
                entries.push(entry.raw.clone());
            }
        }
        let mut head = std::mem::take(&mut self.preface);
        head.push(0);
        head.extend((entries.len() as u32).to_le_bytes());
        entries.into_iter().for_each(|entry| head.extend(entry));
        while let Some(piece) = self.rest().await? {
            head.extend(piece);
        }
        Ok(head.into())
    }

    /// The head of an archive of those entries that are wanted, up to where the rows of `block` begin; and the hash of what of
    /// it lasts from dump to dump.
    pub(super) fn head(&self, block: Option<&Block>, wanted: impl Fn(&Entry) -> bool) -> (Bytes, Hash) {
        let wanted: Vec<_> =
            self.entries.iter().filter(|entry| entry.is_setting() || wanted(entry)).collect();
        let mut head = self.preface.clone();
        head.push(0);
        head.extend((wanted.len() as u32).to_le_bytes());
        let mut lasting = Sha256::new();
        for entry in wanted {
            head.extend_from_slice(&entry.raw);
            lasting.update(entry.lasting.bytes());
        }
        head.extend(block.map(|block| block.raw.as_slice()).unwrap_or_default());
        (head.into(), Hash::finish(lasting))
    }
}

impl Entry {
    /// Whether it tells how the others are to be read.
    fn is_setting(&self) -> bool {
        matches!(self.what.as_str(), "ENCODING" | "STDSTRINGS" | "SEARCHPATH")
    }

    /// Whether it holds the rows of a table.
    pub(super) fn is_rows(&self) -> bool {
        self.what == "TABLE DATA"
    }

    /// The SQL that makes it.
    pub(super) fn definition(&self) -> Cow<'_, str> {
        self.text(&self.texts.definition)
    }

    /// Where it lies; empty where that is the database's own place.
    pub(super) fn tablespace(&self) -> Cow<'_, str> {
        self.text(&self.texts.tablespace)
    }

    /// How a table keeps its rows; empty of what has none.
    pub(super) fn method(&self) -> Cow<'_, str> {
        self.text(&self.texts.method)
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Cow<'_, str> {
        self.text(&self.texts.owner)
    }

    fn text(&self, at: &Range<usize>) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.raw[at.clone()])
    }

    /// The same rows, for a table that is called otherwise: `table` is SQL.
    fn rows_for(&self, table: &str) -> Option<Vec<u8>> {
        let copy = std::str::from_utf8(&self.raw[self.texts.copy.clone()]).ok()?;
        let rest = copy.strip_prefix("COPY ")?;
        let copy = format!("COPY {table}{}", &rest[qualified(rest)?..]);
        let mut raw = self.raw[..self.texts.copy.start - 5].to_vec();
        raw.push(0);
        raw.extend((copy.len() as u32).to_le_bytes());
        raw.extend(copy.as_bytes());
        raw.extend(&self.raw[self.texts.copy.end..]);
        Some(raw)
    }

    /// Whether it tells where a sequence stands.
    pub(super) fn is_sequence(&self) -> bool {
        self.what == "SEQUENCE SET"
    }
}

impl Block {
    /// Whether it holds the rows of a table.
    pub(super) fn is_rows(&self) -> bool {
        self.is_rows
    }
}

/// Reads numbers and texts, and keeps what it read.
struct Reading<R> {
    from: BufReader<R>,
    taken: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reading<R> {
    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).await.map_err(broken)?;
        self.taken.extend_from_slice(&bytes);
        Ok(bytes)
    }

    async fn int(&mut self) -> Result<i32> {
        int(&self.take(5).await?)
    }

    async fn text(&mut self) -> Result<Option<String>> {
        let at = self.span().await?;
        Ok(at.map(|at| String::from_utf8_lossy(&self.taken[at]).into_owned()))
    }

    /// Where a text lies in what was taken.
    async fn span(&mut self) -> Result<Option<Range<usize>>> {
        let length = i64::from(self.int().await?);
        if length < 0 {
            return Ok(None);
        }
        if length > LONGEST {
            return Err(broken("a text in it is too long to be one"));
        }
        let begin = self.taken.len();
        self.take(length as usize).await?;
        Ok(Some(begin..self.taken.len()))
    }

    async fn entry(&mut self, minor: u8) -> Result<Entry> {
        let id = self.int().await?;
        self.int().await?;
        self.text().await?;
        let oid = self.text().await?.unwrap_or_default();
        let [tag, what] = [self.text().await?.unwrap_or_default(), self.text().await?.unwrap_or_default()];
        let section = self.int().await?;
        let [definition, _drop, copy] = [self.span().await?, self.span().await?, self.span().await?];
        let schema = self.text().await?.unwrap_or_default();
        let [tablespace, method] = [self.span().await?, self.span().await?];
        if minor >= 16 {
            self.int().await?;
        }
        let owner = self.span().await?;
        // Whether rows had object ids: not since PostgreSQL 12.
        self.text().await?;
        let mut needs = Vec::new();
        while let Some(needed) = self.text().await? {
            needs.push(needed.parse().map_err(|_| broken("a number in it is none"))?);
        }
        // Where its block lies, which what is written to a pipe does not know.
        self.take(9).await?;
        let [definition, copy, tablespace, method, owner] =
            [definition, copy, tablespace, method, owner].map(Option::unwrap_or_default);
        let texts = Texts { definition, copy, tablespace, method, owner };
        let raw = std::mem::take(&mut self.taken);
        let mut lasting = Sha256::new();
        for text in [
            tag.as_bytes(),
            what.as_bytes(),
            &raw[texts.definition.clone()],
            &raw[texts.copy.clone()],
            schema.as_bytes(),
            &raw[texts.tablespace.clone()],
            &raw[texts.method.clone()],
            &raw[texts.owner.clone()],
        ] {
            lasting.update((text.len() as u64).to_le_bytes());
            lasting.update(text);
        }
        lasting.update(section.to_le_bytes());
        Ok(Entry { id, oid, what, tag, schema, needs, texts, lasting: Hash::finish(lasting), raw })
    }
}

/// How long the name is that SQL begins with, with the schema before it. `None` where it begins with none.
pub(super) fn qualified(sql: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = &sql[at..];
        at += match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut end = 0;
                loop {
                    end += quoted[end..].find('"')? + 1;
                    if !quoted[end..].starts_with('"') {
                        break end + 1;
                    }
                    end += 1;
                }
            }
            None => {
                let ends = |c: char| c.is_whitespace() || "\".(;,".contains(c);
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        if at == 0 || !sql[at..].starts_with('.') {
            return (at > 0).then_some(at);
        }
        at += 1;
    }
}

/// What `pg_dump` writes behind the last row of a table, so that a script of it could be read by `psql`. No row looks like it.
const LAST: &[u8] = b"\\.\n\n\n";

/// Follows the chunks of a block: each begins with its length, and one of length zero ends them. `pg_dump` ends a block only
/// when the server said that all rows were sent. Every row of a `COPY` in text ends with the only newline in it.
#[derive(Debug, Default)]
struct Scanner {
    length: Vec<u8>,
    left: usize,
    rows: u64,
    /// The last bytes of the rows.
    last: Vec<u8>,
    ended: bool,
}

impl Scanner {
    /// How many of these bytes belong to the block.
    fn scan(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        while at < bytes.len() && !self.ended {
            if self.left > 0 {
                let end = bytes.len().min(at + self.left);
                self.follow(&bytes[at..end]);
                self.left -= end - at;
                at = end;
                continue;
            }
            let more = bytes.len().min(at + 5 - self.length.len());
            self.length.extend_from_slice(&bytes[at..more]);
            at = more;
            if self.length.len() == 5 {
                let length = int(&self.length)?;
                self.left = usize::try_from(length).map_err(|_| broken("a chunk in it has no length"))?;
                self.ended = length == 0;
                self.length.clear();
            }
        }
        if self.ended {
            if self.last != LAST {
                return Err(broken("the rows of a table do not end as they should"));
            }
            self.rows -= newlines(LAST);
            self.last.clear();
        }
        Ok(at)
    }

    fn follow(&mut self, rows: &[u8]) {
        self.rows += newlines(rows);
        let end = &rows[rows.len().saturating_sub(LAST.len())..];
        // Mostly a row, which is longer.
        self.last.drain(..(self.last.len() + end.len()).saturating_sub(LAST.len()));
        self.last.extend_from_slice(end);
    }
}

/// How many there are. Counted in bytes as long as one can hold the number: so many of them are compared at once.
fn newlines(rows: &[u8]) -> u64 {
    let count =
        |some: &[u8]| some.iter().fold(0_u8, |count, &byte| count.wrapping_add(u8::from(byte == b'\n')));
    rows.chunks(usize::from(u8::MAX)).map(|some| u64::from(count(some))).sum()
}

/// A sign, then four bytes, the least first.
fn int(bytes: &[u8]) -> Result<i32> {
    let &[sign, a, b, c, d] = bytes else { return Err(broken("a number in it is none")) };
    let number = i64::from(u32::from_le_bytes([a, b, c, d]));
    i32::try_from(if sign == 0 { number } else { -number }).map_err(|_| broken("a number in it is none"))
}

fn broken(why: impl std::fmt::Display) -> Fault {
    Fault::new(Class::Unavailable, "pg.archive", "read a dump", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: i32) -> Vec<u8> {
        let mut bytes = vec![u8::from(n < 0)];
        bytes.extend(n.unsigned_abs().to_le_bytes());
        bytes
    }

    fn text(text: Option<&str>) -> Vec<u8> {
        text.map_or_else(|| number(-1), |text| [number(text.len() as i32), text.into()].concat())
    }

    /// An archive as version 1.`minor` has it, made at `when`, of tables `a` and `b` whose entries are numbered from `first`.
    fn archive(minor: u8, when: i32, first: i32) -> Vec<u8> {
        let mut bytes = [b"PGDMP".as_slice(), &[1, minor, 0, 4, 8, 1]].concat();
        bytes.extend(if minor >= 15 { vec![0] } else { number(0) });
        bytes.extend([when, 0, 0, 1, 0, 126, 0].map(number).concat());
        bytes.extend([Some("shop"), Some("15.1"), Some("15.1")].map(text).concat());
        let entry = |id, oid: &str, tag: &str, what: &str, definition: &str| {
            let mut entry = [number(id), number(1), text(Some("0")), text(Some(oid))].concat();
            entry.extend([Some(tag), Some(what)].map(text).concat());
            entry.extend(number(3));
            entry.extend(
                [Some(definition), None, Some("COPY"), Some("public"), None, None].map(text).concat(),
            );
            entry.extend(if minor >= 16 { number(114) } else { Vec::new() });
            entry.extend([Some("me"), Some("false"), Some("7"), None].map(text).concat());
            [entry, vec![2; 1], vec![0; 8]].concat()
        };
        bytes.extend(number(4));
        bytes.extend(entry(first, "0", "ENCODING", "ENCODING", "SET"));
        bytes.extend(entry(first + 1, "11", "a", "TABLE DATA", ""));
        bytes.extend(entry(first + 2, "12", "b", "TABLE DATA", ""));
        bytes.extend(entry(first + 3, "0", "a_id", "SEQUENCE SET", "setval"));
        for (id, rows) in [(first + 1, vec!["1\tx\n", "2\ty\n"]), (first + 2, vec![])] {
            bytes.push(ROWS);
            bytes.extend(number(id));
            rows.iter().chain(&["\\.\n\n\n"]).for_each(|row| bytes.extend(text(Some(row))));
            bytes.extend(number(0));
        }
        bytes
    }

    async fn read(bytes: &[u8]) -> Result<Vec<(String, Bytes, Hash, Vec<u8>, u64)>> {
        let mut archive = Archive::open(bytes).await?;
        let mut found = Vec::new();
        while let Some(block) = archive.block().await? {
            assert!(block.is_rows());
            let entry = archive.entries.iter().find(|entry| entry.id == block.id).unwrap().clone();
            let (head, lasting) = archive.head(Some(&block), |other| other.id == entry.id);
            let mut rows = Vec::new();
            while let Some(piece) = archive.rows().await? {
                rows.extend_from_slice(&piece);
            }
            found.push((entry.tag, head, lasting, rows, archive.counted()));
        }
        Ok(found)
    }

    #[tokio::test]
    async fn each_table_of_a_dump_is_an_archive_of_its_own() {
        for minor in [14, 15, 16] {
            let found = read(&archive(minor, 1, 100)).await.unwrap();
            let counts: Vec<_> = found.iter().map(|(tag, .., count)| (tag.as_str(), *count)).collect();
            assert_eq!(counts, [("a", 2), ("b", 0)]);
            for (tag, head, _, rows, count) in found {
                let whole = [head.as_ref(), &rows].concat();
                let again = read(&whole).await.unwrap();
                let names: Vec<_> = again.iter().map(|(tag, .., count)| (tag.as_str(), *count)).collect();
                assert_eq!(names, [(tag.as_str(), count)]);
                assert_eq!(Archive::open(whole.as_slice()).await.unwrap().entries.len(), 2);
            }
        }
    }

    #[tokio::test]
    async fn what_lasts_is_the_same_in_every_dump() {
        let [then, now] =
            [read(&archive(14, 1, 100)).await.unwrap(), read(&archive(14, 2, 900)).await.unwrap()];
        for (then, now) in then.iter().zip(&now) {
            assert_ne!(then.1, now.1, "its head has times and numbers");
            assert_eq!((&then.2, &then.3), (&now.2, &now.3));
        }
        assert_ne!(then[0].2, then[1].2);
    }

    #[tokio::test]
    async fn an_archive_cut_short_is_never_whole() {
        let whole = archive(14, 1, 100);
        let last = whole.len();
        // Between two blocks it might be whole; that the program ended well decides.
        let first_ends = last - 21;
        for end in (0..last).filter(|end| *end != first_ends) {
            match read(&whole[..end]).await {
                Err(fault) => assert_eq!(fault.code, "pg.archive", "cut at {end}"),
                Ok(found) => assert!(found.is_empty(), "cut at {end}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_known_is_refused() {
        for (at, byte) in [(0, b'X'), (6, 13), (6, 17), (8, 8), (10, 3)] {
            let mut bytes = archive(14, 1, 1);
            bytes[at] = byte;
            assert_eq!(Archive::open(bytes.as_slice()).await.unwrap_err().code, "pg.archive-format");
        }
    }

    #[test]
    fn newlines_are_counted_beyond_what_a_byte_holds() {
        for (length, every) in [(0, 1), (254, 1), (255, 1), (256, 1), (1000, 1), (1000, 3), (1000, 2000)] {
            let rows: Vec<u8> = (1..=length).map(|n| if n % every == 0 { b'\n' } else { b'n' }).collect();
            assert_eq!(newlines(&rows), (length / every) as u64);
        }
    }

    #[test]
    fn pieces_may_end_anywhere() {
        let bytes =
            [text(Some("a\n")), text(Some("bc\n\\.\n")), text(Some("\n\n")), number(0), vec![9; 9]].concat();
        for piece in 1..bytes.len() {
            let (mut scanner, mut taken) = (Scanner::default(), 0);
            for part in bytes.chunks(piece) {
                if !scanner.ended {
                    taken += scanner.scan(part).unwrap();
                }
            }
            assert_eq!((taken, scanner.rows, scanner.ended), (bytes.len() - 9, 2, true));
        }
        let unfinished = [text(Some("a\n")), number(0)].concat();
        assert_eq!(Scanner::default().scan(&unfinished).unwrap_err().code, "pg.archive");
    }
}
