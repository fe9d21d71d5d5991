//! Where a workspace is: what people paste as its address, made into one.

use std::net::IpAddr;

use lakehold_proto::fault::{Class, Fault, Result};
use reqwest::Url;

/// An address of a workspace, and the workspace id that it carried (`?o=`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Scheme, host and port, with the path `/`.
    pub(super) url: Url,
    /// The workspace id in it.
    pub(super) workspace_id: Option<String>,
}

/// Makes an address of `typed`: adds `https://`, cuts what a browser adds behind the host.
///
/// # Errors
/// `Config` when it is no address, not a web address, holds a password or a path, or is plain http to another machine.
pub(super) fn host(typed: &str) -> Result<Host> {
    let fault = |detail: &str| {
        Fault::new(Class::Config, "config.host", "read the host of the workspace", detail)
            .hint("give it like https://adb-123.4.azuredatabricks.net or https://name.cloud.databricks.com")
    };
    let typed = typed.trim();
    let whole = if typed.contains("://") { typed.to_owned() } else { format!("https://{typed}") };
    let mut url = Url::parse(&whole).map_err(|e| fault(&format!("{typed:?} is no address: {e}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        // What was typed holds a secret, so it is not repeated.
        return Err(fault("it must not hold a user name or password"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(fault(&format!("{typed:?} names no host")));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return Err(fault(&format!("{typed:?} is plain http, which is for loopback only: use https")));
        }
        other => return Err(fault(&format!("{other} is not a way to talk to a workspace: use https"))),
    }
    if is_forbidden(&url) {
        return Err(fault(&format!(
            "{typed:?} is a link-local or unspecified address, where no workspace lives"
        )));
    }
    if !url.path().trim_matches('/').is_empty() {
        return Err(fault(&format!("{typed:?} has a path behind the host: leave it out")));
    }
    let workspace_id = url.query_pairs().find(|(name, _)| name == "o").map(|(_, id)| id.into_owned());
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(Host { url, workspace_id })
}

/// What the limits of a workspace are counted by: its host, and its port where it is not the usual one.
pub(super) fn scope(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether an address is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(name) => ip(name).is_some_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// Whether secrets may be sent to `url`: over TLS, or within this machine.
pub(super) fn is_safe(url: &Url) -> bool {
    (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))) && !is_forbidden(url)
}

/// Whether `url` may be where `host` has its tokens issued: the same host, or one in the same domain.
pub(super) fn is_akin(url: &Url, host: &Url) -> bool {
    if !is_safe(url) {
        return false;
    }
    let (Some(one), Some(other)) = (url.host_str(), host.host_str()) else { return false };
    // `a.cloud.databricks.com` and `accounts.cloud.databricks.com` share all but the first label; never just `com`.
    let domain =
        |name: &str| name.split_once('.').map(|(_, rest)| rest.to_owned()).filter(|rest| rest.contains('.'));
    one == other || (ip(one).is_none() && domain(one).is_some() && domain(one) == domain(other))
}

/// Addresses where metadata services live, and nothing of ours.
pub(super) fn is_forbidden_ip(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.to_ipv4_mapped().is_some_and(|v4| is_forbidden_ip(v4.into()))
        }
    }
}

fn is_forbidden(url: &Url) -> bool {
    url.host_str().and_then(ip).is_some_and(is_forbidden_ip)
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The cloud that a host name belongs to.
pub(super) fn cloud(host: &Url) -> Option<&'static str> {
    const SUFFIXES: [(&str, &str); 6] = [
        (".azuredatabricks.net", "azure"),
        (".databricks.azure.us", "azure"),
        (".databricks.azure.cn", "azure"),
        (".gcp.databricks.com", "gcp"),
        (".cloud.databricks.com", "aws"),
        (".cloud.databricks.us", "aws"),
    ];
    let name = host.host_str()?;
    SUFFIXES.iter().find(|(suffix, _)| name.ends_with(suffix)).map(|(_, cloud)| *cloud)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_understood() {
        for (typed, url, id) in [
            ("adb-1.2.azuredatabricks.net", "https://adb-1.2.azuredatabricks.net/", None),
            (" https://x.cloud.databricks.com/ ", "https://x.cloud.databricks.com/", None),
            ("https://x.cloud.databricks.com:443//", "https://x.cloud.databricks.com/", None),
            (
                "https://adb-1.2.azuredatabricks.net/?o=42&a=7#job/1",
                "https://adb-1.2.azuredatabricks.net/",
                Some("42"),
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/", None),
            ("http://localhost:8080/", "http://localhost:8080/", None),
            ("http://[::1]:8080", "http://[::1]:8080/", None),
        ] {
            let read = host(typed).unwrap();
            assert_eq!((read.url.as_str(), read.workspace_id.as_deref()), (url, id), "{typed}");
        }
    }

    #[test]
    fn what_is_no_workspace_is_refused() {
        for typed in [
            "",
            "http://x.cloud.databricks.com",
            "ftp://x.cloud.databricks.com",
            "https://x.cloud.databricks.com/browse/folders",
            "https://user:hunter2@x.cloud.databricks.com",
            "https://169.254.169.254",
            "https://[fe80::1]",
            "http://0.0.0.0:80",
        ] {
            let refused = host(typed).unwrap_err();
            assert_eq!((refused.exit_code(), refused.code), (2, "config.host"), "{typed}");
            assert!(!format!("{refused:?}").contains("hunter2"));
        }
    }

    #[test]
    fn tokens_are_fetched_from_kin_only() {
        let url = |text: &str| Url::parse(text).unwrap();
        let workspace = url("https://x.cloud.databricks.com");
        assert!(is_akin(&url("https://x.cloud.databricks.com/oidc/v1/token"), &workspace));
        assert!(is_akin(&url("https://accounts.cloud.databricks.com/oidc"), &workspace));
        for other in ["https://evil.com/x", "http://x.cloud.databricks.com/", "https://169.254.169.254/token"]
        {
            assert!(!is_akin(&url(other), &workspace), "{other}");
        }
        assert!(!is_akin(&url("https://a.com"), &url("https://b.com")));
        assert!(!is_akin(&url("https://127.1.2.3"), &url("https://10.1.2.3")));
    }

    #[test]
    fn clouds_are_known_by_their_names() {
        let named = |text: &str| cloud(&Url::parse(text).unwrap());
        assert_eq!(named("https://adb-1.2.azuredatabricks.net"), Some("azure"));
        assert_eq!(named("https://1.2.gcp.databricks.com"), Some("gcp"));
        assert_eq!(named("https://x.cloud.databricks.com"), Some("aws"));
        assert_eq!(named("http://127.0.0.1"), None);
    }
}
