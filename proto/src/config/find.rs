//! Where the configuration file is looked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::fault::{Class, Fault, Result};

/// What the process was started in, as values: so that finding the configuration can be tested.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment variables.
    pub variables: HashMap<String, String>,
    /// The folder the process was started in.
    pub folder: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// `Config` when the folder it was started in is gone.
    pub fn of_process() -> Result<Self> {
        let folder = std::env::current_dir().map_err(|e| {
            Fault::new(Class::Config, "config.folder", "find the current directory", e)
                .hint("change to a directory that exists")
        })?;
        // Variables that are not text can be neither a path of ours nor a credential.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Self { variables: variables.collect(), folder })
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The configuration file: `asked` (from `--config`), else `$LAKEHOLD_CONFIG`, else the first there is of
/// `./lakehold.yaml`, `$XDG_CONFIG_HOME/lakehold/lakehold.yaml` (`~/.config` when that is not set) and
/// `/etc/lakehold/lakehold.yaml`. `None` when there is none; a file that was named must exist.
///
/// # Errors
/// `Config` (`config.absent`) when the file that was named is not there.
pub fn find(asked: Option<&Path>, around: &Surroundings) -> Result<Option<PathBuf>> {
    let named = asked
        .map(|path| (path.to_owned(), "--config"))
        .or_else(|| around.variable("LAKEHOLD_CONFIG").map(|path| (path.into(), "LAKEHOLD_CONFIG")));
    if let Some((path, by)) = named {
        let path = around.folder.join(path);
        if path.is_file() {
            return Ok(Some(path));
        }
        let detail = format!("{} (named by {by}) is not a file", path.display());
        return Err(Fault::new(Class::Config, "config.absent", "find the configuration", detail)
            .hint("name a file that exists, or leave it out to use ./lakehold.yaml"));
    }
    Ok(places(around).into_iter().find(|path| path.is_file()))
}

/// The places where a file that was not named is looked for, in order.
pub(super) fn places(around: &Surroundings) -> Vec<PathBuf> {
    let home = || around.variable("HOME").map(|home| Path::new(home).join(".config"));
    let xdg = around.variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    let mut places = vec![around.folder.join("lakehold.yaml")];
    places.extend(xdg.map(|xdg| xdg.join("lakehold/lakehold.yaml")));
    places.push("/etc/lakehold/lakehold.yaml".into());
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(folder: &Path, variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Surroundings { variables, folder: folder.into() }
    }

    #[test]
    fn a_named_file_goes_before_the_usual_places_and_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path();
        let xdg = here.join("xdg").display().to_string();
        let bare = around(here, &[("XDG_CONFIG_HOME", &xdg)]);
        assert!(find(None, &bare).unwrap().is_none_or(|path| path.starts_with("/etc")));
        std::fs::create_dir_all(here.join("xdg/lakehold")).unwrap();
        std::fs::write(here.join("xdg/lakehold/lakehold.yaml"), "").unwrap();
        assert_eq!(find(None, &bare).unwrap().unwrap(), here.join("xdg/lakehold/lakehold.yaml"));
        std::fs::write(here.join("lakehold.yaml"), "").unwrap();
        assert_eq!(find(None, &bare).unwrap().unwrap(), here.join("lakehold.yaml"));
        std::fs::write(here.join("other.yaml"), "").unwrap();
        let named = around(here, &[("LAKEHOLD_CONFIG", "other.yaml")]);
        assert_eq!(find(None, &named).unwrap().unwrap(), here.join("other.yaml"));
        assert_eq!(
            find(Some(Path::new("lakehold.yaml")), &named).unwrap().unwrap(),
            here.join("lakehold.yaml")
        );
        let absent = find(Some(Path::new("none.yaml")), &bare).unwrap_err();
        assert_eq!((absent.code, absent.exit_code()), ("config.absent", 2));
    }
}
