//! What belongs to no database: roles and tablespaces, each by itself to be listed and compared, and all of them as the script
//! that makes them anew.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use serde_json::json;

use super::super::catalog::{Global, ROLES, TABLESPACES};
use super::super::kinds::{GLOBALS, ROLE, TABLESPACE};
use super::super::session::{Session, begin};
use super::{Work, document};
use crate::capture::{Capture, Draft};

/// What PostgreSQL brings along.
const BUILTIN: &str = "PostgreSQL makes it itself";

/// Captures them.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn capture(work: &Work, capture: &mut Capture) -> Result<()> {
    let mut session = Session::open(&work.programs, None).await?;
    for (kind, query) in [(ROLE, ROLES), (TABLESPACE, TABLESPACES)] {
        if !work.wants(kind) {
            continue;
        }
        let kind = Kind::of(kind);
        for global in session.rows::<Global>(query).await? {
            if global.is_builtin {
                capture.leave_out(&kind, BUILTIN);
                continue;
            }
            let body = document::body(&global.document);
            capture.add(&kind, Draft::new(&global.name, &global.name).part(Role::Object, body)).await?;
        }
    }
    if work.wants(GLOBALS) {
        let draft = Draft::new(GLOBALS, GLOBALS);
        let draft = match script(work).await {
            Ok(script) => {
                let lines: Vec<_> = script.split('\n').collect();
                draft.part(Role::Object, document::body(&json!({"sql": lines})))
            }
            Err(fault) if work.attempt == 1 => return Err(fault),
            Err(fault) => draft.gap(Role::Object, fault),
        };
        capture.add(&Kind::of(GLOBALS), draft).await?;
    }
    Ok(())
}

/// Without passwords: they would make a secret of every snapshot.
async fn script(work: &Work) -> Result<String> {
    let _permit = work.permit().await?;
    let mut command = work.programs.command("pg_dumpall", None);
    let said = command.args(["-g", "--no-role-passwords"]).output().await;
    let said = said.map_err(|e| begin("pg_dumpall", &e))?;
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&said.stderr);
    Err(Fault::new(Class::Unavailable, "pg.dump-failed", "run pg_dumpall", words.trim()))
}
