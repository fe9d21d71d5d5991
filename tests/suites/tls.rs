//! A workspace behind TLS whose certificate a private CA signed, and behind a proxy, with the real binary.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use lakehold_sim::{Population, Sim, SimConfig};
use lakehold_tests::component::certificates::Certificates;
use lakehold_tests::program::Program;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{DEFAULT_VERSIONS, ServerConfig};

/// Something that listens on loopback; closed when dropped.
struct Door {
    at: SocketAddr,
    task: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The TLS of a workspace: what comes in goes on to `behind` in the clear.
async fn tls(behind: SocketAddr, certificates: &Certificates) -> Door {
    let chain =
        CertificateDer::pem_file_iter(certificates.path("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(DEFAULT_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us hangs up.
                let Ok(mut inner) = acceptor.accept(socket).await else { return };
                let mut outer = TcpStream::connect(behind).await.unwrap();
                let _ = copy_bidirectional(&mut inner, &mut outer).await;
            });
        }
    });
    Door { at, task: task.abort_handle() }
}

/// A proxy that leads every `CONNECT` to `behind`, and notes where it was to lead.
async fn proxy(behind: SocketAddr) -> (Door, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let notes: Arc<Mutex<Vec<String>>> = Arc::clone(&notes);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                notes.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut outer = TcpStream::connect(behind).await.unwrap();
                let _ = copy_bidirectional(&mut socket, &mut outer).await;
            });
        }
    });
    (Door { at, task: task.abort_handle() }, asked)
}

/// A workspace, its door, and the file of the authority that vouches for it.
async fn workspace() -> (Sim, Door, Authority) {
    let config = SimConfig { population: Population::Items(50), ..SimConfig::default() };
    let sim = Sim::start(config).await.unwrap();
    let behind = sim.url(0).trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let certificates = Certificates::new();
    let door = tls(behind, &certificates).await;
    (sim, door, Authority(certificates))
}

struct Authority(Certificates);

impl Authority {
    fn file(&self) -> String {
        self.0.path("ca.pem").display().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_private_ca_is_refused_until_the_ca_is_given() {
    let (sim, door, authority) = workspace().await;
    let program = Program::new(&[("prod", &format!("https://{}", door.at))], sim.token());
    let words = ["http.certificate", "invalid peer certificate", "SSL_CERT_FILE", "CA"];
    program.run("backup").await.refused(2, &words);
    program.run("doctor").await.refused(2, &words[1..]);
    assert!(program.manifests().is_empty());
    program.variable("SSL_CERT_FILE", &authority.file());
    let ended = program.backup("", 0).await;
    assert_eq!(ended["state"], "complete");
    let plain = Program::of(&sim).backup("", 0).await;
    assert_eq!(ended["content_root"], plain["content_root"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_refused_whoever_signed_it() {
    let (sim, door, authority) = workspace().await;
    let (through, _) = proxy(door.at).await;
    let program = Program::new(&[("prod", "https://other.example")], sim.token());
    program.variable("SSL_CERT_FILE", &authority.file());
    program.variable("HTTPS_PROXY", &format!("http://{}", through.at));
    program.run("backup").await.refused(2, &["http.certificate", "not valid for"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_taken_from_the_environment() {
    let (sim, door, authority) = workspace().await;
    let (through, asked) = proxy(door.at).await;
    let program = Program::new(&[("prod", "https://workspace.example")], sim.token());
    program.variable("SSL_CERT_FILE", &authority.file());
    program.variable("HTTPS_PROXY", &format!("http://{}", through.at));
    let ended = program.backup("", 0).await;
    assert_eq!(ended["state"], "complete");
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|line| line == "CONNECT workspace.example:443 HTTP/1.1"), "{asked:?}");
    // A machine without any CA still reaches what needs none, and is told what it lacks for what does.
    let none = program.path("none.pem");
    std::fs::write(&none, "").unwrap();
    bare(&sim, &none).await;
}

async fn bare(sim: &Sim, none: &Path) {
    let program = Program::of(sim);
    program.variable("SSL_CERT_FILE", &none.display().to_string());
    program.backup("", 0).await;
    let secure = Program::new(&[("prod", "https://workspace.example")], sim.token());
    secure.variable("SSL_CERT_FILE", &none.display().to_string());
    secure.run("backup").await.refused(2, &["http.set-up", "No CA certificates", "ca-certificates"]);
}
