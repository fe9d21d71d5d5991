//! Reads packs back, and says what of them is hurt.
//!
//! A task names packs, each with the frames that snapshots have in it: the pack is read once, whole, and in the same pass its
//! own hash and that of every frame are checked. Bodies of several frames are then read as a whole, by tasks of their own.
//! **Damage** is a gap of the item that stands for the pack, frame or body; **an error** is that the store could not be read,
//! and is tried again. **Twice** is harmless: nothing is changed. No credential of an environment is needed.

use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::{Located, MAX_FRAME, PACK_MAGIC, Role, read_located};
use lakehold_proto::ids::Hash;
use lakehold_proto::store::{Key, SharedStore, missing};
use lakehold_proto::task::Assignment;
use lakehold_proto::verify::{BODY, BodyCheck, FRAME, PACK, PackCheck, frame_key};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::capture::{Capture, Draft};

/// Carries out one task of a verify.
///
/// # Errors
/// The store's, of those that say nothing about its content; `Integrity` when the task's own input is damaged.
pub async fn work(store: &SharedStore, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
    let bodies = assignment.task.kind == BODY;
    let mut piece = 0;
    while let Some(lines) = capture.input(piece).await? {
        for line in lines {
            if bodies {
                check_body(store, read(&line)?, capture).await?;
            } else {
                check_pack(store, read(&line)?, capture).await?;
            }
        }
        piece += 1;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(line: &Bytes) -> Result<T> {
    serde_json::from_slice(line).map_err(|e| {
        Fault::new(Class::Integrity, "verify.input", "read what is to be verified", e)
            .hint("run verify again: it writes that anew")
    })
}

async fn check_pack(store: &SharedStore, check: PackCheck, capture: &mut Capture) -> Result<()> {
    let key = Key::pack(check.pack);
    let read = Draft::new(check.pack.to_string(), check.pack.to_string());
    let Some(body) = store.get(&key).await? else {
        return capture.add(&PACK, read.gap(Role::Object, missing(&key))).await;
    };
    capture.meter().read(body.len() as u64);
    let pack = check.pack;
    let checked = tokio::task::spawn_blocking(move || check_bytes(&check, &body)).await;
    let checked = checked.map_err(|e| Fault::new(Class::Bug, "verify.thread", format!("check {key}"), e))?;
    capture.meter().opened(checked.opened);
    let read = match checked.whole {
        Some(fault) => read.gap(Role::Object, fault),
        None => read,
    };
    capture.add(&PACK, read).await?;
    for (offset, fault) in checked.hurt {
        let frame = frame_key(pack, offset);
        capture.add(&FRAME, Draft::new(frame.clone(), frame).gap(Role::Object, fault)).await?;
    }
    Ok(())
}

/// What became of one pack.
struct Checked {
    /// Frames that were opened, and are sound.
    opened: u64,
    /// What is wrong with the pack as a whole.
    whole: Option<Fault>,
    /// Frames that are hurt, by where they begin.
    hurt: Vec<(u64, Fault)>,
}

fn check_bytes(check: &PackCheck, body: &Bytes) -> Checked {
    let mut checked = Checked { opened: 0, whole: None, hurt: Vec::new() };
    let fault = |code, detail: String| Fault::new(Class::Integrity, code, "check a pack", detail);
    let found = Hash::of(body);
    if found != check.pack {
        let detail = format!("its {} bytes hash to {found}, not to its name", body.len());
        checked.whole = Some(fault("store.hash-mismatch", detail));
    } else if !body.starts_with(PACK_MAGIC) {
        checked.whole = Some(fault("pack.magic", "it does not begin as packs do".into()));
    }
    // One decompressor and one buffer for all frames: making them anew would cost more than most frames.
    let mut plain = Vec::new();
    let mut zstd = zstd::bulk::Decompressor::new();
    for frame in &check.frames {
        let opened = match &mut zstd {
            Ok(zstd) => open(zstd, frame, body, &mut plain),
            Err(e) => Err(format!("no decompressor: {e}")),
        };
        match opened {
            Ok(()) => checked.opened += 1,
            Err(detail) => checked
                .hurt
                .push((frame.offset, fault("pack.frame", format!("frame at {}: {detail}", frame.offset)))),
        }
    }
    checked
}

fn open(
    zstd: &mut zstd::bulk::Decompressor<'_>,
    frame: &Located,
    body: &Bytes,
    plain: &mut Vec<u8>,
) -> Result<(), String> {
    let end = frame.offset.checked_add(frame.length).filter(|end| *end <= body.len() as u64);
    let end = end.ok_or_else(|| format!("it ends behind the pack's {} bytes", body.len()))?;
    if frame.size > MAX_FRAME {
        return Err(format!("it claims {} bytes, more than any frame may have", frame.size));
    }
    plain.clear();
    plain.reserve(frame.size as usize);
    let sealed = &body[frame.offset as usize..end as usize];
    zstd.decompress_to_buffer(sealed, plain).map_err(|e| e.to_string())?;
    let found = Hash::of(&plain);
    match plain.len() as u64 == frame.size && found == frame.sha256 {
        true => Ok(()),
        false => Err(format!("its {} bytes hash to {found}, not to {}", plain.len(), frame.sha256)),
    }
}

/// A frame that is hurt is told as such, as the task of its pack does; a body of sound frames may still be none.
async fn check_body(store: &SharedStore, check: BodyCheck, capture: &mut Capture) -> Result<()> {
    let mut hasher = Sha256::new();
    for frame in &check.frames {
        match read_located(&**store, &Key::pack(frame.object), frame).await {
            Ok(bytes) => {
                capture.meter().read(frame.length);
                hasher.update(&bytes);
            }
            Err(fault) if matches!(fault.class, Class::Integrity | Class::Unsupported) => {
                let key = frame_key(frame.object, frame.offset);
                return capture.add(&FRAME, Draft::new(key.clone(), key).gap(Role::Object, fault)).await;
            }
            Err(fault) => return Err(fault),
        }
    }
    let found = Hash::finish(hasher);
    let body = Draft::new(check.sha256.to_string(), check.sha256.to_string())
        .parent(Key::index(check.index).to_string());
    if found == check.sha256 {
        return capture.add(&BODY, body).await;
    }
    let detail = format!("its frames together hash to {found}, not to {}", check.sha256);
    let fault = Fault::new(Class::Integrity, "item.hash-mismatch", "read a body", detail);
    capture.add(&BODY, body.gap(Role::Object, fault)).await
}
