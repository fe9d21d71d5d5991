//! Where a store is, as typed and as meant.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::fault::{Class, Fault, Result};

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// A directory, absolute or relative to the current one.
    Directory(PathBuf),
    /// A folder in a bucket of an S3 server.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// The folder: keys begin with it. Empty for the whole bucket.
        prefix: String,
    },
}

impl StoreLocation {
    /// Reads a path, a `file:///` URL or an `s3://bucket/folder` one. A relative path is taken from `folder`: that of the configuration file, so that
    /// the same file means the same store wherever it is used from.
    ///
    /// # Errors
    /// `Config`: `config.store-unsupported` for a scheme that this build does not serve, `config.store` for what is no
    /// location.
    pub fn read(typed: &str, folder: &Path) -> Result<Self> {
        let fault =
            |code, detail: String| Err(Fault::new(Class::Config, code, "read the store's location", detail));
        let path = match typed.split_once("://") {
            None if typed.is_empty() => return fault("config.store", "it is empty".into()),
            None => folder.join(typed),
            Some(("file", path)) if path.starts_with('/') => match decoded(path) {
                Some(path) => path.into(),
                None => return fault("config.store", format!("{typed:?} has a broken %-escape")),
            },
            Some(("file", _)) => {
                return fault("config.store", format!("{typed:?} does not name a path of this machine"))
                    .map_err(|fault: Fault| {
                        fault.hint("write file:///path with three slashes, or just the path")
                    });
            }
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return fault("config.store", format!("{typed:?} names no bucket"));
                }
                return Ok(Self::Bucket {
                    bucket: bucket.to_owned(),
                    prefix: prefix.trim_matches('/').to_owned(),
                });
            }
            Some((scheme, _)) => {
                return fault("config.store-unsupported", format!("{scheme}:// is no kind of store"))
                    .map_err(|fault: Fault| {
                        fault
                            .hint("use a directory (a path or file:///path) or a bucket (s3://bucket/folder)")
                    });
            }
        };
        Ok(Self::Directory(path))
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Undoes the %-escapes of a URL; `None` when one is broken or the result is not UTF-8.
fn decoded(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(*hex::decode(digits).ok()?.first()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_file_urls_are_directories() {
        for (typed, path) in [
            ("store", "/etc/lakehold/store"),
            ("./store", "/etc/lakehold/./store"),
            ("/var/lib/x", "/var/lib/x"),
            ("file:///var/lib/x", "/var/lib/x"),
            ("file:///var/a%20b", "/var/a b"),
        ] {
            let read = StoreLocation::read(typed, Path::new("/etc/lakehold")).unwrap();
            assert_eq!(read, StoreLocation::Directory(path.into()), "{typed}");
        }
    }

    #[test]
    fn a_bucket_may_have_a_folder() {
        for (typed, folder) in [("s3://bucket", ""), ("s3://bucket/", ""), ("s3://bucket/a/b/", "a/b")] {
            let read = StoreLocation::read(typed, Path::new("/")).unwrap();
            let expected = StoreLocation::Bucket { bucket: "bucket".into(), prefix: folder.into() };
            assert_eq!(read, expected, "{typed}");
        }
    }

    #[test]
    fn other_schemes_are_refused_with_a_hint() {
        for (typed, code) in [
            ("s3:///x", "config.store"),
            ("gs://bucket", "config.store-unsupported"),
            ("file://host/x", "config.store"),
            ("file:///a%2", "config.store"),
            ("", "config.store"),
        ] {
            let fault = StoreLocation::read(typed, Path::new("/")).unwrap_err();
            assert_eq!((fault.code, fault.exit_code()), (code, 2), "{typed}");
        }
    }
}
