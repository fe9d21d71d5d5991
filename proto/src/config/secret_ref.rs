//! References to secrets: what a configuration file holds instead of them.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fault::{Class, Fault, Result};
use crate::secret::Secret;

/// Where a secret is to be had: `env:NAME` or `file:PATH`. Plain text is refused, so no configuration file is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file, such as a mounted Kubernetes secret.
    File(PathBuf),
}

impl SecretRef {
    /// Reads the secret. Called when it is needed, so that a file replaced meanwhile gives its new content.
    ///
    /// # Errors
    /// `Config` when the variable or file is absent or empty.
    pub fn resolve(&self) -> Result<Secret> {
        let context = || format!("read the secret {self}");
        let secret = match self {
            Self::Env(name) => std::env::var(name).map_err(|_| {
                Fault::new(Class::Config, "config.secret-absent", context(), "the variable is not set")
                    .hint(format!("export {name}=… before you run lakehold"))
            })?,
            Self::File(path) => std::fs::read_to_string(path).map_err(|e| {
                Fault::new(Class::Config, "config.secret-absent", context(), e)
                    .hint("give lakehold read access to that file")
            })?,
        };
        let secret = Secret::new(secret);
        if secret.is_empty() {
            return Err(Fault::new(Class::Config, "config.secret-absent", context(), "it is empty"));
        }
        Ok(secret)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            // What was typed may be the secret itself, so it is not repeated.
            _ => Err("a secret is given as env:NAME or file:PATH, never as plain text".into()),
        }
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_refused_without_repeating_it() {
        let refused = SecretRef::try_from("dapi123".to_owned()).unwrap_err();
        assert!(!refused.contains("dapi"), "{refused}");
        assert_eq!(SecretRef::try_from("env:TOKEN".to_owned()).unwrap(), SecretRef::Env("TOKEN".into()));
    }

    #[test]
    fn a_file_is_read_when_needed_and_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let reference = SecretRef::File(path.clone());
        assert_eq!(reference.resolve().unwrap_err().exit_code(), 2);
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(reference.resolve().unwrap().reveal(), "one");
        std::fs::write(&path, "\n").unwrap();
        assert!(reference.resolve().is_err());
    }
}
