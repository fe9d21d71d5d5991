//! Kinds that calls list: page by page, item by item.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Fault, Result};
use lakehold_proto::task::{Shard, TaskSpec};

use super::super::kinds::{self, Call, List, Row};
use super::super::request::Request;
use super::Work;
use super::gather::Gather;
use super::item::{Item, fill, one_line};
use super::make::Made;
use super::pump::Pump;
use crate::capture::Capture;

/// Lists what the task's kind lists, and captures it or asks for child tasks that do.
///
/// # Errors
/// When a listing failed in a way that says nothing about its slice.
pub(super) async fn list(work: &Arc<Work>, capture: &mut Capture, task: &'static Row) -> Result<()> {
    let shard = capture.assignment().task.shard.clone();
    for row in task.listed_together() {
        if work.subtree(row).is_empty() {
            continue;
        }
        // The outer error is the store's, the inner one the workspace's.
        if let Err(fault) = list_one(work, capture, row, task, &shard).await? {
            work.not_listed(capture, row, &shard, fault)?;
        }
    }
    Ok(())
}

/// Captures one bucket of a listing that another task wrote down.
///
/// # Errors
/// The store's.
pub(super) async fn bucket(work: &Arc<Work>, capture: &mut Capture, row: &'static Row) -> Result<()> {
    capture.load_base(&row.kind()).await?;
    let mut pump = Pump::new();
    for frame in 0.. {
        let Some(lines) = capture.input(frame).await? else { break };
        for line in lines {
            capture_line(work, capture, &mut pump, row, line).await?;
        }
    }
    pump.finish(capture).await
}

async fn list_one(
    work: &Arc<Work>,
    capture: &mut Capture,
    row: &'static Row,
    task: &'static Row,
    shard: &Shard,
) -> Result<Result<()>> {
    let List::Calls(calls) = row.list else { return Ok(Ok(())) };
    let base = if row.name == task.name { capture.base_buckets() } else { 1 };
    let mut gather = Gather::new(capture, base);
    let mut listed = Ok(());
    for call in calls {
        listed = list_pages(work, capture, row, call, shard, &mut gather).await?;
        if listed.is_err() {
            break;
        }
    }
    // What was listed until a failure is captured all the same.
    let kinds: Vec<_> = [Some(row.name), row.carries.map(|carries| carries.kind)]
        .into_iter()
        .flatten()
        .filter(|kind| work.wants(kind))
        .map(lakehold_proto::ids::Kind::of)
        .collect();
    let lines = gather.finish(capture, &row.kind(), shard, &kinds).await?;
    capture.load_base(&row.kind()).await?;
    let mut pump = Pump::new();
    for line in lines {
        capture_line(work, capture, &mut pump, row, line).await?;
    }
    pump.finish(capture).await?;
    Ok(listed)
}

async fn list_pages(
    work: &Arc<Work>,
    capture: &mut Capture,
    row: &'static Row,
    call: &Call,
    shard: &Shard,
    gather: &mut Gather,
) -> Result<Result<()>> {
    let request = match request(call, shard) {
        Ok(request) => request,
        Err(fault) => return Ok(Err(fault)),
    };
    let mut pages = work.client.pages(request, &call.paging, call.items, &work.meter);
    let captured = work.wants(row.name) || row.carries.is_some_and(|carries| work.wants(carries.kind));
    loop {
        let page = match pages.try_next().await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(Ok(())),
            Err(fault) => return Ok(Err(fault)),
        };
        for raw in page {
            let item = Item::read(row, one_line(raw.get()));
            if let Some(builtin) = item.skipped(row) {
                capture.leave_out(&row.kind(), builtin.why);
                continue;
            }
            walk_into(work, capture, row, &item);
            if captured {
                gather.take(capture, item.key, item.raw).await?;
            }
        }
    }
}

/// Asks for the tasks that list what lies in `item`.
fn walk_into(work: &Work, capture: &mut Capture, row: &'static Row, item: &Item) {
    for child in row.walked_by() {
        let mut yields = kinds::yields(child.name);
        yields.retain(|row| work.wants(row.name));
        if yields.is_empty() {
            continue;
        }
        capture.child(TaskSpec {
            kind: child.kind(),
            shard: Shard::under(&item.name),
            stage: capture.assignment().task.stage,
            yields: yields.iter().map(|row| row.kind()).collect(),
            long: false,
            input: Vec::new(),
        });
    }
}

/// Begins to capture what one line shows.
async fn capture_line(
    work: &Arc<Work>,
    capture: &mut Capture,
    pump: &mut Pump<Made>,
    row: &'static Row,
    line: Bytes,
) -> Result<()> {
    let item = Item::read(row, line);
    let kind = row.kind();
    if capture.has(&kind, &item.key) {
        // Pages shift while they are read: it was shown twice.
        return Ok(());
    }
    let reuse = work.reuse(row, &item, capture.known(&kind, &item.key));
    pump.add(capture, Arc::clone(work).make(row, item, reuse).boxed()).await
}

/// The call of a listing. In a shard with a scope that is `catalog` or `catalog.schema`; names hold no dots there.
fn request(call: &Call, shard: &Shard) -> Result<Request, Fault> {
    let (catalog, schema) = match shard.scope.split_once('.') {
        Some((catalog, schema)) => (catalog, Some(schema)),
        None => (shard.scope.as_str(), None),
    };
    let lookup = |slot: &str| match slot {
        "catalog" => Some(catalog.to_owned()),
        "schema" => schema.map(str::to_owned),
        _ => None,
    };
    let mut request = Request::get(call.family, call.path);
    for (name, value) in call.query {
        request = request.query(name, fill(value, false, lookup)?);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::super::super::kinds::row;
    use super::*;

    #[test]
    fn listings_ask_for_their_parent() {
        let List::Calls([call]) = row("table").unwrap().list else { panic!("no call") };
        let asked = request(call, &Shard::under("main.sales")).unwrap();
        assert_eq!(asked.query, [("catalog_name", "main".to_owned()), ("schema_name", "sales".to_owned())]);
        assert!(request(call, &Shard::under("main")).is_err(), "a table lies in a schema");
    }
}
