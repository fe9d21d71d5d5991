//! What all of it comes to: flags over environment variables over the file over defaults, checked, with the origin of
//! each value.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Config, StoreLocation, Surroundings, check, find, implied, parse};
use crate::fault::{Class, Fault, Result};

/// The store when nothing names one: beside the configuration file, or in the current directory.
const DEFAULT_STORE: &str = "lakehold-store";

/// What was asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--store`.
    pub store: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// Nobody said otherwise.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Variable(name) => write!(f, "${name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The configuration as it is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file and what was implied or overridden, merged.
    pub config: Config,
    /// Where the store is.
    pub store: StoreLocation,
    /// The file, if there was one.
    pub file: Option<PathBuf>,
    store_origin: Origin,
    environments_origin: Origin,
    typed: Value,
}

/// One value of [`Settings::effective`].
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// Its place: `environments.prod.limits.share`.
    pub key: String,
    /// What it is. Secrets are references.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// Finds, reads and checks the configuration. Without a file, `--profile` or `DATABRICKS_HOST` imply one environment;
/// without those either, there are no environments, which the verbs that only read a store do not need.
///
/// # Errors
/// `Config`: the first thing that is wrong, with advice; see [`find()`], [`parse()`] and [`check()`].
pub fn load(asked: &Asked, around: &Surroundings) -> Result<Settings> {
    let settings = read(asked, around)?;
    let folder = settings.folder(around);
    let mut faults = check(&settings.config, &folder).into_iter();
    let Some(first) = faults.next() else { return Ok(settings) };
    Err(match faults.len() {
        0 => first,
        more => {
            let detail = format!("{} (and {more} more: `lakehold config validate` lists all)", first.detail);
            Fault { detail, ..first }
        }
    })
}

/// Like [`load`], but hands back all that [`check()`] finds instead of the first.
///
/// # Errors
/// As [`load`], when the file cannot be read at all.
pub(super) fn read(asked: &Asked, around: &Surroundings) -> Result<Settings> {
    let file = find(asked.config.as_deref(), around)?;
    let (config, typed) = match &file {
        Some(path) => read_file(path)?,
        None => (Config { version: 1, ..Config::default() }, Value::Null),
    };
    let mut settings = Settings {
        environments_origin: file.clone().map_or(Origin::Default, Origin::File),
        config,
        store: StoreLocation::Directory(around.folder.join(DEFAULT_STORE)),
        store_origin: Origin::Default,
        file,
        typed,
    };
    settings.imply(asked, around);
    settings.place_store(asked, around)?;
    Ok(settings)
}

fn read_file(path: &Path) -> Result<(Config, Value)> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Fault::new(Class::Config, "config.unreadable", format!("read {}", path.display()), e)
            .hint("give this user read access to that file, and save it as UTF-8")
    })?;
    let config = parse(path, &text)?;
    // What parses strictly parses loosely, too; this one only tells which keys were typed.
    let typed = serde_saphyr::from_str(&text).unwrap_or(Value::Null);
    Ok((config, typed))
}

impl Settings {
    /// Everything that is wrong with it; empty after [`load`].
    pub fn faults(&self, around: &Surroundings) -> Vec<Fault> {
        check(&self.config, &self.folder(around))
    }

    /// Reads the configuration without refusing what [`check()`] finds: for `config validate`.
    ///
    /// # Errors
    /// As [`load`], when the file cannot be read at all.
    pub fn unchecked(asked: &Asked, around: &Surroundings) -> Result<Self> {
        read(asked, around)
    }

    fn imply(&mut self, asked: &Asked, around: &Surroundings) {
        if self.file.is_some() && asked.profile.is_none() {
            return;
        }
        if let Some(found) = implied(asked.profile.as_deref(), around) {
            self.config.environments = found.environments;
            self.environments_origin = match (&asked.profile, around.variable("DATABRICKS_HOST")) {
                (Some(_), _) => Origin::Flag("--profile"),
                (None, Some(_)) => Origin::Variable("DATABRICKS_HOST"),
                (None, None) => Origin::Variable("DATABRICKS_CONFIG_PROFILE"),
            };
            self.typed.as_object_mut().map(|typed| typed.remove("environments"));
        }
    }

    fn place_store(&mut self, asked: &Asked, around: &Surroundings) -> Result<()> {
        let folder = self.folder(around);
        let variable = around.variable("LAKEHOLD_STORE");
        let (typed, from, origin) = match (&asked.store, variable, &self.config.store) {
            (Some(flag), _, _) => (flag.clone(), &around.folder, Origin::Flag("--store")),
            (None, Some(variable), _) => {
                (variable.to_owned(), &around.folder, Origin::Variable("LAKEHOLD_STORE"))
            }
            (None, None, Some(file)) => (file.clone(), &folder, self.environments_file()),
            (None, None, None) => (DEFAULT_STORE.to_owned(), &folder, Origin::Default),
        };
        self.store_origin = origin;
        match StoreLocation::read(&typed, from) {
            Ok(store) => self.store = store,
            // What the file says is checked with the rest of it.
            Err(_) if matches!(self.store_origin, Origin::File(_)) => {}
            Err(fault) => return Err(fault.while_doing(format!("read {}", self.store_origin))),
        }
        if !matches!(self.store_origin, Origin::File(_)) {
            self.config.store = Some(self.store.to_string());
        }
        Ok(())
    }

