//! Names to addresses, but never to those where metadata services live: a name of the configuration must not become a way
//! to a machine's own credentials.

use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::host::is_forbidden_ip;

/// The system's resolver without link-local, unspecified and multicast addresses.
#[derive(Debug)]
pub(super) struct Careful;

impl Resolve for Careful {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| !is_forbidden_ip(address.ip())).collect();
            if allowed.is_empty() {
                let refused = "it resolves to no address that a workspace may have";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
