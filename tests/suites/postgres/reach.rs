//! How a server is reached over a network: verified, or not at all.

use lakehold_tests::component::certificates::Certificates;
use lakehold_tests::component::postgres::Postgres;
use lakehold_tests::program::{Program, until};

use super::restore::{does, reach};
use super::{awkward, digests};

/// A server that talks to nobody but by TLS.
async fn guarded(certificates: &Certificates) -> Postgres {
    let server = awkward().await;
    for name in ["server.pem", "server.key"] {
        server.put(name, &certificates.read(name));
    }
    for setting in ["ssl = on", "ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'"] {
        server.sql("postgres", &format!("alter system set {setting}"));
    }
    server.put("pg_hba.conf", b"hostssl all all 127.0.0.1/32 scram-sha-256\n");
    server.sql("postgres", "select pg_reload_conf()");
    let plain = || server.try_sql("sslmode=disable dbname=postgres", "select 1").0;
    until("refuses who is not encrypted", || plain().is_none()).await;
    server
}

/// The parameters of a server that is called so, by an authority.
fn called(host: &str, authority: &str, certificates: &Certificates) -> String {
    let authority = certificates.path(authority).display().to_string();
    format!("host={host}&hostaddr=127.0.0.1&sslrootcert={authority}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_network_is_verified_or_nobody_talks_to_it() {
    let certificates = Certificates::new();
    let server = guarded(&certificates).await;
    let program = Program::new(&[], "none");
    let at = |parameters: &str| {
        format!("url: 'postgresql:///postgres?user=postgres&port={}&{parameters}'", server.port)
    };
    // Another's name is no local one: nobody has to ask for verification.
    let known = called("workspace.example", "ca.pem", &certificates);
    reach(&program, &[("shop", &at(&known))]);
    does(&program, "backup --env shop").await;
    let restored =
        does(&program, "restore shop --to shop --item database/shop --as again --apply --yes").await;
    assert!(restored.err.contains("+ database/shop  as again\n"), "{restored:#?}");
    assert_eq!(digests(&server, "again"), digests(&server, "shop"));

    for (parameters, said) in [
        (called("workspace.example", "other-ca.pem", &certificates), "certificate verify failed"),
        (called("elsewhere.example", "ca.pem", &certificates), "does not match host name"),
        (format!("{known}&sslmode=require"), "sslmode=verify-full"),
        ("host=127.0.0.1&sslmode=disable".into(), "no pg_hba.conf entry"),
    ] {
        reach(&program, &[("shop", &at(&parameters))]);
        let ran = program.start("backup --env shop").end().await;
        assert!(!matches!(ran.code, Some(0 | 3)), "{parameters}: {ran:#?}");
        assert!(format!("{}{}", ran.out, ran.err).contains(said), "{parameters}: {ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_a_server_and_is_verified_too() {
    let certificates = Certificates::new();
    let server = guarded(&certificates).await;
    let program = Program::new(&[], "none");
    let file = program.path("pg_service.conf").display().to_string();
    let write = |authority: &str| {
        // What is weaker here than what we ask for does not count.
        let mut service = called("workspace.example", authority, &certificates).replace('&', "\n");
        service += &format!("\nport={}\nuser=postgres\ndbname=postgres\nsslmode=disable\n", server.port);
        std::fs::write(&file, format!("[orders]\n{service}")).unwrap();
    };
    write("ca.pem");
    reach(&program, &[("shop", &format!("service: orders, service_file: '{file}'"))]);
    does(&program, "doctor").await;
    does(&program, "backup --env shop").await;
    does(&program, "restore shop --to shop --item database/shop --as again --apply --yes").await;
    assert_eq!(digests(&server, "again"), digests(&server, "shop"));
    write("other-ca.pem");
    let ran = program.start("backup --env shop").end().await;
    assert!(!matches!(ran.code, Some(0 | 3)), "{ran:#?}");
    assert!(format!("{}{}", ran.out, ran.err).contains("certificate verify failed"), "{ran:#?}");
}