    fn environments_file(&self) -> Origin {
        self.file.clone().map_or(Origin::Default, Origin::File)
    }

    fn folder(&self, around: &Surroundings) -> PathBuf {
        self.file.as_deref().and_then(Path::parent).unwrap_or(&around.folder).to_owned()
    }

    /// Every value that is in force, sorted by key, with its origin.
    pub fn effective(&self) -> Vec<Effective> {
        let mut found = Vec::new();
        let all = serde_json::to_value(&self.config).unwrap_or(Value::Null);
        self.flatten("", &all, Some(&self.typed), &mut found);
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    fn flatten(&self, key: &str, value: &Value, typed: Option<&Value>, found: &mut Vec<Effective>) {
        if let Value::Object(members) = value
            && !members.is_empty()
        {
            for (name, member) in members {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                self.flatten(&key, member, typed.and_then(|typed| typed.get(name)), found);
            }
            return;
        }
        let origin = match (key, typed) {
            ("store", _) => self.store_origin.clone(),
            (_, Some(_)) => self.environments_file(),
            (key, None) if key.contains(".databricks.") => self.environments_origin.clone(),
            (_, None) => Origin::Default,
        };
        found.push(Effective { key: key.to_owned(), value: value.clone(), origin });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Site {
        dir: tempfile::TempDir,
        around: Surroundings,
    }

    impl Site {
        fn new(file: &str, variables: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("c.yaml"), file).unwrap();
            let mut around = Surroundings { folder: dir.path().into(), ..Surroundings::default() };
            around.variables = variables.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
            // No file of the machine the test runs on is found.
            around.variables.insert("LAKEHOLD_CONFIG".into(), "c.yaml".into());
            Self { dir, around }
        }

        fn load(&self, store: Option<&str>) -> Settings {
            load(&Asked { store: store.map(str::to_owned), ..Asked::default() }, &self.around).unwrap()
        }
    }

    const FILE: &str =
        "version: 1\nstore: from-file\nenvironments:\n  p: {databricks: {host: https://x, token: env:T}}\n";

    #[test]
    fn flags_go_before_variables_before_the_file_before_defaults() {
        let place = |site: &Site, name: &str| StoreLocation::Directory(site.dir.path().join(name));
        let site = Site::new(FILE, &[("LAKEHOLD_STORE", "from-variable")]);
        assert_eq!(site.load(Some("from-flag")).store, place(&site, "from-flag"));
        assert_eq!(site.load(None).store, place(&site, "from-variable"));
        let site = Site::new(FILE, &[]);
        assert_eq!(site.load(None).store, place(&site, "from-file"));
        let site = Site::new("version: 1\n", &[]);
        assert_eq!(site.load(None).store, place(&site, "lakehold-store"));
    }

    #[test]
    fn every_value_tells_its_origin_and_secrets_are_references() {
        let site = Site::new(FILE, &[("T", "dapi-secret")]);
        let all = site.load(None).effective();
        let of = |key: &str| all.iter().find(|e| e.key == key).unwrap_or_else(|| panic!("{key} in {all:?}"));
        let file = Origin::File(site.dir.path().join("c.yaml"));
        assert_eq!(of("store").origin, file);
        assert_eq!(of("environments.p.databricks.token").value, "env:T");
        assert_eq!(of("environments.p.databricks.token").origin, file);
        assert_eq!(of("environments.p.limits.share").origin, Origin::Default);
        assert!(!format!("{all:?}").contains("dapi"));
    }

    #[test]
    fn a_profile_replaces_the_environments_of_the_file() {
        let site = Site::new(FILE, &[]);
        let settings =
            load(&Asked { profile: Some("dev".into()), ..Asked::default() }, &site.around).unwrap();
        assert_eq!(settings.config.environments.keys().map(ToString::to_string).collect::<Vec<_>>(), ["dev"]);
        assert_eq!(settings.store.to_string(), site.dir.path().join("from-file").display().to_string());
    }

    #[test]
    fn the_first_of_several_mistakes_says_there_are_more() {
        let site = Site::new("version: 1\nstore: gs://b\nqueue: amqp://x\n", &[]);
        let fault = load(&Asked::default(), &site.around).unwrap_err();
        assert_eq!((fault.code, fault.exit_code()), ("config.store-unsupported", 2));
        assert!(fault.detail.contains("1 more"), "{fault}");
    }
}
