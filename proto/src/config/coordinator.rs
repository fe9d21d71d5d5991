//! The coordinator as a service: `coordinator:`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use url::Url;

use super::SecretRef;
use super::check::wrong;
use crate::fault::{Fault, Result};

/// How the commands reach `lakehold serve`, and how it serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorConfig {
    /// Where it is: then `backup` hands its runs over to it. Plain `http` for loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The token that callers show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// The address and port that `lakehold serve` listens on.
    pub listen: String,
    /// Allows plain `http` to and from other machines: whoever is in between reads the token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self { url: None, token: None, listen: "127.0.0.1:8640".into(), insecure: false }
    }
}

impl CoordinatorConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Where it is, if it was said.
    ///
    /// # Errors
    /// `Config` (`config.coordinator`) when that is no URL it could be reached by.
    pub fn address(&self) -> Result<Option<Url>> {
        let Some(typed) = &self.url else { return Ok(None) };
        let refuse = |detail: &str| Err(wrong("config.coordinator", "coordinator.url", detail));
        let Ok(url) = Url::parse(typed) else {
            return refuse("it is no URL: write it like https://lakehold.example");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("it has a user in it: the token is all that is asked for");
        }
        let near = url.host_str().is_some_and(is_loopback);
        match url.scheme() {
            "https" => Ok(Some(url)),
            "http" if near || self.insecure => Ok(Some(url)),
            "http" => refuse("plain http is for loopback only, or the token would be read on the way")
                .map_err(|fault| {
                    fault.hint("write https://, or `insecure: true` where the network is trusted")
                }),
            _ => refuse("it is neither http:// nor https://"),
        }
    }

    /// Where `lakehold serve` listens.
    ///
    /// # Errors
    /// `Config` (`config.coordinator`) when it is no address, or one that others reach in the clear.
    pub fn listens(&self) -> Result<SocketAddr> {
        let refuse = |detail: &str| wrong("config.coordinator", "coordinator.listen", detail);
        let address: SocketAddr = self
            .listen
            .parse()
            .map_err(|_| refuse("it is no address with a port, such as 127.0.0.1:8640"))?;
        if address.ip().is_loopback() || self.insecure {
            return Ok(address);
        }
        Err(refuse("it speaks plain http, and other machines could reach it")
            .hint("listen on 127.0.0.1 behind a proxy that speaks TLS, or write `insecure: true` where the network is trusted"))
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        [self.address().err(), self.listens().err()].into_iter().flatten().collect()
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> CoordinatorConfig {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn plain_http_is_for_loopback() {
        for good in
            ["http://127.0.0.1:8640", "http://localhost:1", "http://[::1]:8640", "https://x.example/lakehold"]
        {
            assert!(read(&format!("{{url: '{good}'}}")).faults().is_empty(), "{good}");
        }
        for bad in ["http://x.example", "ftp://127.0.0.1", "127.0.0.1:8640", "https://me:hunter2@x.example"] {
            let faults = read(&format!("{{url: '{bad}'}}")).faults();
            assert_eq!(faults[0].code, "config.coordinator", "{bad}");
            assert!(!format!("{faults:?}").contains("hunter2"));
        }
        assert!(read("{url: 'http://x.example', insecure: true}").faults().is_empty());
    }

    #[test]
    fn who_listens_to_others_must_mean_it() {
        assert_eq!(CoordinatorConfig::default().listens().unwrap().port(), 8640);
        assert_eq!(read("{listen: '0.0.0.0:8640'}").faults().len(), 1);
        assert!(read("{listen: '0.0.0.0:8640', insecure: true}").faults().is_empty());
        assert_eq!(read("{listen: '8640'}").faults().len(), 1);
    }
}
