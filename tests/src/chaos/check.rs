//! What must be true after every seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lakehold::embedded::Embedded;
use lakehold::engine::drive::EnvEnd;
use lakehold::engine::ledger::Ledger;
use lakehold::engine::state::Starts;
use lakehold::engine::view::RunView;
use lakehold::snapshot;
use lakehold::verify::{Request, Verify};
use lakehold_proto::clock::{SystemClock, Tick};
use lakehold_proto::fault::Class;
use lakehold_proto::format::Entry;
use lakehold_proto::ids::{EnvName, Kind, RunId};
use lakehold_proto::manifest::{Manifest, SnapshotState};
use lakehold_proto::outcome::{Outcome, Standing, Unlisted, Verdict};
use lakehold_proto::plan::{EnvPlan, Plan};
use lakehold_proto::store::{Key, SharedStore, Store as _};

use tokio::sync::watch;

use super::fleet::Ends;
use super::population::{Population, SECRET, SESSION, TABLE};
use super::store::Bucket;
use super::world::World;
use super::{Scene, Undisturbed};
use crate::synthetic::{FILE, FOLDER};

/// A commit takes less: what was listed so long before the manifest was made was known to its maker.
const COMMIT: Duration = Duration::from_secs(20);

/// Opens the run, as a coordinator that planned it does.
pub(super) async fn write_plan(world: &Arc<World>, bucket: &Arc<Bucket>, plan: &Plan) {
    let body = serde_json::to_vec(plan).expect("a plan can be written");
    let store = bucket.of(&world.bear("planner", None));
    // The simulated store may refuse.
    while store.put_new(&Key::plan(plan.run), body.clone().into()).await.is_err() {}
}

/// Checks a run that ended. Returns whether its snapshots are those of the undisturbed run, or what was broken.
pub(super) fn check(
    scene: &Scene,
    undisturbed: &Undisturbed,
    bucket: &Arc<Bucket>,
    ends: &[Ends],
) -> Result<bool, Vec<String>> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime needs nothing");
    let mut broken = Broken(Vec::new());
    let mut whole = true;
    for plan in &scene.plan.environments {
        let population = &scene.populations[&plan.environment];
        let asked =
            Asked { plan, population, bucket, store: reader(bucket), before: reader(&undisturbed.bucket) };
        let expected = &undisturbed.manifests[&plan.environment];
        whole &= runtime.block_on(asked.check(scene, expected, ends, &mut broken));
    }
    if broken.0.is_empty() { Ok(whole) } else { Err(broken.0) }
}

fn reader(bucket: &Arc<Bucket>) -> SharedStore {
    bucket.copy().of(&World::calm().bear("reader", None))
}

struct Broken(Vec<String>);

impl Broken {
    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}

/// One environment of a run that ended.
struct Asked<'a> {
    plan: &'a EnvPlan,
    population: &'a Population,
    bucket: &'a Bucket,
    store: SharedStore,
    before: SharedStore,
}

/// All that a snapshot has.
#[derive(Default)]
struct Held {
    entries: BTreeMap<(Kind, String), Entry>,
    unlisted: Vec<Unlisted>,
    /// Indexes that are named twice.
    doubled: usize,
}

impl Held {
    async fn read(store: &SharedStore, manifest: &Manifest) -> Self {
        let (mut held, mut met) = (Self::default(), BTreeSet::new());
        for page in &manifest.pages {
            let page = snapshot::page(&**store, page).await.expect("verified before");
            held.unlisted.extend(page.unlisted.into_iter().map(|(_, slice)| slice));
            for index in page.indexes {
                held.doubled += usize::from(!met.insert(format!("{index:?}")));
                let entries = snapshot::index(&**store, &index).await.expect("verified before").entries;
                held.entries.extend(entries.into_iter().map(|e| ((index.kind.clone(), e.key.clone()), e)));
            }
        }
        held
    }

