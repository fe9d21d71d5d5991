//! Where Redis is, and as whom we come: the forms of URL that the module page lists, read once.

use std::fmt;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates,
    io::tcp::TcpSettings,
};

use super::RedisConfig;
use crate::fault::{Class, Fault, Result};

const CONTEXT: &str = "read the address of Redis";
/// The port of a Sentinel that names none.
const SENTINEL_PORT: u16 = 26_379;

/// A checked address. It prints without credentials.
#[derive(Clone)]
pub(super) struct Address {
    shown: String,
    insecure: bool,
    tls: Option<TlsCertificates>,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Server(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, like: ConnectionInfo },
}

/// Who knows which server is the primary.
pub(super) struct Sentinels<'a> {
    pub(super) nodes: &'a [ConnectionInfo],
    pub(super) master: &'a str,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// Reads the address of `config`.
    ///
    /// # Errors
    /// `Config`: `locks.url` for a form that is not ours, `locks.plain` for credentials and locks in the clear over a
    /// network, `locks.tls` for certificates that cannot be used.
    pub(super) fn read(config: &RedisConfig) -> Result<Self> {
        let url = config.url.reveal();
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let shown = shown(scheme, rest);
        let place = match scheme {
            "redis" | "rediss" | "unix" | "redis+unix" => Place::Server(node(url)?),
            "redis+sentinel" => sentinel("redis", rest)?,
            "rediss+sentinel" => sentinel("rediss", rest)?,
            _ => return Err(wrong(format!("nothing is known of {scheme}:"))),
        };
        let tls = config.tls.as_ref().map(|tls| TlsCertificates {
            root_cert: tls.ca.clone(),
            client_tls: tls.identity.as_ref().map(|(certificate, key)| ClientTlsConfig {
                client_cert: certificate.clone(),
                client_key: key.reveal().as_bytes().to_vec(),
            }),
        });
        let address = Self { shown, insecure: config.insecure, tls, place };
        for node in address.nodes() {
            address.may_go(node.addr())?;
            address.client(node.clone())?;
        }
        Ok(address)
    }

    /// The Sentinels to ask, where there are any.
    pub(super) fn sentinels(&self) -> Option<Sentinels<'_>> {
        match &self.place {
            Place::Server(_) => None,
            Place::Sentinel { sentinels, master, .. } => Some(Sentinels { nodes: sentinels, master }),
        }
    }

    /// A client of the one server, or of the primary that a Sentinel named.
    ///
    /// # Errors
    /// `Config`, `locks.plain`: the Sentinel named a server that we may not talk to in the clear.
    pub(super) fn server(&self, named: Option<(String, u16)>) -> Result<Client> {
        let mut info = match &self.place {
            Place::Server(info) => info.clone(),
            Place::Sentinel { like, .. } => like.clone(),
        };
        if let Some((host, port)) = named {
            let addr = match info.addr() {
                ConnectionAddr::TcpTls { .. } => {
                    ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
                }
                _ => ConnectionAddr::Tcp(host, port),
            };
            self.may_go(&addr)?;
            info = info.set_addr(addr);
        }
        self.client(info)
    }

    /// A client of `node`, with our certificates where it wants TLS.
    ///
    /// # Errors
    /// `Config`, `locks.tls`.
    pub(super) fn client(&self, node: ConnectionInfo) -> Result<Client> {
        let redis = node.redis_settings().clone().set_skip_set_lib_name();
        let info = node.set_redis_settings(redis).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let made = match (info.addr(), &self.tls) {
            (ConnectionAddr::TcpTls { .. }, Some(certificates)) => {
                Client::build_with_tls(info, certificates.clone())
            }
            _ => Client::open(info),
        };
        made.map_err(|e| {
            Fault::new(Class::Config, "locks.tls", CONTEXT, e)
                .hint("certificates and keys are PEM; the key belongs to the first certificate")
        })
    }

    fn nodes(&self) -> Vec<&ConnectionInfo> {
        match &self.place {
            Place::Server(info) => vec![info],
            Place::Sentinel { sentinels, .. } => sentinels.iter().collect(),
        }
    }

    fn may_go(&self, addr: &ConnectionAddr) -> Result<()> {
        let plain = match addr {
            ConnectionAddr::Tcp(host, _) => !loopback(host),
            _ => false,
        };
        if plain && !self.insecure {
            let detail = format!("{addr} would be talked to in the clear");
            return Err(Fault::new(Class::Config, "locks.plain", CONTEXT, detail)
                .hint("use rediss:// (or rediss+sentinel://), or allow it with `insecure`"));
        }
        Ok(())
    }
}

fn wrong(detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Config, "locks.url", CONTEXT, detail).hint(
        "redis[s]://[user[:password]@]host[:port][/db], unix:///path[?db=N&user=…&pass=…], or \
         redis[s]+sentinel://[user[:password]@]host[:port][,host…]/master[/db]\
         [?sentinel-username=…&sentinel-password=…]; what is odd in a password is written %XX",
    )
}

