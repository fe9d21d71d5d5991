//! What lies in a database and in no table: large objects, and sequences that no dumped table brings along.

use std::sync::Arc;

use lakehold_proto::fault::Result;
use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Mutex;

use super::super::archive::Entry;
use super::super::dump::{self, Dump, unexpected};
use super::super::kinds::LOOSE_DATA;
use super::super::names::{identifier, join};
use super::super::reading::Reading;
use super::rows::{Within, read, still_holds};
use super::{Work, document};
use crate::capture::{Body, Capture, Draft};

/// What there is of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Loose {
    /// Sequences that belong to no table, by schema and name.
    pub(super) sequences: Vec<(String, String)>,
    /// Tables whose sequences are dumped, and whose rows are not: `pg_dump` has sequences of tables with their tables alone.
    pub(super) of_tables: Vec<(String, String)>,
    /// How many large objects.
    pub(super) large_objects: u64,
}

/// Captures what a database's task wrote down, in its snapshot.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn capture_handed_out(work: &Work, capture: &mut Capture) -> Result<()> {
    let (within, found) = read::<Loose>(capture).await?;
    let Some(loose) = found.first() else { return Err(unexpected("nothing was asked for")) };
    dump(work, capture, &within, loose).await
}

/// Dumps it, where there is any.
///
/// # Errors
/// Those of [`crate::source::Source::work`].
pub(super) async fn dump(work: &Work, capture: &mut Capture, within: &Within, loose: &Loose) -> Result<()> {
    if loose.is_empty() {
        return Ok(());
    }
    let Err(fault) = try_to(work, capture, within, loose).await else { return Ok(()) };
    if work.attempt == 1 {
        return Err(fault);
    }
    still_holds(work, within, None).await?;
    let draft = draft(within, loose).gap(Role::Data, fault);
    capture.add(&Kind::of(LOOSE_DATA), draft).await
}

async fn try_to(work: &Work, capture: &mut Capture, within: &Within, loose: &Loose) -> Result<()> {
    let permit = work.permit().await?;
    let dump = Dump::begin(&work.programs, &within.database, &loose.arguments(within), permit).await?;
    let dump = Arc::new(Mutex::new(dump));
    let block = dump.lock().await.block().await?;
    let (head, lasting) = dump.lock().await.head(block.as_ref(), is_loose);
    let mut draft = draft(within, loose);
    let reading = Reading::begin(&work.programs, &head).await?;
    if block.is_some() {
        let rest = reading.of(dump::rest(&dump));
        draft = draft.part_as(Role::Data, document::BLOCKS, Body::Stream(rest));
    } else {
        reading.end().await?;
    }
    let draft = draft.part_as(Role::Content, document::HEAD, Body::compared(head, lasting));
    capture.add_whole(&Kind::of(LOOSE_DATA), draft).await?
}

fn draft(within: &Within, loose: &Loose) -> Draft {
    let name = join(&[&within.database]);
    let document = json!({
        "sequences": loose.sequences,
        "sequences_of_tables": loose.of_tables,
        "large_objects": loose.large_objects,
    });
    Draft::new(name.clone(), name.clone()).parent(name).part(Role::Object, document::body(&document))
}

/// The database itself is another item.
fn is_loose(entry: &Entry) -> bool {
    !entry.what.starts_with("DATABASE")
}

impl Loose {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.sequences.is_empty() && self.of_tables.is_empty() && self.large_objects == 0
    }

    fn arguments(&self, within: &Within) -> Vec<String> {
        let pattern =
            |(schema, name): &(String, String)| format!("{}.{}", identifier(schema), identifier(name));
        let mut arguments = within.arguments().to_vec();
        arguments.extend(["-a".to_owned(), "-b".to_owned()]);
        arguments
            .extend(self.sequences.iter().chain(&self.of_tables).map(|name| format!("-t{}", pattern(name))));
        arguments.extend(self.of_tables.iter().map(|name| format!("--exclude-table-data={}", pattern(name))));
        if self.sequences.is_empty() && self.of_tables.is_empty() {
            // Nothing of any schema.
            arguments.push("-N*".to_owned());
        }
        arguments
    }
}
