//! The embedded engine on a real store, with a source that needs no server: idempotence, recovery, comparison.

use std::collections::BTreeSet;

use async_trait::async_trait;
use lakehold::backup::report::EndState;
use lakehold::backup::{Request, cancel, runs};
use lakehold::engine::drive::EnvEnd;
use lakehold::engine::ledger::Sizes;
use lakehold::engine::state::EnvRun;
use lakehold::engine::view::RunView;
use lakehold_proto::clock::{SharedClock, SystemClock};
use lakehold_proto::fault::Result;
use lakehold_proto::ids::{EnvName, Kind, Nonce, RunId};
use lakehold_proto::locks::MemoryLocks;
use lakehold_proto::manifest::{Manifest, SnapshotState};
use lakehold_proto::outcome::{Outcome, OutcomeId, Standing, Verdict};
use lakehold_proto::plan::{Plan, Selection};
use lakehold_proto::queue::{MemoryQueue, Message, Mischief, Queue as _, QueueName};
use lakehold_proto::store::{Key, Misbehaviour};
use lakehold_proto::task::Report;
use lakehold_tests::program::until;
use lakehold_tests::site::{Site, committed, prod, refused, request};
use lakehold_tests::synthetic::{FILE, FLAT, FOLDER, OneSource, Synthetic};
use lakehold_worker::outcome::encode_outcome;
use lakehold_worker::serve::{Sources, Worker, serve};
use lakehold_worker::source::SharedSource;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// 1 + 3 + 9 folders below `/root`, three files in each, and 25 flat items.
fn scene() -> (Arc<Synthetic>, Site) {
    let source = Synthetic::new(3, 3, 25);
    let site = Site::new(Arc::new(OneSource(Arc::clone(&source))));
    (source, site)
}

fn count(manifest: &Manifest, kind: &Kind) -> u64 {
    manifest.by_kind()[kind].counts.items
}

/// The plan of a run that nobody carries out yet.
async fn planned(site: &Site) -> Plan {
    let engine = site.engine();
    let planned = engine.backup.plan(&request()).await.unwrap().plan;
    engine.drain().await;
    let body = serde_json::to_vec(&planned).unwrap();
    site.store.put_new(&Key::plan(planned.run), body.into()).await.unwrap();
    planned
}

/// The first environment of a plan, of which nothing is known.
fn begin(planned: &Plan) -> (EnvRun, SharedClock) {
    let environment = planned.environments[0].clone();
    (EnvRun::new(planned, environment, Nonce::random(), Sizes::default().batch), SystemClock::shared())
}

