//! Small snapshots for tests, made as an engine would: packs, indexes, a page, a manifest.

use std::sync::Arc;

use jiff::Timestamp;
use lakehold_proto::fault::{Class, Fault};
use lakehold_proto::format::{
    Entry, Gap, IndexDraft, PackBuilder, PackRef, Part, Role, content_of, write_page,
};
use lakehold_proto::ids::{EnvName, Hash, Kind, RunId, SnapshotId, TraceId};
use lakehold_proto::manifest::{Counts, KindReport, MANIFEST_SCHEMA, Manifest, RunReport, SnapshotState};
use lakehold_proto::outcome::{Figures, Standing, Unlisted};
use lakehold_proto::plan::{BaseRef, Probe, Selection};
use lakehold_proto::store::{DirectoryStore, Key, SharedStore};
use lakehold_proto::task::Shard;

use super::find::Found;
use super::survey::survey;

/// An item to be captured: kind, key, name, object, content in as many frames as it has pieces.
pub(crate) struct Seed {
    kind: &'static str,
    key: String,
    name: String,
    object: String,
    content: Vec<Vec<u8>>,
    gap: bool,
    swapped: bool,
    astray: bool,
    sealed: bool,
    became: Option<String>,
}

impl Seed {
    pub(crate) fn new(kind: &'static str, key: &str, name: &str, object: &str) -> Self {
        let (key, name, object) = (key.into(), name.into(), object.into());
        Self {
            kind,
            key,
            name,
            object,
            content: Vec::new(),
            gap: false,
            swapped: false,
            astray: false,
            sealed: false,
            became: None,
        }
    }

    pub(crate) fn content(mut self, pieces: &[&[u8]]) -> Self {
        self.content = pieces.iter().map(|piece| piece.to_vec()).collect();
        self
    }

    /// Names the frames of its content in another order than they make the content in.
    pub(crate) fn swapped(mut self) -> Self {
        self.swapped = true;
        self
    }

    /// Lets its frames begin where no frame of a pack can.
    pub(crate) fn astray(mut self) -> Self {
        self.astray = true;
        self
    }

    /// Says of its pack that it is encrypted, in a way that nobody knows yet.
    pub(crate) fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }

    /// Says what it became: in the record of a restore.
    pub(crate) fn became(mut self, key: &str) -> Self {
        self.became = Some(key.into());
        self
    }

    pub(crate) fn gap(mut self) -> Self {
        self.gap = true;
        self
    }
}

/// A store in a directory of its own.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: SharedStore,
}

pub(crate) fn prod() -> EnvName {
    "prod".parse().unwrap()
}