    /// Whether an item may lie in a slice that could not be listed for a reason that a disturbance explains.
    fn lacks(&self, kind: &Kind, name: &str) -> bool {
        self.unlisted.iter().any(|slice| {
            slice.kinds.contains(kind)
                && slice.fault.class == Class::Unavailable
                && (slice.shard.scope.is_empty() || name.starts_with(&slice.shard.scope))
        })
    }
}

impl Asked<'_> {
    async fn check(&self, scene: &Scene, expected: &Manifest, ends: &[Ends], broken: &mut Broken) -> bool {
        let environment = &self.plan.environment;
        let told: Vec<_> = ends.iter().map(|ends| &ends[environment]).collect();
        let Some(manifest) = self.manifest(environment, broken).await else {
            // A run in which not even the first task could be carried out commits nothing, and says why.
            let excused = |end: &&EnvEnd| {
                let EnvEnd::Nothing(fault) = end else { return false };
                fault.class == Class::Unavailable && !self.is_without_cause(fault.code)
            };
            broken.unless(told.iter().all(excused), || format!("{environment}: no manifest, but {told:?}"));
            return false;
        };
        for told in told {
            let adopted = matches!(told, EnvEnd::Committed(told) if **told == manifest)
                || matches!(told, EnvEnd::Nothing(fault) if fault.class == Class::Unavailable);
            broken.unless(adopted, || format!("{environment}: a coordinator tells of another end: {told:?}"));
        }
        let sound = self.is_sound(environment, broken).await;
        if !sound {
            return false;
        }
        let (held, all) =
            (Held::read(&self.store, &manifest).await, Held::read(&self.before, expected).await);
        // The attempts at a session, and at what waits for it, end with whoever holds it.
        let of_session = |slice: &Unlisted| slice.kinds.iter().any(|kind| [SESSION, TABLE].contains(kind));
        let mut others = held.unlisted.iter().filter(|slice| !of_session(slice));
        let without_cause = others.find(|slice| self.is_without_cause(&slice.fault.code));
        broken.unless(without_cause.is_none(), || format!("{environment}: given up for want of workers"));
        self.check_accounts(&manifest, &held, broken);
        Self::check_sessions(&held, broken);
        broken
            .unless(held.doubled == 0, || format!("{environment}: {} indexes are named twice", held.doubled));
        self.check_choice(scene, &held, broken).await;
        self.check_best(scene.plan.run, &held, broken);
        if manifest.content_root == expected.content_root {
            broken.unless(manifest.run.tasks == expected.run.tasks, || {
                format!(
                    "{environment}: {} tasks settled, {} expected",
                    manifest.run.tasks, expected.run.tasks
                )
            });
            broken.unless(manifest.state == expected.state, || format!("{environment}: another state"));
            let left_out =
                |manifest: &Manifest| manifest.kinds.iter().map(|k| k.left_out.clone()).collect::<Vec<_>>();
            broken.unless(left_out(&manifest) == left_out(expected), || {
                format!(
                    "{environment}: left out {:?}, expected {:?}",
                    left_out(&manifest),
                    left_out(expected)
                )
            });
            return true;
        }
        let whole = held.entries.keys().eq(all.entries.keys())
            && held.entries.keys().any(|(kind, key)| *kind == FILE && self.wavers(key));
        broken.unless(whole || manifest.state == SnapshotState::Partial, || {
            format!("{environment}: another content root, and no gap that says why")
        });
        self.check_same(&held, &all, broken);
        whole
    }

    /// The one manifest of the run.
    async fn manifest(&self, environment: &EnvName, broken: &mut Broken) -> Option<Manifest> {
        let listed = snapshot::list(&*self.store, environment).await.expect("a calm store answers");
        let earlier = usize::from(self.plan.base.is_some());
        broken.unless(listed.len() <= earlier + 1, || format!("{environment}: {listed:?}"));
        let mine = listed.iter().find(|listed| listed.snapshot == self.plan.snapshot)?;
        let read = snapshot::read_manifest(&*self.store, environment, &mine.time, mine.snapshot).await;
        read.map(|(manifest, _)| manifest).map_err(|fault| broken.0.push(fault.to_string())).ok()
    }

    /// All that is referred to is there and has its hash.
    async fn is_sound(&self, environment: &EnvName, broken: &mut Broken) -> bool {
        let listed = snapshot::list(&*self.store, environment).await.expect("a calm store answers");
        let snapshots = listed.into_iter().map(|listed| (environment.clone(), listed)).collect();
        let request = Request { snapshots, percent: 100.0, ..Request::default() };
        let engine = Embedded::reading(Arc::clone(&self.store), SystemClock::shared());
        let verify = Verify { backup: &engine.backup };
        let verified = async {
            let (_going, stop) = watch::channel(false);
            verify.carry_out(verify.prepare(&request).await?, &RunView::default(), stop).await
        };
        match verified.await {
            Ok(verified) => {
                broken.unless(verified.sound, || format!("{environment}: {:?}", verified.damage));
                verified.sound
            }
            Err(fault) => {
                broken.0.push(format!("{environment}: cannot be verified: {fault}"));
                false
            }
        }
    }

    /// Every kind is accounted for, and its counts are what is there.
    fn check_accounts(&self, manifest: &Manifest, held: &Held, broken: &mut Broken) {
        for report in &manifest.kinds {
            let (kind, counts) = (&report.kind, report.counts);
            let entries = || held.entries.iter().filter(|((of, _), _)| of == kind).map(|(_, entry)| entry);
            let gaps = entries().filter(|entry| !entry.gaps.is_empty()).count() as u64;
            broken.unless((counts.items, counts.gaps) == (entries().count() as u64, gaps), || {
                format!("{kind}: {counts:?}, but {} entries, {gaps} of them gaps", entries().count())
            });
            let slices = held.unlisted.iter().filter(|slice| slice.kinds.contains(kind));
            let slices = slices.filter(|slice| slice.standing.is_gap()).count() as u64;
            broken.unless(counts.unlisted == slices, || format!("{kind}: {counts:?}, but {slices} slices"));
            let excluded = report.standing == Standing::Excluded && report.rule.is_some();
            broken.unless(excluded == (*kind == SECRET), || format!("{kind} is {:?}", report.standing));
        }
        let (mut kinds, mut known): (Vec<_>, Vec<_>) =
            (manifest.kinds.iter().map(|report| &report.kind).collect(), super::population::kinds());
        kinds.sort_unstable();
        known.sort_unstable();
        broken.unless(kinds.into_iter().eq(&known), || "a kind is not accounted for".into());
        let gaps = manifest.kinds.iter().any(|report| report.counts.gaps + report.counts.unlisted > 0);
        let partial = manifest.state == SnapshotState::Partial;
        broken.unless(gaps == partial, || format!("the snapshot calls itself {:?}", manifest.state));
    }

    /// Whoever folds the store chooses for each task the best outcome there is.
    async fn check_choice(&self, scene: &Scene, held: &Held, broken: &mut Broken) {
        let environment = &self.plan.environment;
        let folded = Ledger::recover(
            &self.store,
            &scene.plan,
            self.plan,
            &Starts::new(),
            scene.sizes,
            Tick::default(),
        )
        .await;
        let (run, ledger) = match folded {
            Ok(folded) => folded,
            Err(fault) => return broken.0.push(format!("{environment}: cannot be folded: {fault}")),
        };
        let (mut all, mut best) = (BTreeMap::new(), BTreeMap::new());
        let take = |outcome: Outcome| {
            if outcome.settles() {
                let precedence = outcome.precedence();
                all.insert(outcome.id(), (precedence, outcome.waited_for));
                let least = best.entry((outcome.task.id(), outcome.waited_for)).or_insert(precedence);
                *least = precedence.min(*least);
            }
            Ok(())
        };
        if let Err(fault) = ledger.each(take).await {
            broken.0.push(format!("{environment}: cannot be gone through: {fault}"));
        }
        for chosen in run.chosen() {
            let Some(&(precedence, waited_for)) = all.get(&chosen) else {
                broken.0.push(format!("{environment}: {chosen} counts, and is nowhere"));
                continue;
            };
            broken.unless(best.get(&(chosen.task, waited_for)) == Some(&precedence), || {
                format!("{environment}: {chosen} counts, though there is a better one")
            });
            for folder in self.population.passed_over(waited_for) {
                broken.unless(held.lacks(&FOLDER, &folder), || {
                    format!("{environment}: the second stage did not wait for {folder}")
                });
            }
        }
    }

    /// Tables are of the one session that counts.
    fn check_sessions(held: &Held, broken: &mut Broken) {
        let of_session = held.entries.iter().filter(|((kind, _), _)| *kind == TABLE || *kind == SESSION);
        let sessions: BTreeSet<_> = of_session.map(|(_, entry)| &entry.version).collect();
        broken.unless(sessions.len() <= 1, || format!("tables of several sessions: {sessions:?}"));
    }

    /// Only what ends every worker is given up without a word from any of them; not what waits for workers.
    fn is_without_cause(&self, code: &str) -> bool {
        code == "task.poison" && !self.population.is_wearing()
    }

    fn wavers(&self, file: &str) -> bool {
        file.rsplit_once('/').is_some_and(|(folder, _)| self.population.wavers(folder))
    }

    /// Of an attempt that read everything and one that did not, the better counts, if a listing told of it before the commit.
    fn check_best(&self, run: RunId, held: &Held, broken: &mut Broken) {
        let environment = &self.plan.environment;
        let key = Key::manifest(environment, &self.plan.time, self.plan.snapshot);
        let Some((maker, made)) = self.bucket.maker(&key) else { return };
        for batch in maker.sent() {
            let told = self.bucket.told_by(&Key::batch(run, environment, batch), made.saturating_sub(COMMIT));
            let outcomes = told.iter().filter_map(|body| serde_json::from_slice::<Outcome>(body).ok());
            for outcome in outcomes.filter(|outcome| outcome.verdict == Verdict::Complete) {
                let folder = &outcome.task.shard.scope;
                let gap = |entry: &&Entry| {
                    entry.parent.as_ref() == Some(folder)
                        && entry.gaps.iter().any(|gap| gap.fault.class == Class::Unavailable)
                };
                let found = held.entries.values().find(gap);
                broken.unless(found.is_none(), || format!("{environment}: {folder} was read, and has gaps"));
            }
        }
    }

    /// What differs from the undisturbed run is excused, and everything else is the same.
    fn check_same(&self, held: &Held, all: &Held, broken: &mut Broken) {
        let environment = &self.plan.environment;
        for ((kind, key), entry) in &held.entries {
            let same = |other: &Entry| {
                let gaps =
                    |entry: &Entry| entry.gaps.iter().map(|g| (g.role, g.fault.class)).collect::<Vec<_>>();
                let same = (other.content, gaps(other)) == (entry.content, gaps(entry));
                same || (*kind == FILE && self.wavers(key))
            };
            let known = all.entries.get(&(kind.clone(), key.clone()));
            broken.unless(known.is_some_and(same), || {
                let what = |entry: &Entry| format!("{:?} with gaps {:?}", entry.content, entry.gaps);
                let (is, was) = (what(entry), known.map(what));
                format!("{environment}: {kind} {key} is {is}, and undisturbed {was:?}")
            });
        }
        for ((kind, key), entry) in &all.entries {
            let there = held.entries.contains_key(&(kind.clone(), key.clone()));
            broken.unless(there || held.lacks(kind, &entry.name), || {
                format!("{environment}: {kind} {key} is missing, and nothing says so")
            });
        }
        for slice in &held.unlisted {
            let known = |other: &&Unlisted| other.shard == slice.shard && other.kinds == slice.kinds;
            let known = all.unlisted.iter().find(known);
            let excused = slice.fault.class == Class::Unavailable
                || known.is_some_and(|known| known.fault.class == slice.fault.class);
            broken
                .unless(excused, || format!("{environment}: {} is missing: {:?}", slice.shard, slice.fault));
        }
    }
}
