//! What is backed up: a tree of folders with files, a flat kind that is cut into buckets, a session that its tables lean on,
//! a second stage, and a kind left out by a rule. All follows from a seed; some of it is troublesome by nature, and
//! ends as the same gap in every run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{EnvName, Hash, Kind};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::outcome::Standing;
use lakehold_proto::plan::{Probe, Selection};
use lakehold_proto::task::{Assignment, Shard, TaskSpec};
use lakehold_worker::capture::{Body, Capture, Draft};
use lakehold_worker::serve::Sources;
use lakehold_worker::source::{SharedSource, Source, SourcePlan};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::world::Life;
use crate::synthetic::{CARRIED, FILE, FLAT, FOLDER, fetch_flat, list_flat, spec};

pub(super) const SESSION: Kind = Kind::of("session");
pub(super) const TABLE: Kind = Kind::of("table");
pub(super) const OWNER: Kind = Kind::of("owner");
pub(super) const SECRET: Kind = Kind::of("secret");

/// All of them.
pub(super) fn kinds() -> Vec<Kind> {
    vec![FOLDER, FILE, FLAT, CARRIED, SESSION, TABLE, OWNER, SECRET]
}

const ROOT: &str = "/root";

/// How long a session waits for its tables: longer than it takes to notice that the queue forgot one.
const SESSION_LIMIT: Duration = Duration::from_secs(40 * 60);

/// What is peculiar to a folder's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Plain,
    /// Fails this often before it succeeds.
    Flaky(u32),
    /// Its files cannot be read the first time, and can from then on.
    Wavering,
    /// Cannot be listed.
    Dark,
    /// Is refused for good.
    Refused,
    /// Panics.
    Poison,
    /// Takes longer than a lock lives without renewal.
    Slow,
    /// Ends the process of every worker that takes it.
    Killer,
    /// Never ends before the deadline.
    Endless,
}

#[derive(Debug)]
struct Folder {
    nature: Nature,
    files: Vec<File>,
    children: Vec<String>,
}

#[derive(Debug)]
struct File {
    path: String,
    body: String,
    torn: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Population {
    folders: BTreeMap<String, Folder>,
    flat: Vec<String>,
    tables: usize,
    owner: bool,
    past: Mutex<Past>,
}

/// What happened to a population in one run.
#[derive(Debug, Default)]
struct Past {
    /// How often flaky folders failed.
    failed: HashMap<String, u32>,
    /// Folders that somebody began to list, and how often.
    begun: BTreeMap<String, u32>,
    /// Folders that somebody listed to the end.
    listed: BTreeSet<String>,
    passed_over: BTreeMap<u64, BTreeSet<String>>,
    /// Sessions that are open, and how many were.
    sessions: BTreeSet<u64>,
    opened: u64,
}

impl Population {
    /// The population of `seed` as it is in the given generation: some files change, come and go from one to the next.
    pub(super) fn new(seed: u64, generation: u32) -> Arc<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        // Most are small, and all sorts of them are many.
        let budget =
            if dice.random_bool(0.1) { dice.random_range(60..180) } else { dice.random_range(5..50) };
        let mut folders = BTreeMap::new();
        let mut open = vec![ROOT.to_owned()];
        let wavering = dice.random_bool(0.25);
        let special = match dice.random_range(0..100) {
            0..3 => Some(Nature::Killer),
            3..5 => Some(Nature::Endless),
            _ => None,
        };
        while let Some(path) = open.pop() {
            let nature = match dice.random_range(0..200) {
                _ if path == ROOT => Nature::Plain,
                0..8 => Nature::Flaky(dice.random_range(1..3)),
                8..12 => Nature::Dark,
                12..14 => Nature::Refused,
                14..16 => Nature::Poison,
                16..19 => Nature::Slow,
                19..50 if wavering => Nature::Wavering,
                _ => Nature::Plain,
            };
            let files = (0..dice.random_range(0..4)).filter_map(|n| file(&path, n, generation, &mut dice));
            let files = files.collect();
            let most = if folders.len() + open.len() < budget { 5 } else { 1 };
            let children: Vec<_> = (0..dice.random_range(0..most)).map(|n| format!("{path}/f{n}")).collect();
            open.extend(children.iter().cloned());
            folders.insert(path, Folder { nature, files, children });
        }
        if let (Some(special), Some(folder)) = (special, folders.values_mut().skip(1).last()) {
            folder.nature = special;
        }
        let flat = (0..dice.random_range(0..12)).map(|n| format!("flat-{n}")).collect();
        let tables = if dice.random_bool(0.3) { dice.random_range(1..6) } else { 0 };
        Arc::new(Self { folders, flat, tables, owner: dice.random_bool(0.5), past: Mutex::default() })
    }

