//! Patterns of tables: `database.schema.table`, each part a glob.

use globset::{GlobBuilder, GlobMatcher};
use lakehold_proto::fault::{Class, Fault, Result};

/// One pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// As it was typed.
    pub(super) typed: String,
    parts: Vec<GlobMatcher>,
}

impl Pattern {
    /// Reads one of `--path`: a pattern of a database means all that lies in it.
    ///
    /// # Errors
    /// `Config` when it is none.
    pub(super) fn of_path(typed: &str) -> Result<Self> {
        let bare = typed.strip_prefix("database/").or_else(|| typed.strip_prefix("table/")).unwrap_or(typed);
        let read = Self::read(typed, bare).filter(|pattern| pattern.parts.len() <= 3);
        read.ok_or_else(|| {
            let detail = "it is no pattern of databases or tables";
            Fault::new(Class::Config, "selection.path", format!("read the path pattern {typed:?}"), detail)
                .hint("write it like shop, shop.public or 'shop.public.order*'")
        })
    }

    /// Reads one of `exclude_table_data`.
    ///
    /// # Errors
    /// `Config` when it is none.
    pub(super) fn of_tables(typed: &str) -> Result<Self> {
        let read = Self::read(typed, typed).filter(|pattern| matches!(pattern.parts.len(), 2 | 3));
        read.ok_or_else(|| {
            let context = format!("read `exclude_table_data` {typed:?}");
            Fault::new(Class::Config, "config.value", context, "it is no pattern of tables")
                .hint("write it like '*.django_session', public.log or shop.public.log")
        })
    }

    fn read(typed: &str, bare: &str) -> Option<Self> {
        let parts =
            bare.split('.').map(|part| GlobBuilder::new(part).build().ok().filter(|_| !part.is_empty()));
        let parts = parts.map(|glob| glob.map(|glob| glob.compile_matcher())).collect::<Option<_>>()?;
        Some(Self { typed: typed.to_owned(), parts })
    }

    /// Whether it means what these parts lead to, or something that that lies in.
    pub(super) fn means(&self, name: &[&str; 3]) -> bool {
        self.parts.iter().zip(name).all(|(glob, part)| glob.is_match(part))
    }

    /// Whether it means the table, which it may name without its database.
    pub(super) fn means_table(&self, name: &[&str; 3]) -> bool {
        let left = name.len() - self.parts.len().min(name.len());
        self.parts.iter().zip(&name[left..]).all(|(glob, part)| glob.is_match(part))
    }

    /// Whether it names its database.
    pub(super) fn is_of_a_database(&self) -> bool {
        self.parts.len() == 3
    }

    /// Whether something in the database may be meant.
    pub(super) fn may_mean(&self, database: &str) -> bool {
        self.parts.first().is_some_and(|glob| glob.is_match(database))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_means_all_that_lies_in_it() {
        let name = ["shop", "public", "orders"];
        for typed in
            ["shop", "database/shop", "sh*", "shop.public", "shop.*.ord*", "table/shop.public.orders"]
        {
            let pattern = Pattern::of_path(typed).unwrap();
            assert!(pattern.means(&name) && pattern.may_mean("shop"), "{typed}");
        }
        for typed in ["other", "shop.private", "shop.public.order"] {
            assert!(!Pattern::of_path(typed).unwrap().means(&name), "{typed}");
        }
        assert!(!Pattern::of_path("other.public").unwrap().may_mean("shop"));
    }

    #[test]
    fn tables_may_be_named_without_their_database() {
        let name = ["shop", "public", "django_session"];
        for typed in ["*.django_session", "public.*", "shop.public.django_*"] {
            assert!(Pattern::of_tables(typed).unwrap().means_table(&name), "{typed}");
        }
        assert!(!Pattern::of_tables("other.public.*").unwrap().means_table(&name));
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for bad in ["", "a.b.c.d", "a..b", "a.["] {
            assert!(Pattern::of_path(bad).is_err() && Pattern::of_tables(bad).is_err(), "{bad}");
        }
        assert!(Pattern::of_tables("session").is_err());
    }
}
