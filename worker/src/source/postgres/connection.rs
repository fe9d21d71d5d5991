//! How PostgreSQL's programs reach the server: libpq's variables, and a password that nobody else reads.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use lakehold_proto::config::{PostgresConfig, SecretRef};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustix::fs::{MemfdFlags, memfd_create};
use url::Url;

/// The parameters that a URL may have, and the variables by which libpq takes them
/// (<https://www.postgresql.org/docs/17/libpq-envars.html>).
const PARAMETERS: &[(&str, &str)] = &[
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("dbname", "PGDATABASE"),
    ("gssencmode", "PGGSSENCMODE"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("krbsrvname", "PGKRBSRVNAME"),
    ("options", "PGOPTIONS"),
    ("passfile", "PGPASSFILE"),
    ("port", "PGPORT"),
    ("requirepeer", "PGREQUIREPEER"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("sslcert", "PGSSLCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslkey", "PGSSLKEY"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslsni", "PGSSLSNI"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("user", "PGUSER"),
];

/// Where systems keep the authorities they trust; libpq before version 16 knows none by itself.
const AUTHORITIES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The only way to reach another machine by which nobody in between reads or answers.
const VERIFIED: &str = "verify-full";

/// Seconds that a connection may take to be made.
const CONNECT_TIMEOUT: &str = "10";

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// libpq's variables; none is a secret.
    variables: Vec<(&'static str, String)>,
    /// What goes before the database's name in every connection string.
    prefix: String,
    /// The database where lists are asked for; `None` leaves it to the service file.
    lists: Option<String>,
    /// For programs that read a URL and no file.
    password: Option<Secret>,
    _passfile: Option<Arc<File>>,
}

impl Connection {
    /// Reads what was configured, and resolves its secrets.
    ///
    /// # Errors
    /// `Config` when a secret cannot be had, the URL is none, or would send the password or rows over the network in a way
    /// that others may read.
    pub(super) fn from_config(given: &PostgresConfig) -> Result<Self> {
        match &given.service {
            Some(service) => Self::of_service(service, given),
            None => Self::of_url(given),
        }
    }

    fn of_service(service: &str, given: &PostgresConfig) -> Result<Self> {
        let mut prefix = format!("service={} ", quoted(service));
        if !given.insecure {
            // Said here it goes before what the file says.
            prefix += &format!("sslmode={VERIFIED} ");
        }
        let mut variables = vec![("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.to_owned())];
        if let Some(file) = &given.service_file {
            variables.push(("PGSERVICEFILE", file.display().to_string()));
        }
        trust_the_system(&mut variables);
        let password = given.password.as_ref().map(SecretRef::resolve).transpose()?;
        Self { variables, prefix, lists: None, password: None, _passfile: None }.with_password(password)
    }

    fn of_url(given: &PostgresConfig) -> Result<Self> {
        let plain = match (given.url_secret(), &given.url) {
            (Some(reference), _) => reference.resolve()?,
            (None, url) => Secret::new(url.as_deref().unwrap_or_default()),
        };
        // The error of a URL that cannot be read tells nothing of it.
        let url = Url::parse(plain.reveal()).map_err(|e| wrong("config.url", e.to_string()))?;
        if !matches!(url.scheme(), "postgresql" | "postgres") {
            return Err(wrong("config.url", "it does not begin with postgresql://"));
        }
        let mut found = vec![("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.to_owned())];
        let mut password = url.password().map(decoded).transpose()?;
        let mut put = |name: &'static str, value: String| {
            found.retain(|(known, _)| *known != name);
            if !value.is_empty() {
                found.push((name, value));
            }
        };
        put("PGHOST", decoded(url.host_str().unwrap_or_default())?);
        put("PGPORT", url.port().map(|port| port.to_string()).unwrap_or_default());
        put("PGUSER", decoded(url.username())?);
        put("PGDATABASE", decoded(url.path().trim_start_matches('/'))?);
        for (name, value) in url.query_pairs() {
            if name == "password" {
                password = Some(value.into_owned());
                continue;
            }
            let Some((_, variable)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
                return Err(wrong("config.url", format!("its parameter {name:?} is not known here")));
            };
            put(variable, value.into_owned());
        }
        let lists = take(&mut found, "PGDATABASE").unwrap_or_else(|| "postgres".into());
        protect(&mut found, given.insecure)?;
        trust_the_system(&mut found);
        let password = match &given.password {
            Some(reference) => Some(reference.resolve()?),
            None => password.map(Secret::new),
        };
        let (prefix, lists) = (String::new(), Some(lists));
        Self { variables: found, prefix, lists, password: None, _passfile: None }.with_password(password)
    }

    fn with_password(mut self, password: Option<Secret>) -> Result<Self> {
        let Some(password) = password else { return Ok(self) };
        let file = Arc::new(passfile(&password)?);
        // Our own descriptor, by its place in `/proc`: no program inherits it, and only this user may open it there.
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        self.variables.retain(|(name, _)| *name != "PGPASSFILE");
        self.variables.push(("PGPASSFILE", path));
        Ok(Self { password: Some(password), _passfile: Some(file), ..self })
    }

    /// All variables by which libpq would be led elsewhere.
    pub(super) fn known() -> impl Iterator<Item = &'static str> {
        let more = ["PGPASSWORD", "PGSERVICE", "PGSERVICEFILE"];
        PARAMETERS.iter().map(|(_, variable)| *variable).chain(more)
    }

    /// The variables to give to a program.
    pub(super) fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    /// A URL for a database, with the password in it. Of a service there is only what its name leads to.
    pub(super) fn url(&self, database: &str) -> Secret {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let of = |name: &str| get(&self.variables, name);
        let password = self.password.as_ref().map(Secret::reveal);
        // A socket's folder, and several hosts, are no host of a URL: then all of it is parameters.
        let host = of("PGHOST").filter(|host| !host.contains([',', '/']) && !host.is_empty());
        let at = host.map(|host| {
            let bare = host.trim_matches(['[', ']']);
            let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
            let port = of("PGPORT").map(|port| format!(":{port}")).unwrap_or_default();
            let password = password.map(|password| format!(":{}", encoded(password))).unwrap_or_default();
            let user = of("PGUSER").map(|user| format!("{}{password}@", encoded(user))).unwrap_or_default();
            format!("{user}{host}{port}")
        });
        let mut query = Vec::new();
        let mut add = |name: &str, value: &str| query.push(format!("{name}={}", encoded(value)));
        if let Some(service) = self.prefix.strip_prefix("service='").and_then(|rest| rest.split_once("' ")) {
            add("service", service.0);
        }
        if let Some(password) = password.filter(|_| at.is_none()) {
            add("password", password);
        }
        for (name, variable) in PARAMETERS {
            let is_told = at.is_some() && matches!(*name, "host" | "port" | "user");
            if let Some(value) = of(variable).filter(|_| !is_told && !matches!(*name, "dbname" | "passfile"))
            {
                add(name, value);
            }
        }
        Secret::new(format!(
            "postgresql://{}/{}?{}",
            at.unwrap_or_default(),
            encoded(database),
            query.join("&")
        ))
    }

    /// The connection string for a database; for `None` the one where lists are asked for.
    pub(super) fn to(&self, database: Option<&str>) -> String {
        let name = database.or(self.lists.as_deref());
        let name = name.map(|name| format!("dbname={}", quoted(name))).unwrap_or_default();
        format!("{}{name}", self.prefix)
    }
}

/// A password file that lies in memory, has no name, and nobody but this user may read.
fn passfile(password: &Secret) -> Result<File> {
    let failed = |e: std::io::Error| {
        Fault::new(Class::Unavailable, "pg.passfile", "hand a password to PostgreSQL's programs", e)
    };
    let escaped = password.reveal().replace('\\', "\\\\").replace(':', "\\:");
    let memory = memfd_create("lakehold-passfile", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(memory);
    // libpq passes over a file that others may read.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    writeln!(file, "*:*:*:*:{escaped}").map_err(failed)?;
    Ok(file)
}

/// To another machine the connection must be verified, unless somebody says otherwise.
fn protect(variables: &mut Vec<(&'static str, String)>, insecure: bool) -> Result<()> {
    let is_local = ["PGHOST", "PGHOSTADDR"]
        .iter()
        .filter_map(|name| get(variables, name))
        .flat_map(|hosts| hosts.split(','))
        .all(is_local);
    if is_local || insecure {
        return Ok(());
    }
    match get(variables, "PGSSLMODE") {
        None => variables.push(("PGSSLMODE", VERIFIED.into())),
        Some(VERIFIED) => {}
        Some(mode) => {
            let detail = format!("sslmode={mode} lets others read, or answer in the server's place");
            return Err(wrong("config.tls", detail)
                .hint("write sslmode=verify-full, or `insecure: true` where the network is trusted"));
        }
    }
    Ok(())
}

fn is_local(host: &str) -> bool {
    let host = host.trim().trim_matches(['[', ']']);
    host.is_empty()
        || host.starts_with(['/', '@'])
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn trust_the_system(variables: &mut Vec<(&'static str, String)>) {
    let own = std::env::home_dir().is_some_and(|home| home.join(".postgresql/root.crt").exists());
    if own || get(variables, "PGSSLROOTCERT").is_some() {
        return;
    }
    if let Some(known) = AUTHORITIES.iter().find(|path| Path::new(path).exists()) {
        variables.push(("PGSSLROOTCERT", (*known).into()));
    }
}

fn get<'a>(variables: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn take(variables: &mut Vec<(&'static str, String)>, name: &str) -> Option<String> {
    let at = variables.iter().position(|(known, _)| *known == name)?;
    Some(variables.remove(at).1)
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| wrong("config.url", "what is encoded in it is no text"))
}

/// A value of a connection string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn wrong(code: &'static str, detail: impl std::fmt::Display) -> Fault {
    Fault::new(Class::Config, code, "read the URL of a PostgreSQL server", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, more: &str) -> Result<Connection> {
        let given = serde_json::from_str::<serde_json::Value>(more).unwrap();
        let mut given: PostgresConfig = serde_json::from_value(given).unwrap();
        given.url = Some(url.into());
        Connection::from_config(&given)
    }

    fn variable(connection: &Connection, name: &str) -> Option<String> {
        get(&connection.variables, name).map(str::to_owned)
    }

    #[test]
    fn urls_become_variables() {
        let found = read("postgresql://a%40b@db.example:6432/shop?application_name", "{}");
        assert_eq!(found.unwrap_err().code, "config.url");
        let found = read("postgresql://a%40b@db.example:6432/shop?connect_timeout=3", "{}").unwrap();
        for (name, value) in [
            ("PGHOST", "db.example"),
            ("PGPORT", "6432"),
            ("PGUSER", "a@b"),
            ("PGSSLMODE", "verify-full"),
            ("PGCONNECT_TIMEOUT", "3"),
        ] {
            assert_eq!(variable(&found, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(
            (found.to(None).as_str(), found.to(Some("it's")).as_str()),
            ("dbname='shop'", "dbname='it\\'s'")
        );
        let socket = read("postgresql:///?host=/run/postgresql", "{}").unwrap();
        assert_eq!(variable(&socket, "PGHOST").as_deref(), Some("/run/postgresql"));
        assert_eq!((variable(&socket, "PGSSLMODE"), socket.to(None)), (None, "dbname='postgres'".into()));
        let encoded = read("postgresql://%2Frun%2Fpg/x", "{}").unwrap();
        assert_eq!(variable(&encoded, "PGHOST").as_deref(), Some("/run/pg"));
    }

    #[test]
    fn programs_of_others_get_a_url_that_says_the_same() {
        for (given, begins) in [
            (
                "postgresql://a%40b:p%3Aw@127.0.0.1:6432/shop?connect_timeout=3",
                "postgresql://a%40b:p%3Aw@127%2E0",
            ),
            ("postgresql:///shop?host=/run/pg&user=a%40b&password=x", "postgresql:///odd%20name?password=x"),
            ("postgresql://a@[::1]:6432/shop", "postgresql://a@[::1]:6432/odd%20name"),
        ] {
            let found = read(given, "{}").unwrap();
            let url = found.url("odd name");
            let begins = begins.replace("%2E", ".");
            assert!(url.reveal().starts_with(&begins), "{}", url.reveal());
            let again = read(url.reveal(), "{}").unwrap();
            for name in ["PGHOST", "PGPORT", "PGUSER", "PGCONNECT_TIMEOUT"] {
                assert_eq!(variable(&again, name), variable(&found, name), "{name}");
            }
        }
    }

    #[test]
    fn another_machine_is_verified_or_refused() {
        for mode in ["disable", "prefer", "require", "verify-ca"] {
            let url = format!("postgresql://db.example/x?sslmode={mode}");
            assert_eq!(read(&url, "{}").unwrap_err().code, "config.tls", "{mode}");
            assert!(read(&url, "{\"insecure\": true}").is_ok());
            assert!(read(&format!("postgresql://127.0.0.1/x?sslmode={mode}"), "{}").is_ok());
        }
        for near in ["localhost", "127.0.0.1", "[::1]", ""] {
            let found = read(&format!("postgresql://{near}/x"), "{}").unwrap();
            assert_eq!(variable(&found, "PGSSLMODE"), None, "{near}");
        }
        let among = read("postgresql:///x?host=/run/pg,db.example", "{}").unwrap();
        assert_eq!(variable(&among, "PGSSLMODE").as_deref(), Some("verify-full"));
    }

    #[test]
    fn a_password_is_in_a_private_file_alone() {
        let found = read("postgresql://me:hunter%3A2%5C@127.0.0.1/x", "{}").unwrap();
        assert!(!format!("{found:?} {:?}", found.variables()).contains("hunter"));
        let path = variable(&found, "PGPASSFILE").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "*:*:*:*:hunter\\:2\\\\\n");
        let about = std::fs::metadata(&path).unwrap();
        assert!(about.is_file());
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        let fault = read("postgresql://me:hunter2@127.0.0.1/x?sslmodus=1", "{}").unwrap_err();
        assert!(!format!("{fault:?}").contains("hunter2"));
    }

    #[test]
    fn a_service_is_verified_too() {
        let given = PostgresConfig { service: Some("o'r".into()), ..PostgresConfig::default() };
        let found = Connection::from_config(&given).unwrap();
        assert_eq!(found.to(None), "service='o\\'r' sslmode=verify-full ");
        let found = Connection::from_config(&PostgresConfig { insecure: true, ..given }).unwrap();
        assert_eq!(found.to(Some("x")), "service='o\\'r' dbname='x'");
    }
}