    /// Where a run of it begins.
    pub(super) fn plan(&self) -> SourcePlan {
        let mut roots = vec![
            spec(FOLDER, Shard::under(ROOT), &[FOLDER, FILE]),
            spec(FLAT, Shard::whole(), &[FLAT, CARRIED]),
        ];
        if self.tables > 0 {
            roots.push(TaskSpec { long: true, ..spec(SESSION, Shard::whole(), &[SESSION, TABLE]) });
        }
        if self.owner {
            roots.push(TaskSpec { stage: 1, ..spec(OWNER, Shard::whole(), &[OWNER]) });
        }
        let excluded = BTreeMap::from([(SECRET, "secrets are left out".to_owned())]);
        SourcePlan { roots, excluded, ..SourcePlan::default() }
    }

    /// Forgets what happened to it: for the next run.
    pub(super) fn rested(&self) {
        *self.past() = Past::default();
    }

    /// Whether it takes hours to find out that some of it cannot be had.
    pub(super) fn is_wearing(&self) -> bool {
        self.folders.values().any(|folder| matches!(folder.nature, Nature::Killer | Nature::Endless))
    }

    /// Whether the folder's files are gaps in one attempt and not in another.
    pub(super) fn wavers(&self, folder: &str) -> bool {
        self.folders.get(folder).is_some_and(|folder| folder.nature == Nature::Wavering)
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down what the second stage did not wait for: folders that were found, and that nobody began to list. By what its
    /// coordinator says that it waited for.
    fn second_stage(&self, waited_for: u64) {
        let past = &mut *self.past();
        let found = past.listed.iter().filter_map(|path| self.folders.get(path)).flat_map(|f| &f.children);
        let passed_over = past.passed_over.entry(waited_for).or_default();
        passed_over.extend(found.filter(|child| !past.begun.contains_key(*child)).cloned());
    }

    fn is_open(&self, session: &str) -> bool {
        session.parse().is_ok_and(|session| self.past().sessions.contains(&session))
    }

    /// What the second stage did not wait for whose coordinator waited for these.
    pub(super) fn passed_over(&self, waited_for: u64) -> BTreeSet<String> {
        self.past().passed_over.get(&waited_for).cloned().unwrap_or_default()
    }
}

fn file(folder: &str, n: u32, generation: u32, dice: &mut StdRng) -> Option<File> {
    let path = format!("{folder}/file{n}");
    let (fate, torn) = (dice.random_range(0..10), dice.random_bool(0.02));
    let version = match fate {
        // Comes, goes, changes.
        0 if generation == 0 => return None,
        1 if generation > 0 => return None,
        2 | 3 => generation,
        _ => 0,
    };
    let body = format!("content {version} of {path}\n").repeat(dice.random_range(1..4));
    Some(File { path, body, torn })
}

/// An environment as a worker process sees it.
#[derive(Debug)]
struct SimSource {
    population: Arc<Population>,
    life: Arc<Life>,
}

impl SimSource {
    async fn pause(&self, most: Duration) {
        self.life.world.dawdle(most).await;
    }

    async fn folder(&self, path: &str, capture: &mut Capture) -> Result<()> {
        let gone = || Fault::new(Class::Bug, "sim.no-folder", "list a folder", "nobody has seen it");
        let folder = self.population.folders.get(path).ok_or_else(gone)?;
        let times = {
            let mut past = self.population.past();
            let times = past.begun.entry(path.to_owned()).or_default();
            *times += 1;
            *times
        };
        self.endure(folder.nature, path, capture).await?;
        if folder.nature == Nature::Dark {
            return Ok(());
        }
        let body = Body::Bytes(path.to_owned().into());
        capture.add(&FOLDER, Draft::new(path, path).part(Role::Object, body)).await?;
        for child in &folder.children {
            capture.child(spec(FOLDER, Shard::under(child), &[FOLDER, FILE]));
        }
        capture.load_base(&FILE).await?;
        for file in &folder.files {
            self.pause(Duration::from_secs(1)).await;
            let wavers = folder.nature == Nature::Wavering && times == 1;
            self.file(path, file, wavers, capture).await?;
        }
        capture.leave_out(&FILE, "hidden");
        self.population.past().listed.insert(path.to_owned());
        Ok(())
    }

    async fn endure(&self, nature: Nature, path: &str, capture: &mut Capture) -> Result<()> {
        match nature {
            Nature::Plain | Nature::Wavering => {}
            Nature::Flaky(times) => {
                let mut past = self.population.past();
                let failed = past.failed.entry(path.to_owned()).or_default();
                if *failed < times {
                    *failed += 1;
                    return Err(Fault::new(
                        Class::Unavailable,
                        "sim.flaky",
                        format!("list {path}"),
                        "not now",
                    ));
                }
            }
            Nature::Dark => {
                let fault = Fault::new(Class::Denied, "sim.dark", format!("list {path}"), "not allowed");
                let (kinds, shard) = (vec![FOLDER, FILE], Shard::under(path));
                capture.unlisted(kinds, shard, Standing::Forbidden, &fault, Some("CAN_READ".into()));
            }
            Nature::Refused => {
                return Err(Fault::new(Class::Denied, "sim.refused", format!("list {path}"), "never"));
            }
            // Not by the hook that prints: it is meant.
            Nature::Poison => std::panic::resume_unwind(Box::new("poison")),
            Nature::Slow => self.pause(Duration::from_secs(60)).await,
            Nature::Killer => self.life.die().await,
            Nature::Endless => self.life.world.time.sleep(Duration::from_secs(20 * 60)).await,
        }
        Ok(())
    }

