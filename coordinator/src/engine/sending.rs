//! Attempts on their way to workers.

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::fault::Result;
use lakehold_proto::ids::{Nonce, TaskId};
use lakehold_proto::killpoint::{during, killpoint};
use lakehold_proto::plan::Plan;
use lakehold_proto::queue::{Message, QueueName};
use lakehold_proto::task::Assignment;
use lakehold_proto::telemetry::{Place, Placed as _, metrics, within};
use tracing::{Span, info_span, warn};

use super::drive::{Engine, SEND_AGAIN};
use super::state::EnvRun;

/// Messages on their way to the queue at once.
const SENDING: usize = 256;

/// An attempt on its way to a worker, and the span of sending it, in which the worker's spans lie.
pub(super) struct Sending {
    queue: QueueName,
    message: Message,
    span: Span,
}

impl Sending {
    fn of(plan: &Plan, system: &'static str, queue: QueueName, assignment: &Assignment) -> Result<Self> {
        let (task, trace) = (assignment.task.id(), assignment.trace);
        let root = Place::root_of(plan.run, plan.trace);
        let name = queue.as_str();
        let span = || {
            // Without the parent that happens to be there: it would give the span its trace.
            info_span!(parent: None, "send", otel.name = format!("send {name}"), otel.kind = "producer",
                messaging.system = system, messaging.operation.name = "send", messaging.operation.r#type = "send",
                messaging.destination.name = name, lakehold.run.id = %plan.run, lakehold.task.id = %task,
                lakehold.environment = %assignment.task.environment, lakehold.attempt = assignment.attempt)
        };
        let (span, place) = if trace == plan.trace {
            (span().below(root), root)
        } else {
            let place = Place { trace, span: Nonce::random(), sampled: is_sampled(task) };
            (if place.sampled { span().linked(root).at(place) } else { Span::none() }, place)
        };
        let mut message = Message::of(assignment)?;
        message.trace = span.place().unwrap_or(place).headers();
        Ok(Self { queue, message, span })
    }
}

/// Whether a task with a trace of its own is traced: one of sixteen, and all attempts at it alike.
fn is_sampled(task: TaskId) -> bool {
    task.digits().ends_with('0')
}

impl Engine {
    /// What sends these attempts of `run`.
    pub(super) fn sendings(
        &self,
        plan: &Plan,
        run: &EnvRun,
        assignments: &[Assignment],
    ) -> Result<Vec<Sending>> {
        let queue = QueueName::tasks(&run.plan().pool);
        let sending = |assignment| Sending::of(plan, self.queue.system(), queue.clone(), assignment);
        assignments.iter().map(sending).collect()
    }

    /// Sends them, and waits until the queue has taken each: a queue that is down is waited for.
    pub(super) async fn send_all(&self, messages: Vec<Sending>) -> Result<()> {
        let sent = futures::stream::iter(messages).map(Ok);
        sent.try_for_each_concurrent(SENDING, |Sending { queue, message, span }| {
            metrics().sent();
            within(span, self.send(queue, message))
        })
        .await
    }

    async fn send(&self, queue: QueueName, message: Message) -> Result<()> {
        loop {
            killpoint("coordinator.before-publish");
            let sent = self.queue.publish(&queue, message.clone());
            match during("coordinator.before-confirm", sent).await {
                Err(fault) if fault.class.may_retry() => {
                    warn!(%fault, "the queue does not take a task; trying again");
                    self.clock.sleep(SEND_AGAIN).await;
                }
                sent => {
                    killpoint("coordinator.after-confirm");
                    return sent;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use lakehold_proto::clock::SystemClock;
    use lakehold_proto::fault::{Class, Fault};
    use lakehold_proto::locks::MemoryLocks;
    use lakehold_proto::queue::{Consumer, Queue};
    use lakehold_proto::store::DirectoryStore;

    use super::*;
    use crate::engine::ledger::Sizes;

    /// Takes no message the first time.
    #[derive(Debug, Default)]
    struct Reluctant(AtomicU32);

    #[async_trait]
    impl Queue for Reluctant {
        async fn publish(&self, _: &QueueName, _: Message) -> Result<()> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Fault::new(Class::Unavailable, "queue.refused", "publish", "it is full")),
                _ => Ok(()),
            }
        }

        async fn consume(&self, _: &QueueName, _: usize) -> Result<Box<dyn Consumer>> {
            Err(Fault::new(Class::Denied, "queue.denied", "consume", "nobody may"))
        }

        async fn waiting(&self, _: &QueueName) -> Result<u32> {
            Ok(0)
        }
    }

    /// A reminder would send it too, much later.
    #[tokio::test]
    async fn what_the_queue_did_not_take_is_sent_again() {
        let (dir, clock, queue) =
            (tempfile::tempdir().unwrap(), SystemClock::shared(), Arc::new(Reluctant::default()));
        let engine = Engine {
            store: Arc::new(DirectoryStore::new(dir.path())),
            queue: queue.clone(),
            locks: Arc::new(MemoryLocks::new(clock.clone())),
            clock,
            sizes: Sizes::default(),
        };
        engine.send(QueueName::tasks("default"), Message::default()).await.unwrap();
        assert_eq!(queue.0.load(Ordering::Relaxed), 2);
    }
}
