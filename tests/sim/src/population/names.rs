//! Words that names are made of.

use crate::rng::Rng;

pub(crate) const TEAMS: &[&str] = &[
    "finance",
    "growth",
    "risk",
    "platform",
    "supply",
    "pricing",
    "fraud",
    "marketing",
    "logistics",
    "research",
    "claims",
    "billing",
];
pub(crate) const THINGS: &[&str] = &[
    "orders",
    "customers",
    "invoices",
    "sessions",
    "payments",
    "shipments",
    "inventory",
    "clicks",
    "leads",
    "policies",
    "tickets",
    "sensors",
    "returns",
    "forecasts",
];
pub(crate) const VERBS: &[&str] =
    &["load", "clean", "score", "publish", "reconcile", "train", "export", "aggregate", "dedupe", "enrich"];
pub(crate) const STAGES: &[&str] = &["bronze", "silver", "gold", "raw", "curated", "sandbox"];
pub(crate) const FIRST: &[&str] = &[
    "amara", "björn", "chen", "dana", "elif", "farid", "grace", "hiro", "ines", "jonas", "kavya", "luca",
    "mei", "noor", "olga", "priya", "quinn", "rosa", "sven", "tariq",
];
pub(crate) const LAST: &[&str] = &[
    "adeyemi", "baker", "costa", "dubois", "eriksen", "fischer", "garcia", "hansen", "ivanova", "jensen",
    "kim", "lopez", "mori", "novak", "okafor", "patel", "rossi", "silva", "tanaka", "weber",
];

/// `nightly-load-orders`, and the like.
pub(crate) fn slug(rng: &mut Rng) -> String {
    format!("{}-{}-{}", rng.pick(TEAMS), rng.pick(VERBS), rng.pick(THINGS))
}

/// How many hostile names there are.
pub(crate) const HOSTILE: usize = 12;

/// Names that break careless clients: traversal, control characters, right-to-left, emoji, very long,
/// composed and decomposed forms of the same text, case twins.
pub(crate) fn hostile(n: u64) -> String {
    match n % 12 {
        0 => "../../../etc/passwd".to_owned(),
        1 => "nul\u{0}byte".to_owned(),
        2 => "\u{202e}gnp.exe \u{05e9}\u{05dc}\u{05d5}\u{05dd}".to_owned(),
        3 => "🔥👩‍👩‍👧‍👦 party".to_owned(),
        4 => "long-".repeat(819),
        5 => "caf\u{e9}".to_owned(),
        6 => "cafe\u{301}".to_owned(),
        7 => "CAF\u{c9}".to_owned(),
        8 => " leading and trailing ".to_owned(),
        9 => "quote'\"`;--\n\t\\ {{x}} %2F %00 ?#&=+".to_owned(),
        10 => "..".to_owned(),
        _ => "same name".to_owned(),
    }
}

/// Drops what the caller's kind cannot have in a name, such as slashes in a path.
pub(crate) fn hostile_segment(n: u64) -> String {
    let name = hostile(n).replace('/', "\u{2215}");
    if name == ".." { "...".to_owned() } else { name }
}