/// The address without user, password and query.
fn shown(scheme: &str, rest: &str) -> String {
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    // An @ after the first slash would be part of a password that was not written %XX: better too little than too much.
    format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, place)| place))
}

fn node(url: &str) -> Result<ConnectionInfo> {
    // What the library says may name a part of the address that is a password out of place.
    let info = url.into_connection_info().map_err(|_| wrong("it is not of a form that is known"))?;
    match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            Err(wrong("certificates are always checked, so there is no #insecure"))
        }
        _ => Ok(info),
    }
}

fn sentinel(scheme: &str, rest: &str) -> Result<Place> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let (master, db) = path.trim_end_matches('/').split_once('/').unwrap_or((path, "0"));
    if master.is_empty() || hosts.is_empty() {
        return Err(wrong("a Sentinel address names Sentinels and, after a slash, the master"));
    }
    let sentinel_user = sentinel_user(query)?;
    let sentinels = hosts
        .split(',')
        .map(|host| {
            let named = host.rsplit(']').next().is_some_and(|after| after.contains(':'));
            let port = if named { String::new() } else { format!(":{SENTINEL_PORT}") };
            node(&format!("{scheme}://{sentinel_user}{host}{port}"))
        })
        .collect::<Result<Vec<_>>>()?;
    // The host is only there so that the rest can be read; a Sentinel names the real one.
    let like = node(&format!("{scheme}://{user}localhost/{db}"))?;
    Ok(Place::Sentinel { sentinels, master: master.trim_end_matches('/').to_owned(), like })
}

fn sentinel_user(query: &str) -> Result<String> {
    let (mut name, mut password) = ("", None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel-username", value)) => name = value,
            Some(("sentinel-password", value)) => password = Some(value),
            Some((key, _)) => return Err(wrong(format!("nothing is known of the parameter {key}"))),
            None => return Err(wrong("a parameter has no value")),
        }
    }
    Ok(password.map_or_else(String::new, |password| format!("{name}:{password}@")))
}

fn loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn read(url: &str) -> Result<Address> {
        Address::read(&RedisConfig::new(Secret::new(url), "test"))
    }

    #[test]
    fn shows_no_credentials() {
        for url in [
            "redis://me:hunter2@localhost:7000/3",
            "rediss://me:hunter2@cache.example",
            "unix:///run/redis.sock?user=me&pass=hunter2",
            "rediss+sentinel://me:hunter2@a.example,b.example:2/main/1?sentinel-password=hunter2",
            "redis://me:hunter2/@localhost",
        ] {
            let said = match read(url) {
                Ok(address) => format!("{address} {address:?}"),
                Err(fault) => format!("{fault} {fault:?}"),
            };
            assert!(!said.contains("hunter2") && !said.contains("me:"), "{said}");
        }
        assert_eq!(
            read("redis://me:hunter2@localhost:7000/3").unwrap().to_string(),
            "redis://localhost:7000/3"
        );
    }

    #[test]
    fn refuses_the_clear_over_a_network() {
        for url in
            ["redis://cache.example", "redis://10.0.0.1:6379", "redis+sentinel://127.0.0.1,cache.example/m"]
        {
            let fault = read(url).unwrap_err();
            assert_eq!((fault.class, fault.code), (Class::Config, "locks.plain"), "{url}");
            let mut allowed = RedisConfig::new(Secret::new(url), "test");
            allowed.insecure = true;
            Address::read(&allowed).unwrap();
        }
        for url in
            ["redis://127.0.0.1", "redis://[::1]:1", "rediss://cache.example", "unix:///run/redis.sock"]
        {
            read(url).unwrap();
        }
        let sentinel = read("redis+sentinel://127.0.0.1/m").unwrap();
        assert_eq!(sentinel.server(Some(("10.0.0.1".into(), 1))).unwrap_err().code, "locks.plain");
    }

    #[test]
    fn reads_sentinels() {
        let address =
            read("rediss+sentinel://u:p%40@a.example,b.example:2,[::1]/main/4?sentinel-password=s").unwrap();
        let sentinels = address.sentinels().unwrap();
        let places: Vec<_> = sentinels.nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(places, ["a.example:26379", "b.example:2", "::1:26379"]);
        assert_eq!(sentinels.nodes[0].redis_settings().password(), Some("s"));
        assert_eq!(sentinels.master, "main");
        let server = address.server(Some(("c.example".into(), 7))).unwrap();
        let info = server.get_connection_info();
        assert_eq!(info.addr().to_string(), "c.example:7");
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { .. }));
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("u"), Some("p@"), 4));
    }

    #[test]
    fn says_what_is_wrong_with_the_rest() {
        for url in [
            "",
            "localhost",
            "http://localhost",
            "redis://",
            "redis://localhost/x",
            "rediss://localhost#insecure",
            "redis+sentinel://localhost",
            "redis+sentinel:///m",
            "redis+sentinel://localhost/m?x=1",
        ] {
            let fault = read(url).map(|_| ()).unwrap_err();
            assert_eq!((fault.class, fault.code), (Class::Config, "locks.url"), "{url}: {fault}");
            assert!(fault.hint.is_some());
        }
    }
}
