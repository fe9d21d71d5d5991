//! Profiles: the configuration file of the Databricks command line, read as its own tools read it.
//!
//! A section is a profile. `[DEFAULT]` is an ordinary one and is *not* inherited. `[__settings__]` is none. Which profile is
//! meant is always said: one that nobody named is never taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;

/// The keys of one profile. Every value is treated as a secret: some are.
pub(super) type Profile = BTreeMap<String, Secret>;

/// The section that holds settings of the tools.
const SETTINGS: &str = "__settings__";
/// The profile of what stands before the first section.
const DEFAULT: &str = "DEFAULT";

/// Reads the profile `name`.
///
/// # Errors
/// `Config` when the file cannot be read, is no such file, or lacks the profile.
pub(super) fn profile(file: Option<&Path>, name: &str) -> Result<Profile> {
    let path = file.map(Path::to_owned).or_else(default_file);
    let path =
        path.ok_or_else(|| absent(name, "there is no home directory to look for ~/.databrickscfg in"))?;
    let doing = || format!("read {}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Fault::new(Class::Config, "config.profile-file", doing(), e)
            .hint("make it with `databricks configure`, or give config_file")
    })?;
    let mut sections = parse(&text).map_err(|(line, what)| {
        let doing = format!("{}, line {line}", doing());
        Fault::new(Class::Config, "config.profile-file", doing, what)
    })?;
    sections.remove(SETTINGS);
    sections.remove(name).ok_or_else(|| {
        let names: Vec<_> = sections.keys().cloned().collect();
        absent(name, &format!("{} has no such profile, only: {}", path.display(), names.join(", ")))
    })
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

    fn read(text: &str, name: &str) -> Result<Profile> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cfg");
        std::fs::write(&path, text).unwrap();
        profile(Some(&path), name)
    }

    fn host(found: &Profile) -> &str {
        found["host"].reveal()
    }

    const FILE: &str = "\u{feff}; comment\n[DEFAULT]\nhost = https://d\ntoken = t=1:2\n\n[prod]\nHOST: https://p\n# no\nclient_id=\n";

    #[test]
    fn default_is_an_ordinary_profile() {
        let default = read(FILE, "DEFAULT").unwrap();
        assert_eq!((host(&default), default["token"].reveal()), ("https://d", "t=1:2"));
        let prod = read(FILE, "prod").unwrap();
        assert_eq!(host(&prod), "https://p");
        assert_eq!(prod.len(), 1, "nothing is inherited, and what is empty is not there");
        let file = format!("{FILE}[__settings__]\ndefault_profile = prod\n");
        assert!(read(&file, "__settings__").is_err(), "it is no profile");
    }

    #[test]
    fn a_missing_profile_names_those_there_are() {
        let refused = read(FILE, "prd").unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.detail.contains("DEFAULT, prod"), "{refused}");
    }

    #[test]
    fn a_damaged_file_tells_the_line_and_not_its_text() {
        let refused = read("[a]\nhost=x\ndapi-secret\n", "a").unwrap_err();
        assert!(refused.to_string().contains("line 3") && !refused.to_string().contains("dapi"), "{refused}");
        assert!(read("[a\n", "a").is_err());
        assert!(profile(Some(Path::new("/nonexistent/cfg")), "a").is_err());
    }
}
