//! What the server says when it refuses, as a fault: its SQLSTATE decides, never its words.

use lakehold_proto::fault::{Class, Fault};

/// Classes by the beginning of a SQLSTATE, the longest first
/// (<https://www.postgresql.org/docs/17/errcodes-appendix.html>).
const STATES: &[(&str, Class, &str)] = &[
    ("42501", Class::Denied, "pg.denied"),
    ("42P01", Class::Absent, "pg.absent"),
    ("55P03", Class::Unavailable, "pg.locked"),
    ("55000", Class::Conflict, "pg.not-ready"),
    ("55006", Class::Unavailable, "pg.in-use"),
    ("57014", Class::Unavailable, "pg.timeout"),
    ("53100", Class::Unavailable, "pg.disk-full"),
    ("53300", Class::Unavailable, "pg.too-many-connections"),
    ("XX001", Class::Integrity, "pg.corrupted"),
    ("XX002", Class::Integrity, "pg.corrupted"),
    ("0A", Class::Unsupported, "pg.unsupported"),
    ("28", Class::Denied, "pg.denied"),
    ("3D", Class::Absent, "pg.no-database"),
    ("08", Class::Unavailable, "pg.connection-lost"),
    ("40", Class::Unavailable, "pg.conflict"),
    ("53", Class::Unavailable, "pg.out-of-resources"),
    ("57", Class::Unavailable, "pg.shutting-down"),
    ("58", Class::Unavailable, "pg.system-error"),
];

/// The fault behind a SQLSTATE. One that is not listed may pass.
pub(super) fn of_state(state: &str, context: impl Into<String>, said: &str) -> Fault {
    let known = STATES.iter().find(|(begin, ..)| state.starts_with(begin));
    let (class, code) = known.map_or((Class::Unavailable, "pg.error"), |(_, class, code)| (*class, *code));
    Fault::new(class, code, context, format!("{} (SQLSTATE {state})", said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_special_state_comes_first() {
        for (at, (begin, ..)) in STATES.iter().enumerate() {
            assert!(STATES[..at].iter().all(|(before, ..)| !begin.starts_with(before)), "{begin}");
        }
        let class = |state| of_state(state, "x", "y").class;
        assert_eq!(class("42501"), Class::Denied);
        assert_eq!(class("53400"), Class::Unavailable);
        assert_eq!(class("57P01"), Class::Unavailable);
        assert_eq!(class("XX000"), Class::Unavailable);
    }
}
