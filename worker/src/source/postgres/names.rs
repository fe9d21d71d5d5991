//! Names of items: `DATABASE.SCHEMA.TABLE`. A part that holds a dot or a quotation mark is quoted, so that every name means
//! one thing; anything else is written as it is.

/// The name of what these parts lead to.
pub(super) fn join(parts: &[&str]) -> String {
    parts.iter().map(|part| part_of(part)).collect::<Vec<_>>().join(".")
}

fn part_of(part: &str) -> String {
    if part.contains(['.', '"']) || part.is_empty() { identifier(part) } else { part.to_owned() }
}

/// The first part of a name.
pub(super) fn first(name: &str) -> String {
    let Some(quoted) = name.strip_prefix('"') else {
        return name.split('.').next().unwrap_or(name).to_owned();
    };
    let mut text = String::new();
    let mut rest = quoted.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if rest.peek() == Some(&'"') => {
                rest.next();
                text.push('"');
            }
            '"' => break,
            c => text.push(c),
        }
    }
    text
}

/// An identifier as SQL, and as a pattern of `pg_dump` that fits it alone.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_one_thing() {
        assert_eq!(join(&["shop", "public", "orders"]), "shop.public.orders");
        assert_eq!(join(&["shop", "a.b", "c\"d"]), "shop.\"a.b\".\"c\"\"d\"");
        assert_eq!(join(&["s", "Ä 🦆\n", "x"]), "s.Ä 🦆\n.x");
        for name in ["shop", "a.b", "a\"b", "\"", "a\".\"b", "é\n", ""] {
            assert_eq!(first(&join(&[name, "public", "x"])), name);
            assert_eq!(first(&join(&[name])), name);
        }
    }
}
