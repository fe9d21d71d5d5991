//! A source without a server: a tree of shards with items, all made from their names, and troubles on demand. It proves the
//! engine without knowing what a workspace is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::Standing;
use lakehold_proto::plan::{Probe, Selection};
use lakehold_proto::task::{Assignment, Bucket, Shard, TaskSpec};
use lakehold_worker::capture::{Body, Capture, Draft};
use lakehold_worker::serve::Sources;
use lakehold_worker::source::{SharedSource, Source, SourcePlan};

pub const FOLDER: Kind = Kind::of("folder");
pub const FILE: Kind = Kind::of("file");
pub const FLAT: Kind = Kind::of("flat");
/// What a flat item carries: found with it, under a key that hashes elsewhere.
pub const CARRIED: Kind = Kind::of("carried");

/// A tree of folders with files, and a flat kind that is cut into buckets.
#[derive(Debug)]
pub struct Synthetic {
    pub folders: usize,
    pub files: usize,
    pub flat: usize,
    /// Files that differ from how they were made: content by path; `None` is deleted.
    pub changed: Mutex<BTreeMap<String, Option<String>>>,
    /// Folders that cannot be listed.
    pub dark: Mutex<BTreeSet<String>>,
    /// Files that cannot be read.
    pub torn: Mutex<BTreeSet<String>>,
    /// Shards that fail this often before they succeed, by scope.
    pub flaky: Mutex<HashMap<String, usize>>,
    /// Shards whose worker panics whenever it takes them.
    pub poison: Mutex<BTreeSet<String>>,
    /// How often each file's body was fetched.
    pub fetched: Mutex<BTreeMap<String, usize>>,
    pub worked: AtomicUsize,
}

impl Synthetic {
    pub fn new(folders: usize, files: usize, flat: usize) -> Arc<Self> {
        Arc::new(Self {
            folders,
            files,
            flat,
            changed: Mutex::default(),
            dark: Mutex::default(),
            torn: Mutex::default(),
            flaky: Mutex::default(),
            poison: Mutex::default(),
            fetched: Mutex::default(),
            worked: AtomicUsize::new(0),
        })
    }

    pub fn bodies_fetched(&self) -> usize {
        self.fetched.lock().unwrap().values().sum()
    }

    fn body(&self, path: &str) -> Option<String> {
        match self.changed.lock().unwrap().get(path) {
            Some(changed) => changed.clone(),
            None => Some(format!("content of {path}\n").repeat(20)),
        }
    }

    async fn folder(&self, path: &str, capture: &mut Capture) -> Result<()> {
        let depth = path.matches('/').count();
        capture
            .add(&FOLDER, Draft::new(path, path).part(Role::Object, Body::Bytes(path.to_owned().into())))
            .await?;
        if depth < 3 {
            for n in 0..self.folders {
                capture.child(spec(FOLDER, Shard::under(format!("{path}/f{n}")), &[FOLDER, FILE]));
            }
        }
        capture.load_base(&FILE).await?;
        for n in 0..self.files {
            let file = format!("{path}/file{n}");
            let Some(body) = self.body(&file) else { continue };
            let draft = Draft::new(&file, &file).parent(path).version(body.len().to_string());
            if self.torn.lock().unwrap().contains(&file) {
                let fault = Fault::new(Class::Denied, "test.torn", format!("read {file}"), "not allowed");
                capture.add(&FILE, draft.gap(Role::Content, fault)).await?;
                continue;
            }
            let known = capture.known(&FILE, &file).and_then(|entry| entry.version.clone());
            let unchanged = !capture.plan().selection.full && known == Some(body.len().to_string());
            let content = if unchanged {
                Body::Base
            } else {
                *self.fetched.lock().unwrap().entry(file.clone()).or_default() += 1;
                Body::Bytes(body.into())
            };
            capture.add(&FILE, draft.part(Role::Content, content)).await?;
        }
        Ok(())
    }
}

