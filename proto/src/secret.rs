//! Secrets as a type that cannot be printed, serialised or compared by accident.

use std::fmt;

/// A credential. `Debug` and `Display` print `[secret]`, and there is no `Serialize`. That its bytes are wiped on drop is
/// *not* promised (the allocator may have copied them): a core dump is as sensitive as the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a credential in. Surrounding white space is cut: it comes from files and environment variables, where a
    /// trailing newline is the usual mistake and no credential of ours may contain one.
    pub fn new(value: impl AsRef<str>) -> Self {
        Self(value.as_ref().trim().into())
    }

    /// The credential itself, for the one header or form field that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_of_itself() {
        let secret = Secret::new("dapi-very-secret\n");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "[secret] [secret] Some([secret])");
        assert_eq!(secret.reveal(), "dapi-very-secret");
    }
}
