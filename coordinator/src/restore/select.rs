//! Which items of a snapshot are asked for.

use globset::{GlobBuilder, GlobMatcher};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Kind;
use serde::{Deserialize, Serialize};

/// What was asked for, as it was typed. Nothing means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// `KIND/PATTERN` or `KIND/#KEY`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// Kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// Patterns of paths in the workspace tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What these refer to, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_dependencies: bool,
}

/// The same, ready to be asked.
#[derive(Debug)]
pub struct Select<'a> {
    wanted: &'a Wanted,
    items: Vec<(Kind, Which)>,
    paths: Vec<GlobMatcher>,
}

#[derive(Debug)]
enum Which {
    Key(String),
    Name(String, Option<GlobMatcher>),
}

impl Which {
    fn fits(&self, key: &str, name: &str) -> bool {
        match self {
            Self::Key(wanted) => wanted == key,
            Self::Name(wanted, glob) => {
                wanted == name || glob.as_ref().is_some_and(|glob| glob.is_match(name))
            }
        }
    }
}

impl<'a> Select<'a> {
    /// Reads what was typed.
    ///
    /// # Errors
    /// `Config` with `restore.item` or `restore.path`, when a pattern is none.
    pub fn new(wanted: &'a Wanted) -> Result<Self> {
        let items = wanted.items.iter().map(|typed| read_item(typed)).collect::<Result<_>>()?;
        let paths = wanted.paths.iter().map(|typed| read_path(typed)).collect::<Result<_>>()?;
        Ok(Self { wanted, items, paths })
    }

    /// Whether an item is asked for by its own name.
    pub fn names(&self, kind: &Kind, key: &str, name: &str) -> bool {
        self.items.iter().any(|(of, which)| of == kind && which.fits(key, name))
    }

    /// Whether an item is asked for.
    pub fn takes(&self, kind: &Kind, key: &str, name: &str) -> bool {
        let Wanted { items, kinds, paths, .. } = self.wanted;
        if items.is_empty() && kinds.is_empty() && paths.is_empty() {
            return true;
        }
        if self.names(kind, key, name) {
            return true;
        }
        let by_kind = kinds.contains(kind);
        let by_path = self.paths.iter().any(|glob| glob.is_match(name));
        match (kinds.is_empty(), paths.is_empty()) {
            (true, true) => false,
            (false, true) => by_kind,
            (true, false) => by_path,
            (false, false) => by_kind && by_path,
        }
    }

    /// All words, none of which met an item yet.
    pub fn unmet(&self) -> Unmet<'_> {
        Unmet {
            items: self.items.iter().zip(&self.wanted.items).collect(),
            kinds: self.wanted.kinds.iter().collect(),
            paths: self.paths.iter().zip(&self.wanted.paths).collect(),
        }
    }
}

/// The words that met none of the items they were shown.
#[derive(Debug)]
pub struct Unmet<'a> {
    items: Vec<(&'a (Kind, Which), &'a String)>,
    kinds: Vec<&'a Kind>,
    paths: Vec<(&'a GlobMatcher, &'a String)>,
}

impl Unmet<'_> {
    /// Shows them an item.
    pub fn show(&mut self, kind: &Kind, key: &str, name: &str) {
        self.items.retain(|((of, which), _)| of != kind || !which.fits(key, name));
        self.kinds.retain(|of| *of != kind);
        self.paths.retain(|(glob, _)| !glob.is_match(name));
    }

    /// What is left, as it was typed.
    pub fn words(self) -> Vec<String> {
        let items = self.items.into_iter().map(|(_, typed)| typed.clone());
        let kinds = self.kinds.into_iter().map(ToString::to_string);
        items.chain(kinds).chain(self.paths.into_iter().map(|(_, typed)| typed.clone())).collect()
    }
}

