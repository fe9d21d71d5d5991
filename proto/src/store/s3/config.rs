//! Where a bucket is and how to get at it, and what of that can be refused before anything is asked.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::fault::{Class, Fault, Result};
use crate::secret::Secret;
use crate::store::Key;

/// Where a bucket is. What is left out comes from where the AWS tools take it: `AWS_REGION`, profiles, the instance.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// The bucket's name.
    pub bucket: String,
    /// The folder of the store in it, such as `backups/prod`; empty for the whole bucket.
    pub prefix: String,
    /// The server's URL, where it is not AWS. `https`; plain `http` for loopback, or with [`insecure`](Self::insecure).
    pub endpoint: Option<String>,
    /// The region; without one, and with an endpoint, `us-east-1`, which most other servers take.
    pub region: Option<String>,
    /// Whether the bucket goes into the path of a URL and not before its host. Most servers but AWS want that.
    pub path_style: bool,
    /// The id, ARN or alias of the KMS key that the server is to encrypt every object with.
    pub kms_key: Option<String>,
    /// Whether plain `http` is allowed to hosts other than this one.
    pub insecure: bool,
    /// Credentials. Without them, the standard chain: environment, profile, web identity, container, instance.
    pub keys: Option<S3Keys>,
    /// How often a request is sent before its failure is told; without it, 5 times.
    pub attempts: Option<NonZeroU32>,
    /// How long one attempt may take besides the time that its bytes need; without it, 30 seconds.
    pub timeout: Option<Duration>,
}

/// A pair of keys, with the token that makes them temporary.
#[derive(Clone, Debug)]
pub struct S3Keys {
    /// The access key's id.
    pub id: String,
    /// The secret access key.
    pub secret: Secret,
    /// The session token of temporary keys.
    pub session: Option<Secret>,
}

impl S3Config {
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.map_or(5, NonZeroU32::get)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(30))
    }

    /// The prefix as keys have it: empty, or ending in `/`.
    pub(super) fn root(&self) -> Result<String> {
        let prefix = self.prefix.trim_matches('/');
        if prefix.is_empty() {
            return Ok(String::new());
        }
        Key::parse(prefix).map_err(|_| {
            refused("config.store", format!("{prefix:?} cannot be the folder of a store"))
                .hint("use letters, digits and _.=- only, parted by single slashes")
        })?;
        Ok(format!("{prefix}/"))
    }

    /// Refuses what cannot be a bucket or must not be an endpoint.
    pub(super) fn check(&self) -> Result<()> {
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if !(3..=255).contains(&self.bucket.len()) || !self.bucket.bytes().all(name) {
            return Err(refused("config.store", format!("{:?} is not the name of a bucket", self.bucket))
                .hint("write s3://BUCKET/FOLDER; for an access point, use its alias"));
        }
        match &self.endpoint {
            Some(endpoint) => check_endpoint(endpoint, self.insecure),
            None => Ok(()),
        }
    }
}

// What was typed is not shown until it is known to hold no password.
fn check_endpoint(endpoint: &str, insecure: bool) -> Result<()> {
    let form = |why: &str| {
        Err(refused("config.endpoint", format!("the endpoint {why}"))
            .hint("write it as https://HOST or https://HOST:PORT"))
    };
    let Some((scheme, rest)) = endpoint.split_once("://") else { return form("is no URL") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(refused("config.endpoint", "the endpoint holds a user name or a password")
            .hint("leave them out of the URL: credentials come from the environment or a profile"));
    }
    if rest.contains(['?', '#']) {
        return form("has a query or a fragment");
    }
    let host = host_of(authority);
    if host.is_empty() {
        return form("names no host");
    }
    match scheme {
        "https" => Ok(()),
        "http" if is_loopback(host) => Ok(()),
        "http" if insecure => {
            tracing::warn!(
                endpoint = authority,
                "the store is reached by plain http: whoever is on the way can read it"
            );
            Ok(())
        }
        "http" => Err(refused(
            "config.endpoint",
            format!("http://{authority} is plain http, which is for loopback only"),
        )
        .hint("use https, or set `insecure: true` where the network is trusted with every byte")),
        _ => form("is neither https nor http"),
    }
}

fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn refused(code: &'static str, detail: impl std::fmt::Display) -> Fault {
    Fault::new(Class::Config, code, "open the store", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bucket: &str, prefix: &str, endpoint: Option<&str>) -> S3Config {
        S3Config {
            bucket: bucket.into(),
            prefix: prefix.into(),
            endpoint: endpoint.map(str::to_owned),
            ..S3Config::default()
        }
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for fine in [
            "https://s3.example",
            "https://s3.example:9000/",
            "http://localhost:9000",
            "http://127.0.0.9:1",
            "http://[::1]:9000",
        ] {
            config("bucket", "", Some(fine)).check().unwrap();
        }
        for bad in [
            "http://s3.example",
            "http://127.0.0.1.evil.example",
            "ftp://x",
            "s3.example",
            "https://",
            "https://x/?y",
        ] {
            let fault = config("bucket", "", Some(bad)).check().unwrap_err();
            assert_eq!((fault.code, fault.exit_code()), ("config.endpoint", 2), "{bad}");
        }
        let trusted = S3Config { insecure: true, ..config("bucket", "", Some("http://s3.example")) };
        trusted.check().unwrap();
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_shown() {
        for bad in ["https://me:hunter2@s3.example", "http://hunter2@s3.example/x", "ftp://a:hunter2@x"] {
            let fault = config("bucket", "", Some(bad)).check().unwrap_err();
            assert!(!format!("{fault} {fault:?}").contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn a_prefix_becomes_a_folder() {
        assert_eq!(config("b", "", None).root().unwrap(), "");
        assert_eq!(config("b", "/x/y/", None).root().unwrap(), "x/y/");
        for bad in ["a//b", "../x", "a b"] {
            assert!(config("b", bad, None).root().is_err(), "{bad}");
        }
        for bad in ["", "a/b", "ab", "x y z", "arn:aws:s3:::x"] {
            assert!(config(bad, "", None).check().is_err(), "{bad}");
        }
    }
}
