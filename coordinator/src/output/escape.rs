//! Names for terminals: a name is anybody's text and must not move the cursor, forge a column, or turn the line around.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Longest name that a table shows whole; the rest is in `-o json`.
const LONGEST: usize = 120;

/// `text` as a terminal may show it in a column: [`escaped`], and very long text cut.
pub fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        None => escaped(text),
        Some((end, _)) => Cow::Owned(format!("{}…", escaped(&text[..end]))),
    }
}

/// `text` as a terminal may show it: control characters, bidirectional and invisible format characters and backslashes
/// escaped. What needs nothing of it stays as it is.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(must_escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if must_escape(c) => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The line that says what to do about a fault; nothing where nobody knows.
pub fn hinted(indent: &str, hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!("{indent}hint: {}\n", escaped(hint)))
}

/// Control characters, and those of Unicode's format characters that change how others are shown or cannot be seen.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\\' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_harm_a_terminal_is_escaped() {
        for (name, expected) in [
            ("plain/ä 🦆", "plain/ä 🦆"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("x\u{202e}fdp.exe", "x\\u{202e}fdp.exe"),
            ("nul\0", "nul\\u{0}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("back\\slash", "back\\\\slash"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
        ] {
            assert_eq!(shown(name), expected);
        }
        assert_eq!(shown(&"x".repeat(4096)).chars().count(), LONGEST + 1);
    }
}
