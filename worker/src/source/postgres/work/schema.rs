//! The schema as the catalogue tells it.

use std::collections::BTreeMap;

use lakehold_proto::fault::{Class, Fault, Result};
use serde_json::value::{RawValue, to_raw_value};

use super::super::catalog::schema::{Question, Thing, questions};
use super::super::names::join;
use super::super::session::Session;

/// How often it is asked again because somebody locked what nobody held a moment ago.
const TRIES: u32 = 3;

/// Asks for it, in a session whose transaction lasts: sorts of things, and each of them by its name. The text is the same while
/// nobody changes anything.
///
/// # Errors
/// Those of the session. What is asked later in the transaction is answered all the same, while the session lives.
pub(in super::super) async fn ask(session: &mut Session, encoding: &str) -> Result<Box<RawValue>> {
    let questions = questions(encoding == "SQL_ASCII");
    let mut tries = 0;
    loop {
        tries += 1;
        session.run("savepoint schema").await?;
        match ask_all(session, &questions).await {
            Ok(schema) => {
                session.run("release savepoint schema").await?;
                return to_raw_value(&schema)
                    .map_err(|e| Fault::new(Class::Bug, "pg.schema", "write down the schema", e));
            }
            Err(fault) if fault.code == "pg.connection-lost" => return Err(fault),
            Err(fault) => {
                session.run("rollback to savepoint schema; release savepoint schema").await?;
                if fault.code != "pg.locked" || tries >= TRIES {
                    return Err(fault);
                }
            }
        }
    }
}

type Things = BTreeMap<String, Box<RawValue>>;

async fn ask_all(session: &mut Session, questions: &[Question]) -> Result<BTreeMap<&'static str, Things>> {
    let mut schema = BTreeMap::new();
    for Question { sort, sql } in questions {
        let things = session.rows::<Thing>(sql).await?.into_iter().map(named).collect();
        schema.insert(*sort, things);
    }
    Ok(schema)
}

fn named(thing: Thing) -> (String, Box<RawValue>) {
    let Thing { schema, name, more, document } = thing;
    let name = schema.map_or_else(|| name.clone(), |schema| join(&[&schema, &name]));
    (name + &more.unwrap_or_default(), document)
}
