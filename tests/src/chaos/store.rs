//! A bucket in memory. It does whatever the port allows: refuses, conflicts, loses answers, lets a write land after its
//! writer was gone, leaves what is being written out of a listing, breaks a listing off, and loses at a power loss what was
//! not flushed. It checks that nothing is ever written twice with other bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::outcome::OutcomeId;
use lakehold_proto::store::{Key, Listed, Properties, Put, Store};
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::world::{Life, Service, Trouble, World};

/// How long what was written without an answer may be missing from listings.
const UNLISTED: Duration = Duration::from_secs(5);
/// What was written so recently may not be flushed yet.
const UNFLUSHED: Duration = Duration::from_secs(10);

const MANIFEST: &str = "/manifest.json";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bucket(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// Writes under way whose writers are gone, by when they land.
    late: Vec<(Duration, Key, Bytes)>,
    /// Who made each manifest, and when.
    makers: BTreeMap<String, (Arc<Life>, Duration)>,
}

#[derive(Clone, Debug)]
struct Object {
    body: Bytes,
    made: Duration,
    /// When a `put_new` returned: from then on every listing has it.
    told: Option<Duration>,
    /// Whether it may be lost with the machine.
    soon: bool,
    /// Whether a power loss cut it short.
    cut: bool,
}

impl Bucket {
    /// A bucket with the same objects.
    pub(super) fn copy(&self) -> Arc<Self> {
        let mut state = self.state().clone();
        state.late.clear();
        for object in state.objects.values_mut() {
            *object =
                Object { made: Duration::ZERO, told: Some(Duration::ZERO), soon: false, ..object.clone() };
        }
        Arc::new(Self(Mutex::new(state)))
    }

    /// The bucket as a process sees it.
    pub(super) fn of(self: &Arc<Self>, life: &Arc<Life>) -> Arc<SimStore> {
        Arc::new(SimStore { bucket: Arc::clone(self), life: Arc::clone(life) })
    }

    /// Who made a manifest, and when.
    pub(super) fn maker(&self, manifest: &Key) -> Option<(Arc<Life>, Duration)> {
        self.state().makers.get(manifest.as_str()).cloned()
    }

    /// What every listing of `prefix` told from a moment on.
    pub(super) fn told_by(&self, prefix: &str, moment: Duration) -> Vec<Bytes> {
        let state = self.state();
        let told = state.below(prefix).filter(|(_, object)| object.told.is_some_and(|told| told <= moment));
        told.map(|(_, object)| object.body.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, world: &World) -> MutexGuard<'_, State> {
        let now = world.time.now();
        let mut state = self.state();
        let (landed, late) = std::mem::take(&mut state.late).into_iter().partition(|(at, ..)| *at <= now);
        state.late = late;
        for (_, key, body) in landed {
            state.make(world, &key, body, false);
        }
        state
    }

    /// The machine under the store loses power: what was not flushed is lost, or cut short.
    pub(super) fn lose_power(&self, world: &World) {
        let now = world.time.now();
        let mut state = self.state();
        state.late.clear();
        let fresh = |object: &Object| object.soon && now.saturating_sub(object.made) < UNFLUSHED;
        let keys = state.objects.iter().filter(|(_, object)| fresh(object)).map(|(key, _)| key.clone());
        for key in keys.collect::<Vec<_>>() {
            match world.draw(|dice| dice.random_range(0..3)) {
                0 => _ = state.objects.remove(&key),
                1 => {
                    if let Some(object) = state.objects.get_mut(&key) {
                        object.body.truncate(object.body.len() / 2);
                        object.cut = true;
                    }
                }
                _ => {}
            }
        }
    }
}

impl State {
    fn make(&mut self, world: &World, key: &Key, body: Bytes, soon: bool) -> Put {
        if let Some(there) = self.objects.get(key.as_str()) {
            // Two coordinators' manifests may differ in what the run took: one is kept, the other adopts it.
            if there.body != body && !there.cut && !key.as_str().ends_with(MANIFEST) {
                world.violated(format_args!("{key} was written twice, with other bytes"));
            }
            return Put::Existed;
        }
        let outcome = key.as_str().rsplit_once('/').and_then(|(_, name)| name.parse::<OutcomeId>().ok());
        if let Some(outcome) = outcome {
            world.stored(outcome);
        }
        let object = Object { body, made: world.time.now(), told: None, soon, cut: false };
        self.objects.insert(key.to_string(), object);
        Put::Created
    }

    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Object)> {
        let from = self.objects.range(prefix.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(prefix))
    }
}

/// See [`Bucket::of`].
#[derive(Clone, Debug)]
pub(super) struct SimStore {
    bucket: Arc<Bucket>,
    life: Arc<Life>,
}

impl SimStore {
    /// A request that is on its way to the store; an error when it does not get there.
    async fn ask(&self, verb: &'static str, of: &str) -> Result<()> {
        self.life.step().await;
        if !self.life.reaches(Service::Store) || self.life.world.strikes(Trouble::StoreRefuses) {
            self.life.note(format_args!("{verb} {of}: refused"));
            return Err(refused(verb, of, "store.slow-down"));
        }
        Ok(())
    }