fn worker(site: &Site, source: &Arc<Synthetic>, queue: &MemoryQueue, clock: SharedClock) -> Worker {
    Worker {
        queue: Arc::new(queue.clone()),
        store: Arc::clone(&site.store),
        locks: Arc::new(MemoryLocks::new(Arc::clone(&clock))),
        clock,
        sources: Arc::new(OneSource(Arc::clone(source))),
        reports: Arc::default(),
        progress: Arc::default(),
        plans: Arc::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_captures_everything_and_says_so() {
    let (source, site) = scene();
    let manifest = site.backup().await;
    assert_eq!((count(&manifest, &FOLDER), count(&manifest, &FILE), count(&manifest, &FLAT)), (13, 39, 25));
    assert_eq!((manifest.state, manifest.totals().new, manifest.gaps()), (SnapshotState::Complete, 102, 0));
    assert_eq!(source.bodies_fetched(), 39);
    assert_eq!(site.entries(&manifest).await.len(), 102);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_second_backup_stores_and_fetches_nothing_again() {
    let (source, site) = scene();
    let first = site.backup().await;
    let second = site.backup().await;
    assert_eq!(first.content_root, second.content_root);
    assert_eq!(first.pages, second.pages, "equal shards are one object");
    assert_eq!((second.run.figures.packs, source.bodies_fetched()), (0, 39));
    assert_eq!((second.totals().new, second.totals().changed, second.totals().gone), (0, 0, 0));
    assert_eq!(second.base.unwrap().snapshot, first.snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_deletions_are_seen() {
    let (source, site) = scene();
    let first = site.backup().await;
    source.changed.lock().unwrap().extend([
        ("/root/f1/file0".to_owned(), Some("other".to_owned())),
        ("/root/f2/file1".to_owned(), None),
    ]);
    let second = site.backup().await;
    let totals = second.totals();
    assert_eq!((totals.new, totals.changed, totals.gone), (0, 1, 1));
    assert_ne!(first.content_root, second.content_root);
    assert_eq!(source.bodies_fetched(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_a_gap_and_never_taken_for_deleted() {
    let (source, site) = scene();
    let first = site.backup().await;
    source.dark.lock().unwrap().insert("/root/f1".into());
    source.torn.lock().unwrap().insert("/root/file0".into());
    let second = site.backup().await;
    assert_eq!(second.state, SnapshotState::Partial);
    let files = second.by_kind()[&FILE];
    assert_eq!((files.counts.gone, files.counts.gaps, files.counts.unlisted), (0, 1, 1));
    assert_eq!(files.permission.as_deref(), Some("CAN_READ"));
    let entries = site.entries(&second).await;
    let torn = &entries[&(FILE, "/root/file0".to_owned())];
    assert_eq!(torn.gaps[0].last_good, Some(first.snapshot));
    source.dark.lock().unwrap().clear();
    source.torn.lock().unwrap().clear();
    let third = site.backup().await;
    assert_eq!(third.content_root, first.content_root, "and it is whole again when it can be read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mischievous_queue_changes_nothing() {
    let (_, site) = scene();
    let undisturbed = site.backup().await;
    for seed in 0..5 {
        let mischief = Mischief { duplicate: 0.3, reorder: 0.5, forget_acknowledgement: 0.2 };
        let (_, site) = scene();
        let site = site.queue(move || MemoryQueue::mischievous(mischief, seed));
        assert_eq!(site.backup().await.content_root, undisturbed.content_root, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_failures_are_tried_again() {
    let (source, site) = scene();
    source.flaky.lock().unwrap().extend([("/root/f1".to_owned(), 1), (String::new(), 1)]);
    let manifest = site.backup().await;
    assert_eq!((manifest.state, manifest.totals().items), (SnapshotState::Complete, 102));
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_ends_as_a_gap_and_blocks_nobody() {
    let (source, site) = scene();
    source.poison.lock().unwrap().insert("/root/f1".into());
    let manifest = site.backup().await;
    assert_eq!(manifest.state, SnapshotState::Partial);
    assert_eq!(count(&manifest, &FOLDER), 9, "all but the four folders of the poisoned branch");
    let report = manifest.by_kind()[&FOLDER];
    assert_eq!((report.standing, report.counts.unlisted), (Standing::Captured, 1));
    assert_eq!(report.fault.as_ref().unwrap().code, "worker.panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_usable_commits_nothing() {
    let (source, site) = scene();
    source.poison.lock().unwrap().extend(["/root".to_owned(), String::new()]);
    let ended = site.backup_with(site.engine(), request()).await.unwrap();
    assert!(refused(ended).to_string().contains("nothing was captured"));
    assert!(lakehold::snapshot::list(&*site.store, &prod()).await.unwrap().is_empty());
}

/// For each write of a run: the write is lost and the store is full from then on; or the write happens and its answer is
/// lost. Resumed, the run ends with the same content root as an undisturbed one, and fetches only what had not settled.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_write_fails_the_resumed_run_ends_the_same() {
    let (_, site) = scene();
    let undisturbed = site.backup().await.content_root;
    for write in (1..60).step_by(3) {
        let (source, site) = scene();
        let broken = site.backup_with(site.engine_with(vec![Misbehaviour::FullFrom(write)]), request()).await;
        if write > 1 {
            let fault = match broken {
                Err(fault) => fault,
                Ok(ended) => refused(ended),
            };
            assert!(fault.to_string().contains("no space left"), "write {write}: {fault}");
        }
        let settled = source.bodies_fetched();
        let resumed = committed(site.backup_with(site.engine(), request()).await.unwrap());
        assert_eq!(resumed.content_root, undisturbed, "write {write}");
        assert_eq!(resumed.state, SnapshotState::Complete, "write {write}");
        assert!(source.bodies_fetched() <= settled + 39);
    }
    for write in (1..60).step_by(7) {
        let (_, site) = scene();
        let faults = vec![Misbehaviour::LoseAnswer(write), Misbehaviour::LoseWrite(write + 3)];
        let first = site.backup_with(site.engine_with(faults), request()).await;
        let manifest = match first {
            Ok(ended) if matches!(ended.environments[&prod()], EnvEnd::Committed(_)) => committed(ended),
            _ => committed(site.backup_with(site.engine(), request()).await.unwrap()),
        };
        assert_eq!(manifest.content_root, undisturbed, "write {write}");
    }
}

/// The store cannot be reached for many calls in a row, wherever in the run: nobody has to say `--resume`.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_while_the_store_is_away() {
    let (_, site) = scene();
    let undisturbed = site.backup().await;
    let mut outages = 0;
    for call in [12, 40, 90, 150, 210] {
        let (_, site) = scene();
        let engine = site.engine_with(vec![Misbehaviour::Away(call, call + 8)]);
        match engine.backup.plan(&request()).await {
            Ok(planned) => {
                let (_go_on, stop) = watch::channel(false);
                let ended = engine.backup.carry_out(planned, &RunView::default(), stop).await.unwrap();
                assert_eq!(committed(ended).content_root, undisturbed.content_root, "away from call {call}");
                outages += 1;
            }
            // Nothing has begun yet, and a person may try again.
            Err(fault) => assert!(fault.class.may_retry(), "{fault}"),
        }
        engine.drain().await;
    }
    assert!(outages >= 3, "{outages}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_stop_is_heard_while_the_store_is_away() {
    let (_, site) = scene();
    let planned = site.engine().backup.plan(&request()).await.unwrap();
    // All but the first call, which opens the run.
    let away = site.engine_with(vec![Misbehaviour::Away(2, u64::MAX)]);
    let (stop, stopped) = watch::channel(false);
    let opened = site.dir.path().join("store").join(Key::plan(planned.plan.run).as_str());
    let stopping = async {
        until("the run to be opened", || opened.is_file()).await;
        stop.send(true).unwrap();
    };
    let view = RunView::default();
    let (ended, ()) = tokio::join!(away.backup.carry_out(planned, &view, stopped), stopping);
    assert_eq!(ended.unwrap_err().exit_code(), 130);
    away.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_ends_and_is_never_resumed() {
    let (_, site) = scene();
    let engine = site.engine();
    let planned = engine.backup.plan(&request()).await.unwrap();
    let run = planned.plan.run;
    site.store.put_new(&Key::cancel(run), "{}".into()).await.unwrap();
    let (_go_on, stop) = watch::channel(false);
    let ended = engine.backup.carry_out(planned, &RunView::default(), stop).await.unwrap();
    engine.drain().await;
    let fault = refused(ended);
    assert_eq!((fault.code, fault.exit_code()), ("run.cancelled", 130));
    let asked = Request { resume: true, ..request() };
    assert_eq!(site.backup_with(site.engine(), asked).await.unwrap_err().code, "run.nothing-to-resume");
    assert_ne!(site.backup().await.run.id, run);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cancelled_with_nobody_there_is_closed_by_the_next() {
    let (_, site) = scene();
    let engine = site.engine_with(vec![Misbehaviour::FullFrom(8)]);
    let left = engine.backup.plan(&request()).await.unwrap();
    let run = left.plan.run;
    let (_go_on, stop) = watch::channel(false);
    drop(engine.backup.carry_out(left, &RunView::default(), stop).await);
    engine.drain().await;
    cancel::ask(&*site.store, run, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    assert_ne!(site.backup().await.run.id, run);
    let (plan, report) = runs::read(&*site.store, run).await.unwrap().unwrap();
    assert_eq!(runs::row(&plan, report.as_ref()).state, EndState::Cancelled);
    let again = cancel::ask(&*site.store, run, jiff::Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(again.code, "run.ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_begins_no_task_of_a_cancelled_run() {
    let (source, site) = scene();
    let planned = planned(&site).await;
    for cancelled in [false, true] {
        if cancelled {
            site.store.put_new(&Key::cancel(planned.run), "{}".into()).await.unwrap();
        }
        let (mut run, clock) = begin(&planned);
        let queue = MemoryQueue::new();
        for assignment in run.due(&QueueName::replies(Nonce::random()), clock.tick()).unwrap() {
            queue.publish(&QueueName::tasks("default"), Message::of(&assignment).unwrap()).await.unwrap();
        }
        // Closed, it ends when all that lies in it has been taken.
        queue.close();
        let (_go_on, stop) = watch::channel(false);
        let before = source.worked.load(Ordering::Relaxed);
        serve(worker(&site, &source, &queue, clock), "default", 2, stop).await.unwrap();
        assert_eq!(source.worked.load(Ordering::Relaxed) == before, cancelled);
    }
}

/// Two workers took one attempt, which happens without locks, and one of them read less. Who comes third cannot know which
/// of their reports was lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_comes_again_tells_of_every_outcome() {
    let (source, site) = scene();
    let planned = planned(&site).await;
    let (replies, queue) = (QueueName::replies(Nonce::random()), MemoryQueue::new());
    let (mut run, clock) = begin(&planned);
    let mut assignment = run.due(&replies, clock.tick()).unwrap().remove(0);
    let nonces = [Nonce::numbered(1), Nonce::numbered(2)];
    for nonce in nonces {
        let outcome = Outcome::empty(&assignment, nonce, Verdict::Complete);
        site.store.put_new(&outcome.key(), encode_outcome(&outcome).unwrap()).await.unwrap();
    }
    assignment.again = true;
    queue.publish(&QueueName::tasks("default"), Message::of(&assignment).unwrap()).await.unwrap();
    let mut inbox = queue.consume(&replies, 2).await.unwrap();
    queue.close();
    let (_go_on, stop) = watch::channel(false);
    serve(worker(&site, &source, &queue, clock), "default", 1, stop).await.unwrap();
    let mut told = BTreeSet::new();
    while let Some(delivery) = inbox.next().await.unwrap() {
        told.extend(delivery.message().read::<Vec<Report>>().unwrap().into_iter().map(|report| report.nonce));
        delivery.acknowledge().await.unwrap();
    }
    assert_eq!(told, nonces.into());
    assert_eq!(source.worked.load(Ordering::Relaxed), 0);
}

/// A worker of another store listens on the same queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_another_store_goes_to_whoever_has_it() {
    let (source, site) = scene();
    let (elsewhere, other) = scene();
    let planned = planned(&site).await;
    let (tasks, queue) = (QueueName::tasks("default"), MemoryQueue::new());
    let (mut run, clock) = begin(&planned);
    let assignment = run.due(&QueueName::replies(Nonce::random()), clock.tick()).unwrap().remove(0);
    queue.publish(&tasks, Message::of(&assignment).unwrap()).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = |site, source, slots| {
        serve(worker(site, source, &queue, clock.clone()), "default", slots, stopped.clone())
    };
    let taken = async {
        while queue.waiting(&tasks).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        tokio::select! {
            ended = serving(&site, &source, 1) => ended.unwrap(),
            () = until("the task to be done", || source.worked.load(Ordering::Relaxed) > 0) => {}
        }
        stop.send(true).unwrap();
    };
    let (ended, ()) = tokio::join!(serving(&other, &elsewhere, 1), taken);
    ended.unwrap();
    assert_eq!(elsewhere.worked.load(Ordering::Relaxed), 0);
    assert!(!other.dir.path().join("store/runs").exists(), "nothing is written where it does not belong");
}

/// What ends each worker that takes it must not go through the whole fleet, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_came_back_too_often_is_spent() {
    let (source, site) = scene();
    let planned = planned(&site).await;
    let (tasks, replies, queue) =
        (QueueName::tasks("default"), QueueName::replies(Nonce::random()), MemoryQueue::new());
    let (mut run, clock) = begin(&planned);
    let assignment = run.due(&replies, clock.tick()).unwrap().remove(0);
    queue.publish(&tasks, Message::of(&assignment).unwrap()).await.unwrap();
    let mut ended = queue.consume(&tasks, 1).await.unwrap();
    for times in 0..5 {
        assert_eq!(ended.next().await.unwrap().unwrap().returned(), times);
    }
    queue.close();
    let (_go_on, stop) = watch::channel(false);
    serve(worker(&site, &source, &queue, clock), "default", 1, stop).await.unwrap();
    assert_eq!(source.worked.load(Ordering::Relaxed), 0);
    let heard = queue.consume(&replies, 1).await.unwrap().next().await.unwrap().unwrap();
    let report = heard.message().read::<Vec<Report>>().unwrap().remove(0);
    let id = OutcomeId { task: report.task, attempt: 1, nonce: report.nonce, interim: None };
    let key = Key::outcome(planned.run, &prod(), report.batch, id);
    let outcome: Outcome = serde_json::from_slice(&site.store.get(&key).await.unwrap().unwrap()).unwrap();
    let Verdict::Retry { fault, .. } = outcome.verdict else { panic!("{outcome:?}") };
    assert_eq!(fault.code, "task.returned");
}

/// What two services do that share no lock, such as two embedded ones on a bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_run_is_begun_once_even_without_locks() {
    let (_, site) = scene();
    let run = RunId::scheduled(&prod(), jiff::Timestamp::UNIX_EPOCH);
    let scheduled = Request { scheduled: Some(run), ..request() };
    let engines = [site.engine_without_lock(), site.engine_without_lock()];
    let mut planned = Vec::new();
    for engine in &engines {
        planned.push(engine.backup.plan(&scheduled).await.unwrap());
    }
    let mut ends = Vec::new();
    for (engine, planned) in engines.iter().zip(planned) {
        let (_go_on, stop) = watch::channel(false);
        ends.push(engine.backup.carry_out(planned, &RunView::default(), stop).await);
    }
    assert_eq!(ends.pop().unwrap().unwrap_err().code, "run.begun");
    assert_eq!(committed(ends.pop().unwrap().unwrap()).run.id, run);
    assert_eq!(engines[1].backup.plan(&scheduled).await.unwrap_err().code, "run.begun");
    assert_eq!(lakehold::snapshot::list(&*site.store, &prod()).await.unwrap().len(), 1);
    for engine in engines {
        engine.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_is_resumed_with_the_same_snapshot() {
    let (source, site) = scene();
    let engine = site.engine();
    let planned = engine.backup.plan(&request()).await.unwrap();
    let promised = planned.plan.environments[0].snapshot;
    let (stop, stopped) = watch::channel(false);
    stop.send(true).unwrap();
    let fault = engine.backup.carry_out(planned, &RunView::default(), stopped).await.unwrap_err();
    assert_eq!(fault.exit_code(), 130);
    engine.drain().await;
    let resumed = Request { resume: true, ..request() };
    let manifest = committed(site.backup_with(site.engine(), resumed.clone()).await.unwrap());
    assert_eq!(manifest.snapshot, promised);
    assert_eq!(source.bodies_fetched(), 39);
    let nothing = site.backup_with(site.engine(), resumed).await.unwrap_err();
    assert_eq!(nothing.code, "run.nothing-to-resume");
}

/// Somebody whose configuration lacks an environment, for a while.
#[derive(Debug)]
struct Lacking(OneSource, AtomicBool);

#[async_trait]
impl Sources for Lacking {
    async fn source(&self, environment: &EnvName) -> Result<SharedSource> {
        let lacks = environment.as_str() == "dev" && self.1.load(Ordering::Relaxed);
        let unknown = "unknown".parse().unwrap();
        self.0.source(if lacks { &unknown } else { environment }).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_reach_an_environment_of_a_run_leaves_it_to_others() {
    let (source, _) = scene();
    let sources = Arc::new(Lacking(OneSource(source), AtomicBool::new(false)));
    let site = Site::new(sources.clone());
    let dev: EnvName = "dev".parse().unwrap();
    let both = Request { environments: vec![dev.clone(), prod()], ..request() };
    let engine = site.engine();
    let planned = engine.backup.plan(&both).await.unwrap();
    let (stop, stopped) = watch::channel(true);
    engine.backup.carry_out(planned, &RunView::default(), stopped).await.unwrap_err();
    engine.drain().await;
    drop(stop);

    // Whoever resumes asks for one of them: all that the run has are locked, and those within reach are carried out.
    sources.1.store(true, Ordering::Relaxed);
    let resumed = Request { resume: true, ..request() };
    let ended = site.backup_with(site.engine(), resumed.clone()).await.unwrap();
    let EnvEnd::Unfinished(fault) = &ended.environments[&dev] else { panic!("{ended:?}") };
    assert_eq!(fault.code, "config.no-environment");
    let run = ended.plan.as_ref().unwrap().run;
    committed(ended);
    assert_eq!(site.store.get(&Key::report(run)).await.unwrap(), None, "there is something left to do");

    sources.1.store(false, Ordering::Relaxed);
    let held = site.engine();
    let begun = held.backup.plan(&resumed).await.unwrap();
    let other = Request { environments: vec![dev.clone()], ..request() };
    let other = site.engine().backup.plan(&other).await.unwrap();
    assert_eq!(other.refused[&dev].code, "lock.held");
    let (_go_on, stop) = watch::channel(false);
    let mut ended = held.backup.carry_out(begun, &RunView::default(), stop).await.unwrap();
    held.drain().await;
    let Some(EnvEnd::Committed(of_dev)) = ended.environments.remove(&dev) else { panic!("{ended:?}") };
    let kinds = |manifest: &Manifest| manifest.kinds.iter().map(|one| one.kind.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&of_dev), kinds(&committed(ended)), "every kind is accounted for");
}

/// How a run of `dev` ends whose coordinator has what the workers of its process lack.
async fn without_dev(site: &Site, sources: &Lacking) -> EnvEnd {
    let (engine, dev) = (site.engine(), "dev".parse().unwrap());
    let planned = engine.backup.plan(&Request { environments: vec![dev], ..request() }).await.unwrap();
    sources.1.store(true, Ordering::Relaxed);
    let (_go_on, stop) = watch::channel(false);
    let ended = engine.backup.carry_out(planned, &RunView::default(), stop).await.unwrap();
    engine.drain().await;
    ended.environments.into_values().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lacks_what_its_coordinator_has_says_so() {
    let (source, _) = scene();
    let sources = Arc::new(Lacking(OneSource(source), AtomicBool::new(false)));
    let ended = without_dev(&Site::new(sources.clone()), &sources).await;
    let EnvEnd::Nothing(fault) = &ended else { panic!("{ended:?}") };
    assert!(fault.to_string().contains("this worker cannot reach dev"), "{fault}");
}

/// Many slots without an environment's credentials, and one with them: a task meets the one before its attempts are used up.
#[tokio::test(flavor = "multi_thread")]
async fn workers_without_credentials_leave_tasks_to_one_that_has_them() {
    let (source, _) = scene();
    let sources = Arc::new(Lacking(OneSource(Arc::clone(&source)), AtomicBool::new(false)));
    let queue = MemoryQueue::new();
    let shared = queue.clone();
    let site = Site::new(sources.clone()).queue(move || shared.clone());
    let (_go_on, stop) = watch::channel(false);
    let one = tokio::spawn(serve(worker(&site, &source, &queue, SystemClock::shared()), "default", 1, stop));
    let ended = without_dev(&site, &sources).await;
    one.await.unwrap().unwrap();
    let EnvEnd::Committed(manifest) = ended else { panic!("{ended:?}") };
    assert_eq!((manifest.state, manifest.totals().items), (SnapshotState::Complete, 102));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_of_one_environment_exclude_each_other() {
    let (_, site) = scene();
    let first = site.engine();
    let held = first.backup.plan(&request()).await.unwrap();
    let fault = refused(site.backup_with(site.engine(), request()).await.unwrap());
    assert_eq!(fault.exit_code(), 11);
    assert!(fault.to_string().contains(&format!("process {}", std::process::id())), "{fault}");
    drop(held);
    first.drain().await;
    site.backup().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_environment_never_stops_the_others() {
    let (_, site) = scene();
    let both = Request { environments: vec!["unknown-env".parse().unwrap(), prod()], ..request() };
    let ended = site.backup_with(site.engine(), both).await.unwrap();
    assert_eq!(ended.environments.len(), 2);
    committed(ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_snapshot_is_never_a_base() {
    let (_, site) = scene();
    let first = site.backup().await;
    let narrowed = Selection { kinds: vec![FILE], ..Selection::default() };
    // The synthetic source captures all kinds whatever is asked; only the scope is looked at here.
    let scoped = Request { selection: narrowed, ..request() };
    committed(site.backup_with(site.engine(), scoped).await.unwrap());
    let third = site.backup().await;
    assert_eq!(third.base.unwrap().snapshot, first.snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_base_costs_a_full_capture_and_nothing_else() {
    let (source, site) = scene();
    let first = site.backup().await;
    for page in &first.pages {
        let hex = page.sha256.to_string();
        std::fs::write(site.dir.path().join(format!("store/indexes/{}/{hex}", &hex[..2])), b"damage")
            .unwrap();
    }
    let second = committed(site.backup_with(site.engine(), request()).await.unwrap());
    assert_eq!(second.content_root, first.content_root);
    assert_eq!(source.bodies_fetched(), 78);
    let keys: BTreeSet<_> = site.entries(&second).await.into_keys().collect();
    assert_eq!(keys.len(), 102);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backup_heals_damaged_packs() {
    let (_, site) = scene();
    let first = site.backup().await;
    let packs = site.dir.path().join("store/packs");
    for folder in std::fs::read_dir(&packs).unwrap() {
        for pack in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            std::fs::write(pack.unwrap().path(), b"damage").unwrap();
        }
    }
    let full = Request { selection: Selection { full: true, ..Selection::default() }, ..request() };
    let healed = committed(site.backup_with(site.engine(), full).await.unwrap());
    assert_eq!(healed.content_root, first.content_root);
    assert!(healed.run.figures.packs > 0);
    for entry in site.entries(&healed).await.values() {
        assert!(!entry.parts.is_empty());
    }
    site.read_all(&healed).await;
}
