//! Virtual time: it stands still while anything can run, and then leaps to the next moment at which something can.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Time(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: Duration,
    set: u64,
    /// By when they ring, and of those at one moment by when they were set.
    timers: BTreeMap<(Duration, u64), Waker>,
    /// Woken with each leap: a timer may wake nobody, and then the next leap is due.
    pacemaker: Option<Waker>,
}

impl Time {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time since the world began.
    pub(super) fn now(&self) -> Duration {
        self.state().now
    }

    /// Waits. Of several that end at one moment the first that was begun ends first.
    pub(super) fn sleep(self: &Arc<Self>, duration: Duration) -> Sleep {
        Sleep { until: self.now().saturating_add(duration), time: Arc::clone(self), timer: None }
    }

    fn leap(&self) {
        let (rings, pacemaker) = {
            let state = &mut *self.state();
            let Some(((due, _), waker)) = state.timers.pop_first() else { return };
            state.now = due;
            (waker, state.pacemaker.clone())
        };
        rings.wake();
        if let Some(pacemaker) = pacemaker {
            pacemaker.wake();
        }
    }
}

/// Runs `work`, and what it spawns, on this thread alone, in an order that depends on nothing outside.
pub(super) fn block_on<F: Future>(time: &Arc<Time>, work: F) -> F::Output {
    let (leaping, beating) = (Arc::clone(time), Arc::clone(time));
    // A thread parks when nothing can run; what a leap wakes runs before it would.
    let runtime =
        tokio::runtime::Builder::new_current_thread().on_thread_park(move || leaping.leap()).build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    runtime.spawn(std::future::poll_fn(move |context| {
        beating.state().pacemaker = Some(context.waker().clone());
        Poll::<()>::Pending
    }));
    runtime.block_on(work)
}

/// What [`Time::sleep`] returns.
#[derive(Debug)]
pub(super) struct Sleep {
    time: Arc<Time>,
    until: Duration,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let time = Arc::clone(&self.time);
        let state = &mut *time.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        let timer = *self.timer.get_or_insert_with(|| {
            state.set += 1;
            state.set
        });
        state.timers.insert((self.until, timer), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            let unset = self.time.state().timers.remove(&(self.until, timer));
            // A waker may be the last to hold its task, whose end may drop sleeps: not under the lock.
            drop(unset);
        }
    }
}
