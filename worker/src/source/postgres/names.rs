//! Names of items: `DATABASE.SCHEMA.TABLE`. A part that holds a dot or a quotation mark is quoted, so that every name means
//! one thing; anything else is written as it is.

use lakehold_proto::ids::RunId;

/// The name of what these parts lead to.
pub(super) fn join(parts: &[&str]) -> String {
    parts.iter().map(|part| part_of(part)).collect::<Vec<_>>().join(".")
}

fn part_of(part: &str) -> String {
    if part.contains(['.', '"']) || part.is_empty() { identifier(part) } else { part.to_owned() }
}

/// The first part of a name.
pub(super) fn first(name: &str) -> String {
    split(name).swap_remove(0)
}

/// The parts of a name.
pub(super) fn split(name: &str) -> Vec<String> {
    let (mut parts, mut text, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                text.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut text)),
            c => text.push(c),
        }
    }
    parts.push(text);
    parts
}

/// An identifier as SQL, and as a pattern of `pg_dump` that fits it alone.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''").replace('\\', "\\\\"));
    if text.contains('\\') { format!(" E{quoted}") } else { quoted }
}

/// Bytes that the server takes of a name; the rest it would drop without a word.
const LONGEST: usize = 63;

/// Why something stands beside another: it is to take its place.
pub(super) const NEW: &str = "new";
/// The same, of what had its place.
pub(super) const BEFORE: &str = "before";

/// The name of what stands beside another for a while. No two runs and no two reasons have one name.
pub(super) fn beside(name: &str, reason: &str, run: RunId) -> String {
    let mark = format!("_{reason}_{}", run.short());
    let mut end = name.len().min(LONGEST - mark.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_has_a_name_that_the_server_takes() {
        let run = RunId::new(jiff::Timestamp::UNIX_EPOCH);
        for name in ["shop", &"ä".repeat(40), ""] {
            let beside = beside(name, "before", run);
            assert!(beside.len() <= LONGEST && beside.contains("_before_"), "{beside}");
        }
        assert_ne!(beside("a", "before", run), beside("a", "new", run));
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), " E'a\\\\'''");
    }

    #[test]
    fn every_name_means_one_thing() {
        assert_eq!(join(&["shop", "public", "orders"]), "shop.public.orders");
        assert_eq!(join(&["shop", "a.b", "c\"d"]), "shop.\"a.b\".\"c\"\"d\"");
        assert_eq!(join(&["s", "Ä 🦆\n", "x"]), "s.Ä 🦆\n.x");
        for name in ["shop", "a.b", "a\"b", "\"", "a\".\"b", "é\n", ""] {
            assert_eq!(first(&join(&[name, "public", "x"])), name);
            assert_eq!(first(&join(&[name])), name);
            assert_eq!(split(&join(&["x", name, "y"])), ["x", name, "y"]);
        }
    }
}