/// What a snapshot is made of besides its items.
#[derive(Default)]
pub(crate) struct Made<'a> {
    pub(crate) base: Option<&'a Found>,
    pub(crate) unlisted: Option<(&'static str, &'static str)>,
    pub(crate) selection: Selection,
    pub(crate) not_captured: Option<(&'static str, Standing)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Arc::new(DirectoryStore::new(dir.path())), dir }
    }

    /// A snapshot of these items at `2026-08-01T<hour>:00Z`, each item in an index of its own.
    pub(crate) async fn snapshot(&self, hour: u32, seeds: Vec<Seed>, made: Made<'_>) -> Found {
        let time = format!("20260801T{hour:02}0000Z");
        let at: Timestamp = format!("2026-08-01T{hour:02}:00:00Z").parse().unwrap();
        let mut refs = Vec::new();
        let mut kinds: Vec<KindReport> = Vec::new();
        let report = |kind: &str, standing| KindReport {
            kind: Kind::named(kind),
            standing,
            counts: Counts::default(),
            fault: None,
            permission: None,
            rule: None,
            left_out: Default::default(),
        };
        for seed in seeds {
            let kind = Kind::of(seed.kind);
            if !kinds.iter().any(|known| known.kind == kind) {
                kinds.push(report(seed.kind, Standing::Captured));
            }
            let mut pack = PackBuilder::new();
            let mut parts = vec![part(&mut pack, Role::Object, &[seed.object.into_bytes()])];
            if !seed.content.is_empty() {
                parts.push(part(&mut pack, Role::Content, &seed.content));
            }
            if seed.astray {
                parts.iter_mut().flat_map(|part| &mut part.frames).for_each(|frame| frame.offset = 1);
            }
            if seed.swapped {
                parts.iter_mut().for_each(|part| part.frames.reverse());
            }
            let sealed = pack.finish();
            self.store.put_new(&Key::pack(sealed.hash), sealed.bytes).await.unwrap();
            let (content, became) = (content_of(&parts), seed.became);
            let mut entry = Entry { content, parts, became, ..Entry::new(seed.key, seed.name) };
            if seed.gap {
                let fault = Fault::new(Class::Denied, "http.denied", "read content", "403").record();
                let last_good = made.base.map(|base| base.manifest.snapshot);
                entry.gaps = vec![Gap { role: Role::Content, fault, trace: TraceId::random(), last_good }];
            }
            let counts = &mut kinds.iter_mut().find(|known| known.kind == kind).unwrap().counts;
            counts.items += 1;
            counts.gaps += u64::from(seed.gap);
            counts.bytes += entry.bytes();
            let shard = Shard::under(entry.key.clone());
            let cipher = seed.sealed.then(|| "later".to_owned());
            let pack = PackRef { cipher, ..PackRef::plain(sealed.hash) };
            let (index, bytes) = IndexDraft::new(&kind, &kind, &shard, &[pack], vec![entry])
                .and_then(|draft| draft.write())
                .unwrap();
            self.store.put_new(&Key::index(index.sha256), bytes).await.unwrap();
            refs.push(index);
        }
        let mut unlisted = Vec::new();
        if let Some((kind, scope)) = made.unlisted {
            let fault = Fault::new(Class::Unavailable, "http.503", "list", "503").record();
            if !kinds.iter().any(|known| known.kind.as_str() == kind) {
                kinds.push(report(kind, Standing::Captured));
            }
            kinds.iter_mut().filter(|known| known.kind.as_str() == kind).for_each(|k| k.counts.unlisted += 1);
            unlisted.push((
                Kind::of(kind),
                Unlisted {
                    kinds: vec![Kind::of(kind)],
                    shard: Shard::under(scope),
                    standing: Standing::Failed,
                    fault,
                    permission: None,
                    last_good: None,
                    trace: TraceId::random(),
                },
            ));
        }
        if let Some((kind, standing)) = made.not_captured {
            kinds.push(report(kind, standing));
        }
        refs.sort_by(|a, b| (&a.by, &a.shard).cmp(&(&b.by, &b.shard)));
        let (page, bytes) = write_page(&refs, &unlisted, 0).unwrap();
        self.store.put_new(&Key::index(page.sha256), bytes).await.unwrap();
        let pages = vec![page];
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA.into(),
            snapshot: SnapshotId::new(at),
            environment: prod(),
            source: "databricks".into(),
            state: if unlisted.is_empty() { SnapshotState::Complete } else { SnapshotState::Partial },
            hash: "sha256".into(),
            content_root: survey(&*self.store, &pages, None).await.unwrap().content_root,
            base: made.base.map(|base| BaseRef {
                snapshot: base.manifest.snapshot,
                time: base.manifest.time.clone(),
                manifest: base.hash,
            }),
            selection: made.selection,
            tags: Vec::new(),
            probe: Probe::default(),
            kinds,
            pages,
            restore: None,
            verify: None,
            run: RunReport {
                id: RunId::new(at),
                trace: TraceId::random(),
                planned: at,
                committed: at,
                tasks: 1,
                outcomes: Hash::of(""),
                figures: Figures::default(),
                program: "test".into(),
            },
            time,
        };
        let body = serde_json::to_vec_pretty(&manifest).unwrap();
        let key = Key::manifest(&prod(), &manifest.time, manifest.snapshot);
        let hash = Hash::of(&body);
        self.store.put_new(&key, body.into()).await.unwrap();
        Found { manifest, hash }
    }

    /// Flips one byte of every object whose key begins with `prefix`, `from` bytes from its end. Returns how many.
    pub(crate) fn hurt(&self, prefix: &str, from_end: usize) -> usize {
        let mut hurt = 0;
        for path in self.files(prefix) {
            let mut body = std::fs::read(&path).unwrap();
            let at = body.len() - from_end;
            body[at] ^= 0x40;
            std::fs::write(&path, body).unwrap();
            hurt += 1;
        }
        hurt
    }

    /// The files of all objects whose key begins with `prefix`.
    pub(crate) fn files(&self, prefix: &str) -> Vec<std::path::PathBuf> {
        let mut folders = vec![self.dir.path().join(prefix)];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for item in std::fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort_unstable();
        files
    }
}

fn part(pack: &mut PackBuilder, role: Role, pieces: &[Vec<u8>]) -> Part {
    let frames: Vec<_> = pieces.iter().map(|piece| pack.add(0, piece).unwrap()).collect();
    let whole = pieces.concat();
    Part { role, size: whole.len() as u64, sha256: Hash::of(&whole), canonical: None, format: None, frames }
}