fn read_item(typed: &str) -> Result<(Kind, Which)> {
    let wrong = |detail: &str| {
        Fault::new(Class::Config, "restore.item", format!("read --item {typed:?}"), detail)
            .hint("write KIND/NAME, KIND/PATTERN with * and ?, or KIND/#KEY: 'job/nightly-*'")
    };
    let (kind, which) = typed
        .split_once('/')
        .filter(|(kind, which)| !kind.is_empty() && !which.is_empty())
        .ok_or_else(|| wrong("it is no KIND/NAME"))?;
    let which = match which.strip_prefix('#') {
        Some(key) => Which::Key(key.to_owned()),
        None => {
            let glob = GlobBuilder::new(which).build().ok().map(|glob| glob.compile_matcher());
            Which::Name(which.to_owned(), glob)
        }
    };
    Ok((Kind::named(kind), which))
}

fn read_path(typed: &str) -> Result<GlobMatcher> {
    let wrong = |detail: String| {
        Fault::new(Class::Config, "restore.path", format!("read --path {typed:?}"), detail)
            .hint("write it from the root, such as '/Users/ada@example.com/**'")
    };
    let canonical = typed.strip_prefix("/Workspace").filter(|rest| rest.starts_with('/')).unwrap_or(typed);
    if !canonical.starts_with('/') {
        return Err(wrong("it does not begin with /".into()));
    }
    // A folder means all that lies in it, itself included.
    let folder = canonical.strip_suffix("/**").unwrap_or(canonical);
    let both = format!("{{{folder},{folder}/**}}");
    GlobBuilder::new(&both)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(wanted: &Wanted, kind: &str, key: &str, name: &str) -> bool {
        Select::new(wanted).unwrap().takes(&Kind::named(kind), key, name)
    }

    #[test]
    fn items_kinds_and_paths_select() {
        let items = Wanted { items: vec!["job/nightly-*".into(), "query/#q-1".into()], ..Wanted::default() };
        assert!(takes(&items, "job", "1", "nightly-etl") && !takes(&items, "job", "1", "hourly"));
        assert!(takes(&items, "query", "q-1", "x") && !takes(&items, "query", "q-2", "x"));
        let paths = Wanted { paths: vec!["/Users/a@x.com/**".into()], ..Wanted::default() };
        assert!(
            takes(&paths, "notebook", "1", "/Users/a@x.com/b/c")
                && takes(&paths, "directory", "1", "/Users/a@x.com")
        );
        assert!(!takes(&paths, "notebook", "1", "/Users/b@x.com/c") && !takes(&paths, "job", "1", "n"));
        let both = Wanted { kinds: vec![Kind::named("notebook")], ..paths };
        assert!(
            takes(&both, "notebook", "1", "/Users/a@x.com/c")
                && !takes(&both, "directory", "1", "/Users/a@x.com")
        );
        assert!(takes(&Wanted::default(), "job", "1", "n"));
    }

    #[test]
    fn words_that_mean_nothing_are_refused_or_told() {
        assert_eq!(
            Select::new(&Wanted { items: vec!["nightly".into()], ..Wanted::default() }).unwrap_err().code,
            "restore.item"
        );
        assert_eq!(
            Select::new(&Wanted { paths: vec!["Users".into()], ..Wanted::default() }).unwrap_err().code,
            "restore.path"
        );
        let wanted = Wanted { items: vec!["job/a*".into(), "job/b".into()], ..Wanted::default() };
        assert_eq!(unmet(&wanted, &[("job", "abc")]), ["job/b"]);
        // Each path is looked for among all items, whatever the others met.
        let paths = vec!["/b".into(), "/c".into(), "/a".into()];
        let wanted = Wanted { paths, kinds: vec![Kind::named("query")], ..Wanted::default() };
        assert_eq!(unmet(&wanted, &[("notebook", "/a"), ("notebook", "/b")]), ["query", "/c"]);
    }

    fn unmet(wanted: &Wanted, items: &[(&str, &str)]) -> Vec<String> {
        let select = Select::new(wanted).unwrap();
        let mut unmet = select.unmet();
        items.iter().for_each(|(kind, name)| unmet.show(&Kind::named(kind), "1", name));
        unmet.words()
    }
}
