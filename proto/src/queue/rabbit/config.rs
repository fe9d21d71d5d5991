//! Where the broker is, who we are, and whom we trust. Nothing here prints a credential: the URL is shown without its user,
//! and what cannot be parsed is not repeated.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::faults;
use crate::fault::{Class, Fault, Result};
use crate::secret::Secret;

/// How to reach a broker.
#[derive(Clone, Debug)]
pub struct RabbitConfig {
    /// `amqps://user:password@host:port/vhost`, or `amqp://` (see `insecure`). User and password are percent-encoded. No
    /// path, or an empty one, means the virtual host `/`. Of the query, `heartbeat` (seconds), `channel_max` and
    /// `auth_mechanism` are heeded.
    pub url: Secret,
    /// The password, where it is kept apart from the URL.
    pub password: Option<Secret>,
    /// The PEM file of the only authorities that may have signed the broker's certificate; the system's where absent. Read
    /// again for each connection, so that it can be replaced while we run; so are the next two.
    pub ca: Option<PathBuf>,
    /// The certificate and the key that we show to the broker.
    pub client: Option<ClientCertificate>,
    /// Allows `amqp://` to a host that is not this machine: whoever listens there or in between reads the password.
    pub insecure: bool,
    /// What the broker's own lists call our connections.
    pub name: String,
    /// How long `publish` and `consume` wait for a broker that is away, blocked or silent before that is a fault.
    pub patience: Duration,
}

/// PEM files of a client.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Its certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl RabbitConfig {
    /// A broker at `url`, with the system's authorities and a patience of 30 seconds.
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            password: None,
            ca: None,
            client: None,
            insecure: false,
            name: "lakehold".to_owned(),
            patience: Duration::from_secs(30),
        }
    }
}

/// Twice this many seconds of silence end a connection. Vendor's advice is 5 to 20
/// (<https://www.rabbitmq.com/docs/heartbeats>, 2026-11-21).
const HEARTBEAT: u16 = 20;
/// The library keeps 64 frames of memory for each connection, 8 MiB at the broker's usual 128 KiB; a message of ours fits
/// into three of these. The least that RabbitMQ 4.1 takes is 8 KiB.
const FRAME_MAX: u32 = 32 * 1024;

/// A checked [`RabbitConfig`].
pub(super) struct Endpoint {
    pub(super) uri: AMQPUri,
    /// The URL without its user.
    pub(super) shown: String,
    pub(super) name: String,
    ca: Option<PathBuf>,
    client: Option<ClientCertificate>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Endpoint {
    pub(super) fn of(config: &RabbitConfig) -> Result<Self> {
        let mut uri: AMQPUri = config.url.reveal().parse().map_err(|_unrepeatable: String| {
            bad_url("it is not `amqps://user:password@host:port/vhost`")
                .hint("percent-encode what is special in a URL, such as `/`, `@` and `#` in a password")
        })?;
        if let Some(address) = bracketed(config.url.reveal()) {
            uri.authority.host = address.to_owned();
        }
        if let Some(password) = &config.password {
            uri.authority.userinfo.password = password.reveal().to_owned();
        }
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.frame_max = Some(FRAME_MAX);
        let host = &uri.authority.host;
        if uri.scheme == AMQPScheme::AMQP && !config.insecure && !is_this_machine(host) {
            let detail =
                format!("`amqp://` to {host} would send the password and every message in the clear");
            return Err(bad_url(detail).hint("use `amqps://`, or allow it by `insecure: true`"));
        }
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let vhost = uri.vhost.strip_prefix('/').unwrap_or(&uri.vhost);
        let shown = format!("{}://{host}:{}/{vhost}", uri.scheme, uri.authority.port);
        let (ca, client) = (config.ca.clone(), config.client.clone());
        let endpoint = Self { uri, shown, name: config.name.clone(), ca, client };
        endpoint.tls()?;
        Ok(endpoint)
    }

    /// What ends TLS on our side; `None` for a plain connection.
    pub(super) fn tls(&self) -> Result<Option<RustlsConnector>> {
        if self.uri.scheme == AMQPScheme::AMQP {
            return Ok(None);
        }
        let fault = |detail: &dyn fmt::Display| faults::tls(format!("prepare TLS to {}", self.shown), detail);
        let mut config = match &self.ca {
            Some(_) => RustlsConnectorConfig::default(),
            None => RustlsConnectorConfig::new_with_native_certs().map_err(|e| fault(&e))?,
        };
        if let Some(file) = &self.ca {
            config.add_parsable_certificates(certificates(file)?);
        }
        let connector = match &self.client {
            Some(client) => {
                let key =
                    PrivateKeyDer::from_pem_file(&client.key).map_err(|e| unreadable(&client.key, e))?;
                config.connector_with_single_cert(certificates(&client.certificate)?, key)
            }
            None => config.connector_with_no_client_auth(),
        };
        connector.map(Some).map_err(|e| fault(&e))
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match read {
        Ok(some) if !some.is_empty() => Ok(some),
        Ok(_) => Err(unreadable(file, "there is no certificate in it")),
        Err(e) => Err(unreadable(file, e)),
    }
}

fn unreadable(file: &Path, detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Config, "queue.tls", format!("read {}", file.display()), detail)
        .hint("it must be a PEM file that this user may read")
}

fn bad_url(detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Config, "queue.url", "read the URL of the broker", detail)
}

/// The IPv6 address of a URL, which the library's parser takes for no host at all.
fn bracketed(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?.split(']').next()
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint> {
        Endpoint::of(&RabbitConfig::new(Secret::new(url)))
    }

    #[test]
    fn shows_where_and_never_who() {
        let shown = |url: &str| format!("{:?}", endpoint(url).unwrap());
        assert_eq!(shown("amqp://me:hunter2@localhost/dr"), "amqp://localhost:5672/dr");
        assert_eq!(shown("amqp://me:hunter2@127.0.0.1:99"), "amqp://127.0.0.1:99/");
        assert_eq!(shown("amqp://me:hunter2@[::1]:99/"), "amqp://[::1]:99/");
        assert_eq!(endpoint("amqp://me:a%2Fb@localhost").unwrap().uri.authority.userinfo.password, "a/b");
    }

    #[test]
    fn refuses_what_it_does_not_understand_without_repeating_it() {
        for url in
            ["mq.example:hunter2", "http://me:hunter2@mq", "amqp://me:hunter2/x@localhost:x", "", "hunter2"]
        {
            let fault = endpoint(url).unwrap_err();
            assert_eq!((fault.class, fault.code), (Class::Config, "queue.url"), "{url}");
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
    }

    #[test]
    fn speaks_plain_to_this_machine_alone() {
        assert!(endpoint("amqp://me:hunter2@mq.example").unwrap_err().to_string().contains("in the clear"));
        let mut config = RabbitConfig::new(Secret::new("amqp://me:hunter2@mq.example"));
        config.insecure = true;
        assert!(Endpoint::of(&config).is_ok());
    }

    #[test]
    fn says_which_file_is_wrong() {
        let mut config = RabbitConfig::new(Secret::new("amqps://mq.example"));
        config.ca = Some("/nowhere/ca.pem".into());
        let fault = Endpoint::of(&config).unwrap_err();
        assert_eq!((fault.code, fault.context.as_str()), ("queue.tls", "read /nowhere/ca.pem"));
    }

    #[test]
    fn a_password_may_be_kept_apart() {
        let mut config = RabbitConfig::new(Secret::new("amqp://me@localhost"));
        config.password = Some(Secret::new("hunter2"));
        assert_eq!(Endpoint::of(&config).unwrap().uri.authority.userinfo.password, "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
