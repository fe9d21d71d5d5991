//! Who we are, what the server is, and whether several workers may dump one of its databases.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::plan::{Identity, Probe};

use super::catalog::{ANSWERING, Answering, SERVER, Server, Yes, began_before};
use super::programs::Programs;
use super::session::Session;
use super::settings::Settings;

/// The fact that names the cluster: two servers with one are one, or copies of one.
pub(super) const FACT_CLUSTER: &str = "system_identifier";
/// The fact that tells the server's version.
pub(super) const FACT_VERSION: &str = "server_version";
/// The fact that is there when a database is dumped by one worker.
pub(super) const FACT_ONE_WORKER: &str = "one_worker";
/// The fact that tells that the server follows another.
pub(super) const FACT_STANDBY: &str = "standby";

/// Asks the server.
///
/// # Errors
/// `Denied` or `Unavailable` when there is no session to be had; `Unsupported` (`pg.newer-server`) when our programs are
/// older than it, or a pooler would spread what `pg_dump` sets; `Conflict` (`pg.other-cluster`) when it is not the one that was configured.
pub(super) async fn probe(settings: &Settings, programs: &Programs) -> Result<Probe> {
    let mut session = Session::open(programs, None).await?;
    let server: Server = session.row(SERVER).await?;
    let is_pooled = is_pooled(session, server.pid, programs).await?;
    let major = server.version_number / 10_000;
    if major > programs.major {
        let detail = format!("the server is version {}, and pg_dump is {}", server.version, programs.version);
        return Err(Fault::new(Class::Unsupported, "pg.newer-server", "compare versions", detail)
            .hint(format!("install PostgreSQL's client programs of version {major} or newer")));
    }
    if let Some(expected) = &settings.system_identifier
        && *expected != server.cluster
    {
        return Err(other_cluster(expected, &server.cluster, "the configuration names"));
    }
    let one_worker = one_worker(settings, &server, is_pooled);
    let mut warnings = Vec::new();
    if let Some(reason) = &one_worker {
        warnings.push(format!("each database is dumped by one worker: {reason}"));
    }
    if !server.is_super && !server.reads_all {
        warnings.push(format!(
            "{} is neither a superuser nor a member of pg_read_all_data: what it may not read is a gap",
            server.name
        ));
    }
    let sees_all = server.is_super || (server.reads_all && server.sees_all_rows);
    let facts = [
        (FACT_CLUSTER, Some(server.cluster)),
        (FACT_VERSION, Some(server.version)),
        ("pg_dump", Some(programs.version.clone())),
        (FACT_STANDBY, server.is_standby.then(|| "true".to_owned())),
        (FACT_ONE_WORKER, one_worker),
    ];
    Ok(Probe {
        // The catalogue hides nothing of what there is from anybody; whose rows may not be read is a gap.
        identity: Identity { id: server.id, name: server.name, admin: sees_all.then_some(true) },
        facts: facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?))).collect(),
        warnings,
    })
}

/// Whether a pooler is in between: then a session finds a connection that another had before.
///
/// # Errors
/// `Unsupported` (`pg.pooler`) when two sessions have one connection at the same time. `pg_dump` changes settings of its
/// session, which whoever has the connection next would find.
async fn is_pooled(mut first: Session, pid: i32, programs: &Programs) -> Result<bool> {
    first.run("commit").await?;
    let mut second = Session::open(programs, None).await?;
    let answering: Answering = second.row(ANSWERING).await?;
    second.close().await?;
    if answering.pid == pid {
        let detail = "a pooler is in between that hands connections on from transaction to transaction, and pg_dump \
            would leave its settings to whoever has them next";
        return Err(Fault::new(Class::Unsupported, "pg.pooler", "look for a pooler", detail)
            .hint("name the server itself in the URL, or a pool whose mode is session"));
    }
    first.close().await?;
    let pooled: Yes = Session::open(programs, None).await?.row(&began_before(&answering.now)).await?;
    Ok(pooled.yes)
}

/// Why a database is dumped by one worker, if so.
fn one_worker(settings: &Settings, server: &Server, is_pooled: bool) -> Option<String> {
    let needed = settings.jobs as i64 + 2;
    if settings.jobs == 1 {
        Some("`jobs` is 1".into())
    } else if is_pooled {
        Some("a pooler is between us and the server: its connections are not ours alone".into())
    } else if server.is_standby {
        Some("the server is a standby, which may cancel what holds it up".into())
    } else if server.free_connections < needed {
        Some(format!("{} connections are free, and {needed} would be needed", server.free_connections.max(0)))
    } else {
        None
    }
}

/// A server that is not the one we know.
pub(super) fn other_cluster(expected: &str, found: &str, who: &str) -> Fault {
    let detail = format!("{who} the cluster {expected}, and this is {found}");
    Fault::new(Class::Conflict, "pg.other-cluster", "compare clusters", detail).hint(format!(
        "check the URL; where a new cluster took the other's place, write `system_identifier: \"{found}\"`"
    ))
}

#[cfg(test)]
mod tests {
    use lakehold_proto::config::PostgresConfig;

    use super::*;

    #[test]
    fn one_worker_where_a_condition_fails() {
        let server = |standby, free| -> Server {
            serde_json::from_value(serde_json::json!({"name": "a", "id": "1", "is_super": true, "sees_all_rows": true,
                "reads_all": false, "version": "15", "version_number": 150_000, "cluster": "1", "is_standby": standby,
                "free_connections": free, "pid": 1}))
            .unwrap()
        };
        let settings = |jobs| {
            let url = Some("postgresql:///x".to_owned());
            let given = PostgresConfig { url, jobs, ..PostgresConfig::default() };
            Settings::from_config(&given, std::collections::BTreeMap::new()).unwrap()
        };
        assert_eq!(one_worker(&settings(4), &server(false, 6), false), None);
        for (jobs, standby, free, pooled) in
            [(1, false, 6, false), (4, true, 6, false), (4, false, 5, false), (4, false, 6, true)]
        {
            assert!(one_worker(&settings(jobs), &server(standby, free), pooled).is_some());
        }
    }
}
