//! How to reach a server: a URL alone, or with what must stand beside it.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::SecretRef;
use crate::fault::{Class, Fault, Result};
use crate::secret::Secret;

/// A message broker or a Redis. Written as a URL, or as a block where more is to be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerConfig {
    /// The URL without a password, or `env:NAME` or `file:PATH` for one that has it.
    pub url: String,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The PEM file of the only authorities to trust, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The PEM file of a certificate to show, followed by those between it and its authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The PEM file of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Allows a connection in the clear to another machine: whoever is in between reads all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// The same as a block.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    url: String,
    password: Option<SecretRef>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
}

impl<'de> Deserialize<'de> for ServerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(UrlOrBlock)
    }
}

struct UrlOrBlock;

impl<'de> Visitor<'de> for UrlOrBlock {
    type Value = ServerConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a block with `url:`")
    }

    fn visit_str<E: serde::de::Error>(self, url: &str) -> std::result::Result<Self::Value, E> {
        Ok(ServerConfig::at(url))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Self::Value, A::Error> {
        let Block { url, password, ca, certificate, key, insecure } =
            Block::deserialize(MapAccessDeserializer::new(map))?;
        Ok(ServerConfig { url, password, ca, certificate, key, insecure })
    }
}

impl ServerConfig {
    /// A server at `url`, with nothing said beside it.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), password: None, ca: None, certificate: None, key: None, insecure: false }
    }

    /// The URL, with the password in it where one is given apart.
    ///
    /// # Errors
    /// `Config` when a secret cannot be had, or the URL is none or has a password where everybody can read it.
    pub fn url(&self, key: &str) -> Result<Secret> {
        let secret = self.secret_url();
        let plain = match &secret {
            Some(reference) => reference.resolve()?,
            None => Secret::new(&self.url),
        };
        let wrong = |code, detail: &str| Fault::new(Class::Config, code, format!("check `{key}`"), detail);
        if is_sentinel(plain.reveal()) {
            // Several hosts are no URL that a library reads: Redis's own adapter does.
            if self.password.is_some() || (secret.is_none() && plain.reveal().contains('@')) {
                return Err(wrong(
                    "config.password",
                    "an address of Sentinels has its password in the URL, and the URL elsewhere",
                )
                .hint(format!(
                    "write `{key}: env:NAME` or `{key}: file:PATH`, and the whole address there"
                )));
            }
            return Ok(plain);
        }
        let mut url = url::Url::parse(plain.reveal()).map_err(|e| wrong("config.url", &e.to_string()))?;
        if secret.is_none() && url.password().is_some() {
            return Err(wrong(
                "config.password",
                "the URL has a password in it, for every reader of the file to see",
            )
            .hint(format!(
                "write `{key}: {{url: …, password: env:NAME}}`, or the whole URL as `{key}: env:NAME`"
            )));
        }
        if let Some(password) = &self.password {
            url.set_password(Some(password.resolve()?.reveal()))
                .map_err(|()| wrong("config.url", "it has no host, so it cannot have a password"))?;
        }
        Ok(Secret::new(url.as_str()))
    }

    fn secret_url(&self) -> Option<SecretRef> {
        SecretRef::try_from(self.url.clone()).ok()
    }

    /// What is wrong with what was typed, as far as it shows without looking for secrets.
    pub(super) fn fault(&self, key: &str, schemes: &[&str]) -> Option<Fault> {
        if self.certificate.is_some() != self.key.is_some() {
            let detail = "a certificate to show needs its key, and the other way round";
            return Some(Fault::new(Class::Config, "config.certificate", format!("check `{key}`"), detail));
        }
        if self.secret_url().is_some() {
            return None;
        }
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        if schemes.contains(&scheme) {
            let bare = Self { password: None, ..self.clone() };
            return bare.url(key).err();
        }
        // What was typed may hold a password, so it is not repeated.
        let detail = format!("its URL does not begin with {}://", schemes.join(":// or "));
        Some(
            Fault::new(Class::Config, "config.url", format!("check `{key}`"), detail)
                .hint("or write env:NAME or file:PATH for a URL that is a secret"),
        )
    }
}

fn is_sentinel(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("+sentinel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> ServerConfig {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_url_alone_and_a_block_mean_the_same() {
        assert_eq!(read("amqps://mq.example/dr"), read("{url: 'amqps://mq.example/dr'}"));
        assert!(serde_saphyr::from_str::<ServerConfig>("{url: x, pasword: env:A}").is_err());
    }

    #[test]
    fn a_password_in_the_file_is_refused_and_not_repeated() {
        let fault = read("amqps://me:hunter2@mq.example/dr").fault("queue", &["amqps"]).unwrap();
        assert_eq!(fault.code, "config.password");
        assert!(!format!("{fault:?}").contains("hunter2"));
        let fault = read("http://me:hunter2@mq.example/dr").fault("queue", &["amqps"]).unwrap();
        assert!(!format!("{fault:?}").contains("hunter2"));
    }

    #[test]
    fn sentinels_are_several_hosts_and_keep_their_password_elsewhere() {
        let schemes = ["redis+sentinel"];
        let address = "redis+sentinel://a:26379,b:26379/m";
        assert!(read(address).fault("redis", &schemes).is_none());
        assert_eq!(read(address).url("redis").unwrap().reveal(), address);
        let fault = read("redis+sentinel://:hunter2@a:26379,b:26379/m").fault("redis", &schemes).unwrap();
        assert_eq!(fault.code, "config.password");
        assert!(!format!("{fault:?}").contains("hunter2"));
    }

    #[test]
    fn a_password_beside_the_url_is_put_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "p@ss/word\n").unwrap();
        let server =
            ServerConfig { password: Some(SecretRef::File(path)), ..read("amqps://me@mq.example/dr") };
        assert_eq!(server.url("queue").unwrap().reveal(), "amqps://me:p%40ss%2Fword@mq.example/dr");
    }
}
