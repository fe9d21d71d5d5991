//! Sending with confirms, many at once.
//!
//! One task owns the channel; callers hand it parcels and wait for its verdict, so that cancelling a caller harms nobody.
//! It has up to [`WINDOW`] parcels under way. A parcel is *sent* when the broker confirmed it and did not return it;
//! *refused* when the broker said so; and *lost* when the channel or the connection ended first, after which it may have
//! been sent or not. A dead channel is replaced on the same connection.
//!
//! **Returned messages.** The broker sends back what no queue takes, and then confirms it all the same. The library hands
//! what came back to whichever confirm comes next, which with many under way is often another's. So we match by message
//! id: a batch is judged only when all confirms that are in have been looked at, and since the library gives a returned
//! message away before (or with) the confirm of its owner, the batch that holds the owner's confirm, or an earlier one,
//! holds the message too.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};

use super::faults;
use super::link::{Link, Site};
use super::message::Parcel;
use crate::fault::{Class, Fault, Result};

/// Unconfirmed messages at most.
const WINDOW: usize = 1024;
/// Parcels taken from callers at once.
const HANDFUL: usize = 64;
/// How long a channel may take to open.
const OPENING: Duration = Duration::from_secs(10);

/// What became of a parcel.
pub(super) enum Verdict {
    Sent,
    /// No queue takes it.
    Unroutable(Fault),
    /// The broker said no, or it could not be tried.
    Refused(Fault),
    /// Nobody knows whether it was sent.
    Lost(Fault),
}

/// A parcel and who waits for its verdict.
pub(super) struct Outgoing {
    pub(super) parcel: Arc<Parcel>,
    pub(super) verdict: oneshot::Sender<Verdict>,
}

type Answered = (Outgoing, lapin::Result<Confirmation>);

/// See the module.
pub(super) struct Publisher {
    site: Arc<Site>,
    link: Arc<Link>,
    inbox: mpsc::Receiver<Outgoing>,
    channel: Option<Channel>,
    under_way: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Message ids that came back, until their owner's confirm is in.
    returned: HashSet<ShortString>,
}

impl Publisher {
    pub(super) fn new(site: Arc<Site>, link: Arc<Link>) -> (Self, mpsc::Sender<Outgoing>) {
        let (outbox, inbox) = mpsc::channel(WINDOW);
        let (under_way, returned) = (FuturesUnordered::new(), HashSet::new());
        (Self { site, link, inbox, channel: None, under_way, returned }, outbox)
    }

    /// Sends until nobody can hand in any more, and everything has its verdict.
    pub(super) async fn run(mut self) {
        let mut handful = Vec::with_capacity(HANDFUL);
        let mut open = true;
        while open || !self.under_way.is_empty() {
            let room = WINDOW.saturating_sub(self.under_way.len()).min(HANDFUL);
            let under_way = &mut self.under_way;
            tokio::select! {
                biased;
                batch = futures::future::poll_fn(|cx| ready(under_way, cx)), if !under_way.is_empty() => self.judge(batch),
                taken = self.inbox.recv_many(&mut handful, room), if open && room > 0 => {
                    open = taken > 0;
                    self.send(&mut handful).await;
                }
            }
        }
    }

    async fn send(&mut self, handful: &mut Vec<Outgoing>) {
        // Who gave up waiting has been told that it was not confirmed.
        handful.retain(|outgoing| !outgoing.verdict.is_closed());
        let Some(first) = handful.first() else { return };
        let channel = match self.channel(&first.parcel).await {
            Ok(channel) => channel,
            Err(fault) => {
                for outgoing in handful.drain(..) {
                    outgoing.verdict.send(Verdict::Lost(fault.clone())).ok();
                }
                return;
            }
        };
        for outgoing in handful.drain(..) {
            self.under_way.push(Box::pin(one(channel.clone(), outgoing)));
        }
    }

    /// A channel that takes messages, on the connection that is up now.
    async fn channel(&mut self, parcel: &Parcel) -> Result<Channel> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let context = || format!("publish to {:?}", parcel.queue);
        self.channel = None;
        let opening = async {
            let connection = self.link.writable().await?;
            let channel = connection.create_channel().await.map_err(|e| faults::of(&e, context()))?;
            let confirmed = channel.confirm_select(ConfirmSelectOptions::default()).await;
            confirmed.map_err(|e| faults::of(&e, context()))?;
            Ok(channel)
        };
        let channel = tokio::select! {
            opened = opening => opened?,
            () = self.site.clock.sleep(OPENING) => return Err(self.link.impatience(context())),
        };
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    fn judge(&mut self, batch: Vec<Answered>) {
        for (_, answer) in &batch {
            if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = answer
                && let Some(id) = message.properties.message_id()
            {
                self.returned.insert(id.clone());
            }
        }
        for (Outgoing { parcel, verdict }, answer) in batch {
            let returned = self.returned.remove(&parcel.id);
            // Nobody waits any more: it was cancelled.
            verdict.send(judged(&parcel, returned, answer)).ok();
        }
        if self.under_way.is_empty() {
            self.returned.clear();
        }
    }
}

fn judged(parcel: &Parcel, returned: bool, answer: lapin::Result<Confirmation>) -> Verdict {
    let context = format!("publish to {:?}", parcel.queue);
    let fault = |code, detail: &dyn fmt::Display| Fault::new(Class::Unavailable, code, &context, detail);
    match answer {
        Err(e) => Verdict::Lost(faults::of(&e, context)),
        Ok(_) if returned => Verdict::Unroutable(
            fault("queue.unroutable", &"no queue takes it: the queue was deleted")
                .hint("it is declared anew by the next message or the next consumer"),
        ),
        Ok(Confirmation::Ack(_)) => Verdict::Sent,
        Ok(Confirmation::Nack(_)) => Verdict::Refused(
            fault(
                "queue.refused",
                &"the broker did not take it: the queue is full, or most of its nodes are down",
            )
            .hint("see that workers serve this queue"),
        ),
        Ok(Confirmation::NotRequested) => {
            Verdict::Lost(fault("queue.unconfirmed", &"no confirm was asked for"))
        }
    }
}

/// Its first poll writes the message, so the order of messages is that in which these are polled first.
async fn one(channel: Channel, outgoing: Outgoing) -> Answered {
    let parcel = &outgoing.parcel;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (route, properties) = (parcel.route.clone(), parcel.properties.clone());
    let answer = match channel.basic_publish("".into(), route, options, &parcel.body, properties).await {
        Ok(confirm) => confirm.await,
        Err(e) => Err(e),
    };
    (outgoing, answer)
}

/// All that is answered, once something is.
///
/// `FuturesUnordered` may say "pending" with more to give, when it has polled as many as it holds without finding one that
/// is ready. Each of ours is pending at most twice (being written, being confirmed), so the third "pending" in a row is
/// one.
fn ready(
    under_way: &mut FuturesUnordered<BoxFuture<'static, Answered>>,
    cx: &mut Context<'_>,
) -> Poll<Vec<Answered>> {
    let (mut batch, mut pending) = (Vec::new(), 0);
    while pending < 3 {
        match under_way.poll_next_unpin(cx) {
            Poll::Ready(Some(answered)) => {
                batch.push(answered);
                pending = 0;
            }
            Poll::Ready(None) => break,
            Poll::Pending => pending += 1,
        }
    }
    if batch.is_empty() { Poll::Pending } else { Poll::Ready(batch) }
}
