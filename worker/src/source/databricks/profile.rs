//! Profiles: the configuration file of the Databricks command line, read as its own tools read it.
//!
//! A section is a profile. `[DEFAULT]` is an ordinary one and is *not* inherited. `[__settings__]` is none; its
//! `default_profile` names the profile to take when none is named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;

/// The keys of one profile. Every value is treated as a secret: some are.
pub(super) type Profile = BTreeMap<String, Secret>;

/// The section that holds settings of the tools.
const SETTINGS: &str = "__settings__";
/// The profile that is taken when nobody names one.
const DEFAULT: &str = "DEFAULT";

/// Reads the profile `named`, or the default one, and answers its name with it. `Ok(None)` when none was named and there is no default, or no file.
///
/// # Errors
/// `Config` when the file cannot be read, is no such file, or lacks the profile that was named.
pub(super) fn profile(file: Option<&Path>, named: Option<&str>) -> Result<Option<(String, Profile)>> {
    let Some(path) = file.map(Path::to_owned).or_else(default_file) else {
        return match named {
            Some(name) => Err(absent(name, "there is no home directory to look for ~/.databrickscfg in")),
            None => Ok(None),
        };
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() && file.is_none() => {
            return Ok(None);
        }
        Err(e) => {
            return Err(Fault::new(
                Class::Config,
                "config.profile-file",
                format!("read {}", path.display()),
                e,
            )
            .hint("make it with `databricks configure`, or give config_file"));
        }
    };
    let mut sections = parse(&text).map_err(|(line, what)| {
        Fault::new(
            Class::Config,
            "config.profile-file",
            format!("read {}, line {line}", path.display()),
            what,
        )
    })?;
    if let Some(name) = named {
        let names: Vec<_> = sections.keys().filter(|name| *name != SETTINGS).cloned().collect();
        let found = sections.remove(name).filter(|_| name != SETTINGS);
        return found.map(|found| Some((name.to_owned(), found))).ok_or_else(|| {
            absent(name, &format!("{} has no such profile, only: {}", path.display(), names.join(", ")))
        });
    }
    let default = sections.get(SETTINGS).and_then(|settings| settings.get("default_profile"));
    let default = default.map_or_else(|| DEFAULT.to_owned(), |name| name.reveal().to_owned());
    Ok(sections.remove(&default).map(|found| (default, found)))
}

fn absent(name: &str, detail: &str) -> Fault {
    Fault::new(Class::Config, "config.profile-absent", format!("use the profile {name:?}"), detail)
}

/// `$DATABRICKS_CONFIG_FILE`, else `~/.databrickscfg`.
fn default_file() -> Option<PathBuf> {
    let named = std::env::var_os("DATABRICKS_CONFIG_FILE").filter(|path| !path.is_empty());
    named.map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".databrickscfg")))
}

/// The sections of a file. Errors tell the line and what is wrong, never what it holds: that may be a secret.
fn parse(text: &str) -> std::result::Result<BTreeMap<String, Profile>, (usize, &'static str)> {
    let mut sections: BTreeMap<String, Profile> = BTreeMap::new();
    let mut current = DEFAULT.to_owned();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or((at + 1, "a section has no closing bracket"))?;
            current = name.trim().to_owned();
            sections.entry(current.clone()).or_default();
            continue;
        }
        let split = line.find(['=', ':']).ok_or((at + 1, "neither a [section] nor a key = value"))?;
        let (key, value) = (line[..split].trim().to_ascii_lowercase(), line[split + 1..].trim());
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        if !value.is_empty() {
            sections.entry(current.clone()).or_default().insert(key, Secret::new(value));
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, named: Option<&str>) -> Result<Option<Profile>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cfg");
        std::fs::write(&path, text).unwrap();
        Ok(profile(Some(&path), named)?.map(|(_, found)| found))
    }

    fn host(found: &Profile) -> &str {
        found["host"].reveal()
    }

    const FILE: &str = "\u{feff}; comment\n[DEFAULT]\nhost = https://d\ntoken = t=1:2\n\n[prod]\nHOST: https://p\n# no\nclient_id=\n";

    #[test]
    fn default_is_an_ordinary_profile() {
        let default = read(FILE, None).unwrap().unwrap();
        assert_eq!((host(&default), default["token"].reveal()), ("https://d", "t=1:2"));
        let prod = read(FILE, Some("prod")).unwrap().unwrap();
        assert_eq!(host(&prod), "https://p");
        assert_eq!(prod.len(), 1, "nothing is inherited, and what is empty is not there");
    }

    #[test]
    fn settings_name_the_default() {
        let file = format!("{FILE}[__settings__]\ndefault_profile = prod\n");
        assert_eq!(host(&read(&file, None).unwrap().unwrap()), "https://p");
        assert_eq!(host(&read(&file, Some("DEFAULT")).unwrap().unwrap()), "https://d");
        assert!(read(&file, Some("__settings__")).is_err(), "it is no profile");
        assert!(read("[a]\nhost=x\n", None).unwrap().is_none(), "a missing default is no error");
    }

    #[test]
    fn a_missing_profile_names_those_there_are() {
        let refused = read(FILE, Some("prd")).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.detail.contains("DEFAULT, prod"), "{refused}");
    }

    #[test]
    fn a_damaged_file_tells_the_line_and_not_its_text() {
        let refused = read("[a]\nhost=x\ndapi-secret\n", Some("a")).unwrap_err();
        assert!(refused.to_string().contains("line 3") && !refused.to_string().contains("dapi"), "{refused}");
        assert!(read("[a\n", Some("a")).is_err());
        assert!(profile(Some(Path::new("/nonexistent/cfg")), None).is_err());
    }
}
