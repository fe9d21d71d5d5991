//! How a worker tells coordinators where to look.
//!
//! A report is a hint: one that is lost is no loss, the next listing finds what it was about. A message costs all who touch it more
//! than what is in it does, so while one is under way, what else is to be told waits and travels together.

use std::sync::{Mutex, PoisonError};

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::Nonce;
use lakehold_proto::queue::{Message, QueueName, SharedQueue};
use lakehold_proto::task::{Assignment, Report, Reported};
use tokio::sync::oneshot;

/// Reports in one message: far fewer than it has room for.
const TOGETHER: usize = 100;

/// Reports on their way from the slots of a worker.
#[derive(Debug, Default)]
pub struct Reports {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by whoever sends what waits.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting {
    to: QueueName,
    report: Report,
    told: oneshot::Sender<Result<()>>,
}

impl Reports {
    /// Tells the coordinator of an assignment what a delivery of it left in the store; returns when the queue has it.
    ///
    /// # Errors
    /// The queue's.
    pub(crate) async fn tell(
        &self,
        queue: &SharedQueue,
        assignment: &Assignment,
        nonce: Nonce,
        what: Reported,
    ) -> Result<()> {
        let (to, report) = (assignment.reply_to.clone(), Report::of(assignment, nonce, what));
        let (told, heard) = oneshot::channel();
        self.waiting().push(Waiting { to: to.clone(), report, told });
        let turn = self.turn.lock().await;
        // Empty when another one's turn took it along.
        let together: Vec<_> = self.waiting().extract_if(.., |waiting| waiting.to == to).collect();
        let mut together = together.into_iter().peekable();
        while together.peek().is_some() {
            let (reports, told): (Vec<_>, Vec<_>) =
                together.by_ref().take(TOGETHER).map(|waiting| (waiting.report, waiting.told)).unzip();
            let sent = publish(queue, &to, &reports).await;
            // Who does not wait any more has ended.
            told.into_iter().for_each(|told| _ = told.send(sent.clone()));
        }
        drop(turn);
        heard.await.unwrap_or_else(|_| {
            let detail = "the slot that was to send it ended";
            Err(Fault::new(Class::Unavailable, "worker.report", "report an outcome", detail))
        })
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends reports to the coordinator that reads `to`.
///
/// # Errors
/// The queue's.
pub(crate) async fn publish(queue: &SharedQueue, to: &QueueName, reports: &[Report]) -> Result<()> {
    queue.publish(to, Message::of(&reports)?).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lakehold_proto::ids::{RunId, SnapshotId, TraceId};
    use lakehold_proto::queue::{MemoryQueue, Queue as _};
    use lakehold_proto::task::{Batch, Shard, Task, Verb};

    use super::*;

    fn assignment(to: &QueueName, attempt: u32) -> Assignment {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let kind = lakehold_proto::ids::Kind::named("x");
        let (run, environment) = (RunId::new(now), "prod".parse().unwrap());
        Assignment {
            task: Task {
                run,
                verb: Verb::Backup,
                environment,
                kind,
                shard: Shard::whole(),
                stage: 0,
                epoch: None,
            },
            attempt,
            again: false,
            batch: Batch { coordinator: Nonce::numbered(1), number: 1 },
            waited_for: 0,
            yields: [].into(),
            long: false,
            input: Vec::new(),
            reply_to: to.clone(),
            trace: TraceId::random(),
            before: None,
            snapshot: SnapshotId::new(now),
        }
    }

    #[tokio::test]
    async fn reports_travel_together_and_each_to_its_coordinator() {
        let memory = MemoryQueue::new();
        let queue: SharedQueue = Arc::new(memory.clone());
        let to = [1, 2].map(|n| QueueName::replies(Nonce::numbered(n)));
        let mut inboxes = Vec::new();
        for to in &to {
            inboxes.push(memory.consume(to, 64).await.unwrap());
        }
        let reports = Reports::default();
        // What waits while nothing may be sent.
        let turn = reports.turn.lock().await;
        let attempts: Vec<_> = (0..250).map(|n| assignment(&to[usize::from(n % 5 == 0)], n)).collect();
        let telling = attempts.iter().map(|a| reports.tell(&queue, a, Nonce::random(), Reported::Outcome));
        let telling = futures::future::join_all(telling);
        let hearing = async {
            drop(turn);
            let mut heard = [Vec::new(), Vec::new()];
            let mut messages = [0, 0];
            for (n, inbox) in inboxes.iter_mut().enumerate() {
                while heard[n].len() < [200, 50][n] {
                    let delivery = inbox.next().await.unwrap().unwrap();
                    heard[n].extend(delivery.message().read::<Vec<Report>>().unwrap());
                    messages[n] += 1;
                    delivery.acknowledge().await.unwrap();
                }
            }
            (heard, messages)
        };
        let (told, (heard, messages)) = futures::future::join(telling, hearing).await;
        assert!(told.iter().all(Result::is_ok));
        assert_eq!(messages, [2, 1]);
        let attempts = |n: usize| heard[n].iter().map(|report| report.attempt).collect::<Vec<_>>();
        assert_eq!(attempts(0), (0..250).filter(|n| n % 5 > 0).collect::<Vec<_>>());
        assert_eq!(attempts(1), (0..250).filter(|n| n % 5 == 0).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_slot_that_ends_before_its_turn_leaves_nothing_waiting() {
        let queue: SharedQueue = Arc::new(MemoryQueue::new());
        let to = QueueName::replies(Nonce::numbered(1));
        let (first, second) = (assignment(&to, 1), assignment(&to, 2));
        let reports = Reports::default();
        let turn = reports.turn.lock().await;
        let mut leader = Box::pin(reports.tell(&queue, &first, Nonce::random(), Reported::Outcome));
        let mut follower = Box::pin(reports.tell(&queue, &second, Nonce::random(), Reported::Outcome));
        assert!(futures::poll!(&mut leader).is_pending() && futures::poll!(&mut follower).is_pending());
        // Gone before its turn: its report goes with the other one's.
        drop(leader);
        drop(turn);
        follower.await.unwrap();
        assert!(reports.waiting().is_empty());
    }
}
