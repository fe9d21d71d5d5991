//! A database that was restored for somebody to try something in: what it is before and after, and the way to it.

use std::collections::BTreeMap;

use lakehold_proto::config::PostgresConfig;
use lakehold_proto::fault::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use super::catalog::{PROPERTIES, Properties, SEQUENCES, Sequence, TABLES, Table};
use super::names::{identifier, join};
use super::programs::Programs;
use super::session::Session;
use super::settings::Settings;
use super::work::schema;

/// Tables counted by one question.
const TOGETHER: usize = 200;

/// See the module. Whoever has one is connected to the database, so that nobody takes it for one that was left behind.
#[derive(Debug)]
pub struct Sandbox {
    programs: Programs,
    database: String,
    _connected: Session,
}

#[derive(Deserialize)]
struct Counted {
    name: String,
    rows: u64,
}

impl Sandbox {
    /// Enters the database of this name on a server.
    ///
    /// # Errors
    /// `Config` when the server is not configured so that it can be reached; `Unavailable` when it cannot be reached.
    pub async fn enter(server: &PostgresConfig, database: &str) -> Result<Self> {
        let settings = Settings::from_config(server, BTreeMap::new())?;
        let programs = Programs::find(settings.programs.as_deref(), &settings.connection).await?;
        let connected = Session::to_change(&programs, Some(database)).await?;
        Ok(Self { programs, database: database.to_owned(), _connected: connected })
    }

    /// What the database is: its schema by the catalogue, how many rows each table has, where sequences stand, and what is not
    /// valid.
    ///
    /// # Errors
    /// Those of the session.
    pub async fn describe(&self) -> Result<Value> {
        let mut session = Session::open(&self.programs, Some(&self.database)).await?;
        session.anew("repeatable read").await?;
        let told: Properties = session.row(PROPERTIES).await?;
        let sequences: Vec<Sequence> = session.rows(SEQUENCES).await?;
        let encoding = told.properties["encoding"].as_str().unwrap_or_default();
        let schema = schema::ask(&mut session, encoding).await?;
        let tables: Vec<Table> = session.rows(TABLES).await?;
        let tables: Vec<_> = tables.into_iter().filter(|table| !table.is_root).collect();
        let mut rows = serde_json::Map::new();
        for some in tables.chunks(TOGETHER) {
            let count = |(n, table): (usize, &Table)| {
                let name = format!("{}.{}", identifier(&table.schema), identifier(&table.name));
                format!("select '{n}' as name, count(*) as rows from only {name}")
            };
            let counts: Vec<_> = some.iter().enumerate().map(count).collect();
            for Counted { name, rows: counted } in session.rows(&counts.join(" union all ")).await? {
                if let Some(table) = name.parse::<usize>().ok().and_then(|n| some.get(n)) {
                    rows.insert(join(&[&table.schema, &table.name]), counted.into());
                }
            }
        }
        session.close().await?;
        Ok(json!({
            "schema": serde_json::from_str::<Value>(schema.get()).unwrap_or_default(),
            "rows": rows,
            "sequences": sequences,
            "extensions": told.extensions,
            "not_validated": told.not_validated,
            "invalid_indexes": told.invalid_indexes,
            "not_populated": told.not_populated,
        }))
    }

    /// Tells a program the way to the database: `DATABASE_URL`, and libpq's variables.
    pub fn tell(&self, command: &mut Command) {
        self.programs.tell(command, &self.database);
    }
}