/// Lists a flat kind: a task for each bucket.
pub(crate) async fn list_flat(
    keys: impl IntoIterator<Item = impl AsRef<str>>,
    capture: &mut Capture,
) -> Result<()> {
    let buckets = 4.max(capture.base_buckets());
    let mut listing = capture.listing(buckets);
    for key in keys {
        let key = key.as_ref();
        listing.push(Bucket::of_key(key, buckets).index, key.as_bytes()).await?;
    }
    for (index, input) in listing.finish(buckets).await?.into_iter().enumerate() {
        let shard = Shard::whole().cut(Bucket { index: index as u32, of: buckets });
        capture.child(TaskSpec { input, ..spec(FLAT, shard, &[FLAT, CARRIED]) });
    }
    Ok(())
}

/// Fetches a bucket of it, with what each item carries.
pub(crate) async fn fetch_flat(capture: &mut Capture) -> Result<()> {
    let mut frame = 0;
    while let Some(lines) = capture.input(frame).await? {
        for line in lines {
            let key = String::from_utf8_lossy(&line).into_owned();
            let body = Bytes::from(format!("{{\"name\":\"{key}\"}}"));
            let body = Body::json(body, &serde_json::json!({"name": key}));
            capture.add(&FLAT, Draft::new(&key, &key).part(Role::Object, body)).await?;
            let carried = format!("of/{key}");
            let body = Body::Bytes(format!("carried by {key}").into());
            capture.add(&CARRIED, Draft::new(&carried, &carried).part(Role::Object, body)).await?;
        }
        frame += 1;
    }
    Ok(())
}

pub(crate) fn spec(kind: Kind, shard: Shard, yields: &[Kind]) -> TaskSpec {
    TaskSpec { kind, shard, stage: 0, yields: yields.into(), long: false, input: Vec::new() }
}

#[async_trait]
impl Source for Synthetic {
    fn name(&self) -> &'static str {
        "synthetic"
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![FOLDER, FILE, FLAT, CARRIED]
    }

    async fn probe(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    fn plan(&self, _: &Selection, _: &Probe, _: Option<&Manifest>) -> Result<SourcePlan> {
        let roots = vec![
            spec(FOLDER, Shard::under("/root"), &[FOLDER, FILE]),
            spec(FLAT, Shard::whole(), &[FLAT, CARRIED]),
        ];
        Ok(SourcePlan { roots, ..SourcePlan::default() })
    }

    async fn work(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        self.worked.fetch_add(1, Ordering::Relaxed);
        let shard = &assignment.task.shard;
        assert!(!self.poison.lock().unwrap().contains(&shard.scope), "poison");
        if let Some(left) = self.flaky.lock().unwrap().get_mut(&shard.scope).filter(|left| **left > 0) {
            *left -= 1;
            return Err(Fault::new(Class::Unavailable, "test.flaky", format!("list {shard}"), "not now"));
        }
        if self.dark.lock().unwrap().contains(&shard.scope) {
            let fault = Fault::new(Class::Denied, "test.dark", format!("list {shard}"), "not allowed");
            capture.unlisted(
                vec![FOLDER, FILE],
                shard.clone(),
                Standing::Forbidden,
                &fault,
                Some("CAN_READ".into()),
            );
            return Ok(());
        }
        match (assignment.task.kind == FOLDER, shard.bucket) {
            (true, _) => self.folder(&shard.scope, capture).await,
            (false, None) => list_flat((0..self.flat).map(|n| format!("flat-{n}")), capture).await,
            (false, Some(_)) => fetch_flat(capture).await,
        }
    }
}

/// One synthetic source for every environment.
#[derive(Debug)]
pub struct OneSource(pub Arc<Synthetic>);

#[async_trait]
impl Sources for OneSource {
    async fn source(&self, environment: &EnvName) -> Result<SharedSource> {
        if environment.as_str().starts_with("unknown") {
            return Err(Fault::new(
                Class::Config,
                "config.no-environment",
                "find the environment",
                "it is not configured",
            ));
        }
        Ok(Arc::clone(&self.0) as SharedSource)
    }
}
