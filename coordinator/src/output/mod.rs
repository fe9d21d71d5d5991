//! What people and programs get to see: data on standard output, words on standard error.
//!
//! Tables are for people: names are escaped there, because a name is anybody's text. JSON and YAML are for programs: names
//! are exact, every document carries a `schema` name with a version.

mod error;
mod escape;
mod table;
mod words;

use std::io::{self, BufWriter, IsTerminal as _, Write as _};

use lakehold_proto::fault::{Class, Fault, Result};
use serde::Serialize;

pub use error::ErrorDocument;
pub use escape::{escaped, hinted, shown};
pub use table::{Align, Table};
pub use words::{age, bytes, count, stamp};

/// How a command writes its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// The same document as YAML.
    Yaml,
    /// Only addresses, one a line (as JSON strings where a name needs it).
    Name,
}

/// Writes `text` to standard output. That nobody reads any more (`| head`) is no failure.
///
/// # Errors
/// `Unavailable` when it cannot be written for another reason.
pub fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output as they are. See [`print()`].
///
/// # Errors
/// See [`print()`].
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    done(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Writes lines to standard output as they come. See [`print()`].
///
/// # Errors
/// See [`print()`]; and those of the lines.
pub fn print_lines(lines: impl Iterator<Item = Result<String>>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in lines {
        let written = writeln!(out, "{}", line?);
        if written.is_err() {
            return done(written);
        }
    }
    done(out.flush())
}

fn done(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::new(Class::Unavailable, "output.write", "write to standard output", e))
        }
        _ => Ok(()),
    }
}

/// Writes words for people to standard error; that nobody can read them there is no failure.
pub fn say(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{text}");
}

/// Writes a document in one of the formats for programs.
///
/// # Errors
/// Those of [`print()`].
pub fn document(format: Format, document: &impl Serialize) -> Result<()> {
    let bug = |e: &dyn std::fmt::Display| Fault::new(Class::Bug, "output.encode", "write a document", e);
    if format == Format::Yaml {
        let text = serde_saphyr::to_string(document).map_err(|e| bug(&e))?;
        print(text.trim_end())?;
        return print("\n");
    }
    // As it is written: a document of many items is not in memory as text.
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match serde_json::to_writer_pretty(&mut out, document) {
        Err(e) if !e.is_io() => return Err(bug(&e)),
        written => written.map_err(io::Error::from),
    };
    done(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// An address as one line: as it is, or as a JSON string when it would not stay one line or not look like itself.
pub fn name_line(address: &str) -> String {
    if shown(address) == address { address.to_owned() } else { serde_json::Value::from(address).to_string() }
}

/// Whether progress may be drawn: standard error is a terminal that can.
pub fn draws() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether colour may be used on standard error: a terminal, and `NO_COLOR` is not set.
pub fn colours() -> bool {
    draws() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