    async fn file(&self, folder: &str, file: &File, wavers: bool, capture: &mut Capture) -> Result<()> {
        let File { path, body, torn } = file;
        let stamp = Hash::of(body).to_string();
        let draft = Draft::new(path, path).parent(folder);
        if *torn {
            let fault = Fault::new(Class::Denied, "sim.torn", format!("read {path}"), "not allowed");
            return capture.add(&FILE, draft.gap(Role::Content, fault)).await;
        }
        if wavers {
            let fault = Fault::new(Class::Unavailable, "sim.wavering", format!("read {path}"), "not now");
            return capture.add(&FILE, draft.gap(Role::Content, fault)).await;
        }
        let known = capture.known(&FILE, path).and_then(|entry| entry.version.as_ref());
        let content = if known == Some(&stamp) { Body::Base } else { Body::Bytes(body.clone().into()) };
        capture.add(&FILE, draft.version(stamp).part(Role::Content, content)).await
    }

    /// Holds a session open while its tables are read. Their stamps tell which it was: tables of two sessions must never
    /// meet in one snapshot.
    async fn session(&self, capture: &mut Capture) -> Result<()> {
        let session = Session::open(&self.population);
        self.pause(Duration::from_secs(30)).await;
        capture.add(&SESSION, Draft::new("session", "session").version(session.id.to_string())).await?;
        let mut listing = capture.listing(1);
        listing.push(0, session.id.to_string().as_bytes()).await?;
        let input = listing.finish(1).await?.concat();
        for n in 0..self.population.tables {
            let shard = Shard::under(format!("table{n}"));
            capture.child(TaskSpec { input: input.clone(), ..spec(TABLE, shard, &[TABLE]) });
            if n % 3 == 1 {
                capture.hand_out().await?;
                self.pause(Duration::from_secs(5)).await;
            }
        }
        capture.hand_out().await?;
        capture.until_ended(SESSION_LIMIT).await
    }

    async fn table(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let name = &assignment.task.shard.scope;
        let session = capture.input(0).await?.unwrap_or_default().concat();
        let session = String::from_utf8_lossy(&session).into_owned();
        self.pause(Duration::from_secs(10)).await;
        if !self.population.is_open(&session) {
            let detail = format!("session {session} is closed");
            return Err(Fault::new(Class::Unavailable, "sim.session", format!("read {name}"), detail));
        }
        let body = Body::Bytes(format!("rows of {name}").into());
        capture.add(&TABLE, Draft::new(name, name).version(session).part(Role::Data, body)).await
    }
}

/// A session of the long task. It ends with whoever holds it.
#[derive(Debug)]
struct Session {
    population: Arc<Population>,
    id: u64,
}

impl Session {
    fn open(population: &Arc<Population>) -> Self {
        let id = {
            let mut past = population.past();
            past.opened += 1;
            let id = past.opened;
            past.sessions.insert(id);
            id
        };
        Self { population: Arc::clone(population), id }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.population.past().sessions.remove(&self.id);
    }
}

impl SimSource {
    /// A task of the second stage.
    async fn owner(&self, capture: &mut Capture) -> Result<()> {
        self.population.second_stage(capture.assignment().waited_for);
        capture.add(&OWNER, Draft::new("owner", "owner")).await
    }
}

#[async_trait]
impl Source for SimSource {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn kinds(&self) -> Vec<Kind> {
        kinds()
    }

    async fn probe(&self) -> Result<Probe> {
        Ok(Probe::default())
    }

    fn plan(&self, _: &Selection, _: &Probe, _: Option<&Manifest>) -> Result<SourcePlan> {
        Ok(self.population.plan())
    }

    async fn work(&self, assignment: &Assignment, capture: &mut Capture) -> Result<()> {
        let shard = &assignment.task.shard;
        self.life
            .note(format_args!("work on {} {shard}, attempt {}", assignment.task.kind, assignment.attempt));
        self.pause(Duration::from_secs(2)).await;
        match assignment.task.kind.as_str() {
            "folder" => self.folder(&shard.scope, capture).await,
            "flat" if shard.bucket.is_none() => list_flat(&self.population.flat, capture).await,
            "flat" => fetch_flat(capture).await,
            "session" => self.session(capture).await,
            "table" => self.table(assignment, capture).await,
            _ => self.owner(capture).await,
        }
    }
}

/// The environments as a worker process sees them.
#[derive(Debug)]
pub(super) struct SimSources {
    pub(super) populations: BTreeMap<EnvName, Arc<Population>>,
    pub(super) life: Arc<Life>,
}

#[async_trait]
impl Sources for SimSources {
    async fn source(&self, environment: &EnvName) -> Result<SharedSource> {
        let unknown =
            || Fault::new(Class::Config, "sim.no-environment", "find an environment", "there is none");
        let population = Arc::clone(self.populations.get(environment).ok_or_else(unknown)?);
        Ok(Arc::new(SimSource { population, life: Arc::clone(&self.life) }))
    }
}
