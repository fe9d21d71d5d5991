//! The steps of a restore, as every source carries them out: how one is read, how it is told what became of it, and what other
//! items of the run became.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Role, read_located};
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::killpoint::killpoint;
use lakehold_proto::restore::{Act, Made, Restoring, Step, StepPart};
use lakehold_proto::store::{Key, Put};
use lakehold_proto::task::Assignment;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::capture::{Body, Capture, Draft, Reader};

/// How one step ended: with the key that its item has now, or with why it has none.
pub(super) type Ended = std::result::Result<Option<String>, Fault>;

/// What the plan says of the restore.
///
/// # Errors
/// `Bug` when it is the plan of something else.
pub(super) fn restoring(capture: &Capture) -> Result<Box<Restoring>> {
    capture.plan().restore.clone().ok_or_else(|| {
        Fault::new(Class::Bug, "restore.no-plan", "carry out a task", "the plan says nothing of a restore")
    })
}

/// Whether nobody can have done any of the task before.
///
/// # Errors
/// The store's.
pub(super) async fn is_first(capture: &Capture, assignment: &Assignment) -> Result<bool> {
    let Reader { store, run, .. } = capture.reader();
    let begun = Key::begun(run, assignment.task.id());
    Ok(store.put_new(&begun, Bytes::new()).await? == Put::Created)
}

/// A line of a task's input.
///
/// # Errors
/// `Integrity` when it is none.
pub(super) fn read(line: &[u8]) -> Result<Step> {
    serde_json::from_slice(line)
        .map_err(|e| Fault::new(Class::Integrity, "restore.step", "read what is to be brought back", e))
}

/// The record of a step, with what else is told of it. An item has one for each of its steps.
pub(super) fn recorded(step: &Step, ended: Ended, told: Option<Value>) -> Draft {
    let draft = Draft::new(format!("{}/{}", step.act.word(), step.key), &step.name);
    let role = if step.act == Act::Access { Role::Permissions } else { Role::Object };
    match ended {
        Ok(key) => {
            let mut said = json!({"act": step.act, "from": step.key, "to": key});
            if let Some(told) = told {
                said["told"] = told;
            }
            let draft = draft.part(role, Body::json(said.to_string(), &said));
            match key {
                Some(key) => draft.became(key),
                None => draft,
            }
        }
        Err(fault) => draft.gap(role, fault),
    }
}

/// The bytes of a part.
///
/// # Errors
/// The store's; `Integrity` when they are not what the snapshot says.
pub(super) async fn body(reader: &Reader, part: &StepPart) -> Result<Bytes> {
    let mut whole = BytesMut::with_capacity(part.size as usize);
    for frame in &part.frames {
        whole.extend_from_slice(&read_located(&*reader.store, &Key::pack(frame.object), frame).await?);
    }
    is_whole(part, Hash::of(&whole))?;
    Ok(whole.freeze())
}

/// Checks what the frames of a part hash to.
///
/// # Errors
/// `Integrity` when that is something else.
pub(super) fn is_whole(part: &StepPart, found: Hash) -> Result<()> {
    if found == part.sha256 {
        return Ok(());
    }
    let detail = format!("its frames together hash to {found}, not to {}", part.sha256);
    Err(Fault::new(Class::Integrity, "item.hash-mismatch", "read what is to be brought back", detail)
        .hint("`lakehold verify` tells what else is hurt, and which snapshot has it whole"))
}

/// What items of a run became.
#[derive(Debug)]
pub(super) struct Became {
    reader: Reader,
    /// As far as it was asked for.
    known: Mutex<HashMap<(Kind, String), Made>>,
}

impl Became {
    /// Of the run that `reader` reads.
    pub(super) fn of(reader: Reader) -> Self {
        Self { reader, known: Mutex::default() }
    }

    /// What an item of this run became; `None` when it did not come to be (yet).
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn made(&self, kind: &Kind, key: &str) -> Result<Option<Made>> {
        let place = (kind.clone(), key.to_owned());
        if let Some(made) = self.known.lock().await.get(&place) {
            return Ok(Some(made.clone()));
        }
        let at = Key::made(self.reader.run, &self.reader.environment, kind, key);
        let Some(body) = self.reader.store.get(&at).await? else { return Ok(None) };
        let made: Made = serde_json::from_slice(&body)
            .map_err(|e| Fault::new(Class::Integrity, "restore.made", format!("read {at}"), e))?;
        self.known.lock().await.insert(place, made.clone());
        Ok(Some(made))
    }

    /// Writes down what an item became, before anything depends on it.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn note(&self, made: &Made) -> Result<()> {
        let at = Key::made(self.reader.run, &self.reader.environment, &made.kind, &made.from);
        let body = serde_json::to_vec(made)
            .map_err(|e| Fault::new(Class::Bug, "restore.encode", "write down what was made", e))?;
        self.reader.store.put_new(&at, body.into()).await?;
        killpoint("worker.after-made");
        self.known.lock().await.insert((made.kind.clone(), made.from.clone()), made.clone());
        Ok(())
    }
}

/// The fault of an item that needs another which is not there.
pub(super) fn not_made(kind: &Kind, key: &str) -> Fault {
    let detail = format!("it refers to the {kind} {key:?}, which was not brought back");
    Fault::new(Class::Absent, "restore.missing", "put references into the target's words", detail)
        .hint("see why that one failed, and restore again: what is there already is left as it is")
}
