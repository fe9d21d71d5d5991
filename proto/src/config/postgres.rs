//! A PostgreSQL server: `postgres:`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SecretRef;
use super::check::wrong;
use crate::fault::Fault;

/// A PostgreSQL server, and which of its databases are kept. Settled in detail where it is used; here is what was typed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresConfig {
    /// `postgresql://user@host/database`, as PostgreSQL's own programs read it; `env:NAME` or `file:PATH` for one that has
    /// the password in it. Its database is where lists are asked for, by default `postgres`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A service of libpq's service file, instead of the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// That file, where it is not `~/.pg_service.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_file: Option<PathBuf>,
    /// The password, where it is not in the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// Which databases: `all`, or their names.
    pub databases: Databases,
    /// Tables whose definition is kept and whose rows are not: `schema.table` or `database.schema.table`, `*` and `?` stand
    /// for any text and any character.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_table_data: Vec<String>,
    /// Dumps that may be under way at once, over all workers of one process: each is a connection. 1 keeps a database on one
    /// worker. Default 4.
    pub jobs: u32,
    /// The folder of PostgreSQL's own programs, where it is not found by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
    /// The cluster that it must be, as `pg_control_system()` tells it. Left out: the one of the last snapshot, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// What a drill asks of a database that was restored, besides what it checks by itself.
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Allows a connection to another machine that is not `verify-full`: whoever is in between reads all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: None,
            service: None,
            service_file: None,
            password: None,
            databases: Databases::default(),
            exclude_table_data: Vec::new(),
            jobs: 4,
            programs: None,
            system_identifier: None,
            hooks: Hooks::default(),
            insecure: false,
        }
    }
}

/// What is asked at certain moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Of a database that a drill restored.
    pub verify: Verify,
}

/// See [`Hooks::verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// Queries by the database they are asked in: each must give one row with one column that is true.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sql: BTreeMap<String, Vec<String>>,
    /// A program with its arguments, run where the worker runs, with `DATABASE_URL` and libpq's variables set: it must end with 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

impl Hooks {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which databases of a server are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Databases {
    /// All but templates. Written `all`.
    #[default]
    #[serde(with = "all")]
    All,
    /// These: one that is not there is a gap.
    Named(Vec<String>),
}

mod all {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("all")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "all" => Ok(()),
            _ => Err(de::Error::custom("`databases` is `all` or a list of names")),
        }
    }
}

impl PostgresConfig {
    /// The references to secrets in it.
    pub fn secrets(&self) -> Vec<SecretRef> {
        self.url_secret().into_iter().chain(self.password.clone()).collect()
    }

    /// Where the URL is to be had, if it was not typed itself.
    pub fn url_secret(&self) -> Option<SecretRef> {
        SecretRef::try_from(self.url.clone()?).ok()
    }

    /// What is wrong with it, as far as it shows without looking for secrets.
    pub(super) fn faults(&self, key: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        match (&self.url, &self.service) {
            (None, None) => faults.push(
                wrong("config.host", key, "neither `url` nor `service` is given")
                    .hint("add `url: env:NAME`, where NAME holds postgresql://user:password@host/database"),
            ),
            (Some(_), Some(_)) => faults.push(
                wrong("config.credentials", key, "both `url` and `service` are given")
                    .hint("keep one of them"),
            ),
            (Some(url), None) if self.url_secret().is_none() => {
                faults.extend(plain(url).map(|fault| fault.while_doing(format!("check `{key}.url`"))));
            }
            _ => {}
        }
        if self.service.is_none() && self.service_file.is_some() {
            faults.push(wrong("config.credentials", key, "`service_file` is given without `service`"));
        }
        if self.databases == Databases::Named(Vec::new()) {
            let key = format!("{key}.databases");
            faults
                .push(wrong("config.value", &key, "no database is named").hint("name some, or write `all`"));
        }
        if self.jobs == 0 {
            faults.push(wrong("config.limits", &format!("{key}.jobs"), "nothing could ever be dumped"));
        }
        faults
    }
}

/// What is wrong with a URL that stands in the file. It may hold a password, so it is not repeated.
fn plain(url: &str) -> Option<Fault> {
    let wrong = |code, detail: &str| wrong(code, "url", detail);
    if !["postgresql://", "postgres://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Some(
            wrong("config.url", "it does not begin with postgresql://")
                .hint("or write env:NAME or file:PATH for a URL that is a secret"),
        );
    }
    match url::Url::parse(url) {
        Err(e) => Some(wrong("config.url", &e.to_string())),
        Ok(url) if url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password") => Some(
            wrong("config.password", "the URL has a password in it, for every reader of the file to see")
                .hint("write the whole URL as `url: env:NAME`, or the password as `password: env:NAME`"),
        ),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(yaml: &str) -> Vec<&'static str> {
        let given: PostgresConfig = serde_saphyr::from_str(yaml).unwrap();
        let faults = given.faults("p");
        assert!(!format!("{faults:?}").contains("hunter2"));
        faults.iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn the_example_of_the_design_reads() {
        let given: PostgresConfig = serde_saphyr::from_str(
            "{url: 'env:SHOP_URL', databases: [shop], exclude_table_data: ['*.django_session']}",
        )
        .unwrap();
        assert_eq!(given.databases, Databases::Named(vec!["shop".into()]));
        assert_eq!((given.secrets(), given.jobs), (vec![SecretRef::Env("SHOP_URL".into())], 4));
        assert!(given.faults("p").is_empty());
        let all: PostgresConfig = serde_saphyr::from_str("{service: orders, databases: all}").unwrap();
        assert_eq!(all.databases, Databases::All);
        assert_eq!(serde_json::to_value(&all).unwrap()["databases"], "all");
        assert!(serde_saphyr::from_str::<PostgresConfig>("{service: o, databases: everything}").is_err());
        assert!(serde_saphyr::from_str::<PostgresConfig>("{service: o, job: 2}").is_err());
    }

    #[test]
    fn passwords_in_the_file_are_refused_and_not_repeated() {
        assert_eq!(codes("{url: 'postgresql://me:hunter2@db/shop'}"), ["config.password"]);
        assert_eq!(codes("{url: 'postgresql://db/shop?password=hunter2'}"), ["config.password"]);
        assert_eq!(codes("{url: 'hunter2@db'}"), ["config.url"]);
        assert_eq!(codes("{url: 'postgresql:///shop?host=/run/postgresql', password: 'env:P'}"), [""; 0]);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        assert_eq!(codes("{}"), ["config.host"]);
        assert_eq!(codes("{url: 'env:U', service: o}"), ["config.credentials"]);
        assert_eq!(codes("{url: 'env:U', databases: [], jobs: 0}"), ["config.value", "config.limits"]);
        assert_eq!(codes("{url: 'env:U', service_file: /x}"), ["config.credentials"]);
    }
}