    async fn put(&self, key: &Key, body: Bytes, soon: bool) -> Result<Put> {
        let world = &self.life.world;
        let mut flight = Flight { store: self, key, body: Some(body) };
        self.ask("put", key.as_str()).await.inspect_err(|_| flight.body = None)?;
        if world.strikes(Trouble::StoreConflicts) {
            self.life.note(format_args!("put {key}: 409"));
            flight.body = None;
            return Err(refused("put", key.as_str(), "store.conflict"));
        }
        let body = flight.body.take().unwrap_or_default();
        let put = self.make(key, body, soon);
        self.life.note(format_args!("put {key}: {put:?}"));
        self.life.step().await;
        if !self.life.reaches(Service::Store) || world.strikes(Trouble::StoreAnswerLost) {
            self.life.note(format_args!("put {key}: the answer is lost"));
            return Err(refused("put", key.as_str(), "store.unreachable"));
        }
        if let Some(object) = self.bucket.state().objects.get_mut(key.as_str()) {
            object.told.get_or_insert(world.time.now());
        }
        Ok(put)
    }

    fn make(&self, key: &Key, body: Bytes, soon: bool) -> Put {
        let world = &self.life.world;
        let mut bucket = self.bucket.settle(world);
        let put = bucket.make(world, key, body, soon);
        if put == Put::Created && key.as_str().ends_with(MANIFEST) {
            bucket.makers.insert(key.to_string(), (Arc::clone(&self.life), world.time.now()));
        }
        put
    }

    /// What a listing that begins now tells, in any order.
    fn listed(&self, prefix: &str) -> Vec<Listed> {
        let world = &self.life.world;
        let now = world.time.now();
        let state = self.bucket.settle(world);
        let mut listed = Vec::new();
        for (key, object) in state.below(prefix) {
            let sure = object.told.is_some() || now.saturating_sub(object.made) >= UNLISTED;
            if !sure && world.draw(|dice| dice.random_bool(0.5)) {
                world.count(Trouble::StoreListStale);
                continue;
            }
            listed.extend(Key::parse(key).map(|key| Listed { key, size: object.body.len() as u64 }));
        }
        drop(state);
        world.draw(|dice| listed.shuffle(dice));
        self.life.note(format_args!("list {prefix}: {}", listed.len()));
        listed
    }
}

/// A write under way. When its writer ends, it is torn, which leaves nothing, or lands all the same.
struct Flight<'a> {
    store: &'a SimStore,
    key: &'a Key,
    body: Option<Bytes>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        let world = &self.store.life.world;
        if world.strikes(Trouble::StorePutLate) {
            let lands =
                world.time.now() + world.draw(|dice| Duration::from_millis(dice.random_range(0..60_000)));
            self.store.bucket.state().late.push((lands, self.key.clone(), body));
        } else {
            world.count(Trouble::StorePutTorn);
        }
    }
}

fn refused(verb: &str, of: &str, code: &'static str) -> Fault {
    Fault::new(Class::Unavailable, code, format!("{verb} {of}"), "the simulated store does not answer")
}

#[async_trait]
impl Store for SimStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        self.put(key, body, false).await
    }

    async fn put_new_soon(&self, key: &Key, body: Bytes) -> Result<Put> {
        self.put(key, body, true).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.ask("get", key.as_str()).await?;
        let body = {
            let state = self.bucket.settle(&self.life.world);
            state.objects.get(key.as_str()).map(|object| object.body.clone())
        };
        self.life.note(format_args!("get {key}: {:?}", body.as_ref().map(Bytes::len)));
        self.life.step().await;
        Ok(body)
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        let Some(body) = self.get(key).await? else { return Ok(None) };
        let (from, to) = (offset as usize, (offset + length) as usize);
        if to > body.len() {
            let detail = "the object ends before";
            return Err(Fault::new(Class::Integrity, "store.short", format!("read {key}"), detail));
        }
        Ok(Some(body.slice(from..to)))
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let listing = async move {
            if let Err(fault) = store.ask("list", &prefix).await {
                return vec![Err(fault)];
            }
            let mut listed: Vec<_> = store.listed(&prefix).into_iter().map(Ok).collect();
            if store.life.world.strikes(Trouble::StoreListBreaks) {
                listed.truncate(listed.len() / 2);
                listed.push(Err(refused("list", &prefix, "store.unreachable")));
            }
            store.life.step().await;
            listed
        };
        futures::stream::once(listing).flat_map(futures::stream::iter).boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.ask("list folders of", prefix).await?;
        let listed = self.listed(prefix);
        let below =
            listed.iter().filter_map(|listed| listed.key.as_str().strip_prefix(prefix)?.split_once('/'));
        let folders: std::collections::BTreeSet<_> = below.map(|(folder, _)| folder.to_owned()).collect();
        self.life.step().await;
        Ok(folders.into_iter().collect())
    }

    fn properties(&self) -> Properties {
        Properties { conditional_create: true }
    }

    fn location(&self) -> String {
        "sim".into()
    }
}
