//! Keeps what does not fit into memory: what is put on a shelf lies in a file without a name in the directory for temporary
//! files (`$TMPDIR`), and is read from its place there as often as one likes. Nothing of it survives the process.
//!
//! Reads are short and wait for the disk: of what was written a moment ago the system still has the pages.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use lakehold_proto::fault::{Class, Fault, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes read for one thing: most are smaller.
const READ: usize = 1024;
/// Bytes read at once of all things in turn.
const READ_ALL: usize = 64 * 1024;

/// A shelf that is being filled.
#[derive(Debug)]
pub(crate) struct Filling<T> {
    out: BufWriter<File>,
    line: Vec<u8>,
    end: u64,
    of: PhantomData<T>,
}

impl<T: Serialize> Filling<T> {
    /// An empty one.
    ///
    /// # Errors
    /// `Unavailable` (`shelf.io`) when there is no room for temporary files.
    pub(crate) fn new() -> Result<Self> {
        let out = BufWriter::new(tempfile::tempfile().map_err(|e| unavailable(&e))?);
        Ok(Self { out, line: Vec::new(), end: 0, of: PhantomData })
    }

    /// Puts a thing behind the others, and tells its place.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub(crate) fn push(&mut self, thing: &T) -> Result<u64> {
        self.line.clear();
        // With the names of fields: some are left out where there is nothing to say.
        rmp_serde::encode::write_named(&mut self.line, thing).map_err(|e| unavailable(&e))?;
        self.out.write_all(&self.line).map_err(|e| unavailable(&e))?;
        let place = self.end;
        self.end += self.line.len() as u64;
        Ok(place)
    }

    /// The shelf, to be read.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub(crate) fn filled(self) -> Result<Shelf<T>> {
        let file = Arc::new(self.out.into_inner().map_err(|e| unavailable(&e))?);
        Ok(Shelf { file, end: self.end, of: PhantomData })
    }
}

/// A shelf that is filled.
#[derive(Clone, Debug)]
pub(crate) struct Shelf<T> {
    file: Arc<File>,
    end: u64,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Shelf<T> {
    /// What lies at a place.
    ///
    /// # Errors
    /// `Unavailable` (`shelf.io`) when it cannot be read.
    pub(crate) fn get(&self, place: u64) -> Result<T> {
        decode(&mut BufReader::with_capacity(READ, Reader { file: &self.file, at: place }))
    }

    /// All that lies there, in the order in which it was put there.
    pub(crate) fn all(&self) -> impl Iterator<Item = Result<T>> {
        let mut from = BufReader::with_capacity(READ_ALL, Reader { file: &self.file, at: 0 });
        std::iter::from_fn(move || {
            let read = from.get_ref().at - from.buffer().len() as u64;
            (read < self.end).then(|| decode(&mut from))
        })
    }
}

fn decode<T: DeserializeOwned>(from: &mut impl Read) -> Result<T> {
    rmp_serde::from_read(from).map_err(|e| unavailable(&e))
}

/// Reads on from a place, whoever else reads.
struct Reader<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

fn unavailable(error: &dyn std::fmt::Display) -> Fault {
    Fault::new(Class::Unavailable, "shelf.io", "keep aside what does not fit into memory", error)
        .hint("make room in the directory for temporary files ($TMPDIR), and run the same command again")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        some: Option<u32>,
        text: String,
        value: serde_json::Value,
    }

    fn thing(n: u32) -> Thing {
        let text = "x".repeat((n as usize * 7919) % 5000);
        Thing {
            some: n.is_multiple_of(3).then_some(n),
            text,
            value: serde_json::json!({"n": [n, null, 0.1]}),
        }
    }

    #[test]
    fn everything_is_found_at_its_place_and_in_its_order() {
        let mut filling = Filling::new().unwrap();
        let places: Vec<_> = (0..300).map(|n| filling.push(&thing(n)).unwrap()).collect();
        let shelf = filling.filled().unwrap();
        for n in (0..300).rev() {
            assert_eq!(shelf.get(places[n as usize]).unwrap(), thing(n));
        }
        let all: Vec<_> = shelf.all().collect::<Result<_>>().unwrap();
        assert_eq!(all, (0..300).map(thing).collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_shelf_has_nothing() {
        let shelf = Filling::<Thing>::new().unwrap().filled().unwrap();
        assert_eq!(shelf.all().count(), 0);
    }
}
