//! What people themselves ask of a database that was restored: their queries and their programs.

use std::process::Stdio;
use std::time::Duration;

use lakehold_proto::config::Verify;
use lakehold_proto::fault::{Class, Fault, Result};
use serde::{Deserialize, Serialize};

use super::programs::Programs;
use super::session::{Session, begin};
use crate::guard::{Guard, Guarding};

/// A check of theirs may take this long.
const AT_MOST: Duration = Duration::from_secs(10 * 60);
/// What is kept of a program's last words.
const WORDS: usize = 2000;

/// One check, and how it ended.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Asked {
    check: String,
    passed: bool,
}

/// Asks all that is configured for `name`, which the database `of` was restored as.
///
/// # Errors
/// `Conflict` (`pg.hook-failed`) when a check does not pass.
pub(super) async fn verify(programs: &Programs, hooks: &Verify, of: &str, name: &str) -> Result<Vec<Asked>> {
    #[derive(Deserialize)]
    struct Answer {
        passed: Option<bool>,
    }
    let mut asked = Vec::new();
    for query in hooks.sql.get(of).into_iter().flatten() {
        let mut session = Session::open(programs, Some(name)).await?;
        let question = format!("select passed::bool from ({query}) asked (passed)");
        let answers =
            session.rows::<Answer>(&question).await.map_err(|fault| refused(query, &fault.detail))?;
        session.close().await?;
        match &answers[..] {
            [Answer { passed: Some(true) }] => asked.push(Asked { check: query.clone(), passed: true }),
            [Answer { passed: Some(false) }] => return Err(refused(query, "it says false")),
            [_] => return Err(refused(query, "it says null")),
            rows => return Err(refused(query, &format!("it gives {} rows, not one", rows.len()))),
        }
    }
    if let [program, arguments @ ..] = &hooks.command[..] {
        let check = hooks.command.join(" ");
        let mut guard = Guard::of(program, Guarding::default()).map_err(|e| begin(program, &e))?;
        let command = &mut guard.command;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        programs.tell(command, name);
        command.env("LAKEHOLD_DATABASE", of);
        let guarded = guard.begin().map_err(|e| begin(program, &e))?;
        let ran = tokio::time::timeout(AT_MOST, guarded.output()).await;
        let ran = ran.map_err(|_| {
            refused(&check, &format!("it did not end within {} minutes", AT_MOST.as_secs() / 60))
        })?;
        let ran = ran.map_err(|e| begin(program, &e))?;
        if !ran.status.success() {
            let said: String =
                [ran.stdout, ran.stderr].iter().map(|said| String::from_utf8_lossy(said)).collect();
            let from = said.char_indices().rev().nth(WORDS).map_or(0, |(at, _)| at);
            return Err(refused(&check, &format!("it ended with {}: {}", ran.status, said[from..].trim())));
        }
        asked.push(Asked { check, passed: true });
    }
    Ok(asked)
}

fn refused(check: &str, why: &str) -> Fault {
    let detail = format!("{check}: {why}");
    Fault::new(Class::Conflict, "pg.hook-failed", "ask the environment's own checks", detail)
}
