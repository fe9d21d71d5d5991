//! `--path`: which paths of the workspace tree are asked for.

use globset::{GlobBuilder, GlobMatcher};
use lakehold_proto::fault::{Class, Fault, Result};

/// The patterns asked for; none means everything. A pattern that matches a directory means all that lies in it. `*` and `?`
/// stay within one name, `**` stands for any number of names.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Paths {
    patterns: Vec<Vec<Name>>,
}

#[derive(Clone, Debug)]
enum Name {
    /// Any number of names.
    Any,
    One(GlobMatcher),
}

impl Paths {
    /// Reads the patterns.
    ///
    /// # Errors
    /// `Config` when one is no glob, or does not begin at the root.
    pub(in super::super) fn new(patterns: &[String]) -> Result<Self> {
        patterns.iter().map(|pattern| read(pattern)).collect::<Result<_>>().map(|patterns| Self { patterns })
    }

    /// Whether what lies at `path` is asked for.
    pub(super) fn take(&self, path: &str) -> bool {
        let names = names(path);
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| matches(pattern, &names))
    }

    /// Whether something in the directory at `path` may be asked for.
    pub(super) fn may_hold(&self, path: &str) -> bool {
        let names = names(path);
        self.patterns.is_empty() || self.patterns.iter().any(|pattern| may_hold(pattern, &names))
    }
}

fn read(pattern: &str) -> Result<Vec<Name>> {
    let fault = |detail: String| {
        Fault::new(Class::Config, "selection.path", format!("read the path pattern {pattern:?}"), detail)
            .hint("write it from the root, such as '/Users/ada@example.com/**' or '/Shared/etl-*'")
    };
    let canonical = super::item::canonical_path(pattern);
    if !canonical.starts_with('/') {
        return Err(fault("it does not begin with /".into()));
    }
    let one = |name: &&str| match *name {
        "**" => Ok(Name::Any),
        name => match GlobBuilder::new(name).literal_separator(true).build() {
            Ok(glob) => Ok(Name::One(glob.compile_matcher())),
            Err(e) => Err(fault(e.to_string())),
        },
    };
    names(canonical).iter().map(one).collect()
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').filter(|name| !name.is_empty()).collect()
}

fn matches(pattern: &[Name], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        // What is left of the path lies in what was matched.
        (None, _) => true,
        (Some((Name::Any, rest)), Some((_, below))) => matches(rest, names) || matches(pattern, below),
        (Some((Name::Any, rest)), None) => matches(rest, names),
        (Some((Name::One(glob), rest)), Some((name, below))) => glob.is_match(name) && matches(rest, below),
        (Some((Name::One(_), _)), None) => false,
    }
}

fn may_hold(pattern: &[Name], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, _) | (_, None) | (Some((Name::Any, _)), _) => true,
        (Some((Name::One(glob), rest)), Some((name, below))) => glob.is_match(name) && may_hold(rest, below),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(patterns: &[&str]) -> Paths {
        Paths::new(&patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_directory_means_all_that_lies_in_it() {
        let paths = paths(&["/Users/ada@example.com"]);
        for taken in ["/Users/ada@example.com", "/Users/ada@example.com/a/b"] {
            assert!(paths.take(taken), "{taken}");
        }
        for left in ["/", "/Users", "/Users/ada@example.com2", "/Shared/ada@example.com"] {
            assert!(!paths.take(left), "{left}");
        }
        assert!(
            paths.may_hold("/") && paths.may_hold("/Users") && paths.may_hold("/Users/ada@example.com/x")
        );
        assert!(!paths.may_hold("/Shared") && !paths.may_hold("/Users/bob"));
    }

    #[test]
    fn stars_stay_within_a_name_and_double_stars_do_not() {
        let one = paths(&["/Shared/etl-*"]);
        assert!(one.take("/Shared/etl-1") && !one.take("/Shared/x/etl-1") && !one.may_hold("/Shared/x"));
        let any = paths(&["/Users/**/*.sql"]);
        assert!(any.take("/Users/a.sql") && any.take("/Users/b/c/a.sql") && !any.take("/Users/a.py"));
        assert!(any.may_hold("/Users/b/c") && !any.may_hold("/Shared"));
        let all = paths(&["/**"]);
        assert!(all.take("/a/b") && all.take("/") && all.may_hold("/a"));
        assert!(paths(&[]).take("/x") && paths(&["/Workspace/x"]).take("/x"));
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for bad in ["Users/a", "/a/[", ""] {
            assert_eq!(Paths::new(&[bad.to_owned()]).unwrap_err().code, "selection.path", "{bad:?}");
        }
    }
}
