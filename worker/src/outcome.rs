//! How a worker writes down what it did: an outcome in the store, of which it then tells the coordinator.

use std::time::Duration;

use bytes::Bytes;
use lakehold_proto::clock::SharedClock;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::outcome::Outcome;
use lakehold_proto::store::SharedStore;

/// How often a write to the store is tried before the coordinator is told that it cannot be written.
const TRIES: u32 = 5;

/// Writes an outcome to the store.
///
/// # Errors
/// The store's.
pub(crate) async fn store_outcome(store: &SharedStore, clock: &SharedClock, outcome: &Outcome) -> Result<()> {
    let body = encode_outcome(outcome)?;
    let key = outcome.key();
    let mut tried = 0;
    loop {
        tried += 1;
        let put = match outcome.interim {
            None => store.put_new_soon(&key, body.clone()).await,
            // Its task goes on: nothing else would find its children again.
            Some(_) => store.put_new(&key, body.clone()).await,
        };
        match put {
            Ok(_) => return Ok(()),
            // A full disk does not empty itself within seconds.
            Err(fault) if tried >= TRIES || !fault.class.may_retry() || fault.code == "store.full" => {
                return Err(fault);
            }
            Err(_) => clock.sleep(Duration::from_millis(100 << tried)).await,
        }
    }
}

/// The bytes of an outcome as it lies in the store.
///
/// # Errors
/// `Bug` when it cannot be written.
pub fn encode_outcome(outcome: &Outcome) -> Result<Bytes> {
    serde_json::to_vec(outcome)
        .map(Into::into)
        .map_err(|e| Fault::new(Class::Bug, "worker.encode", "write an outcome", e))
}
