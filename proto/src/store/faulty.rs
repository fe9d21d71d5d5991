//! A store that fails on purpose, within what the port allows: a decorator for tests and simulations.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{Key, Listed, Properties, Put, SharedStore, Store};
use crate::fault::{Class, Fault as Failure, Result};

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The n-th write (from 1) fails, having made nothing.
    LoseWrite(u64),
    /// The n-th write makes the object, and its answer is lost.
    LoseAnswer(u64),
    /// Every write from the n-th on fails: the disk is full.
    FullFrom(u64),
    /// From the first to before the second of all calls, reads and listings too, the store cannot be reached.
    Away(u64, u64),
}

/// A [`Store`] around another that misbehaves as told.
#[derive(Debug)]
pub struct FaultyStore {
    inner: SharedStore,
    faults: Vec<Fault>,
    writes: AtomicU64,
    calls: AtomicU64,
}

impl FaultyStore {
    /// Wraps `inner`.
    pub fn new(inner: SharedStore, faults: Vec<Fault>) -> Self {
        Self { inner, faults, writes: AtomicU64::new(0), calls: AtomicU64::new(0) }
    }

    fn call(&self) -> Result<()> {
        let n = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match self
            .faults
            .iter()
            .any(|fault| matches!(*fault, Fault::Away(from, to) if (from..to).contains(&n)))
        {
            true => Err(Failure::new(
                Class::Unavailable,
                "store.away",
                "reach the store",
                "the connection was refused",
            )),
            false => Ok(()),
        }
    }
}

fn failed(key: &Key, code: &'static str, detail: &str) -> Failure {
    Failure::new(Class::Unavailable, code, format!("write {key}"), detail)
}

#[async_trait]
impl Store for FaultyStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        self.call()?;
        let n = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        for fault in &self.faults {
            match *fault {
                Fault::LoseWrite(at) if at == n => return Err(failed(key, "store.io", "the write was lost")),
                Fault::FullFrom(from) if n >= from => {
                    return Err(failed(key, "store.full", "no space left on device"));
                }
                Fault::LoseAnswer(at) if at == n => {
                    self.inner.put_new(key, body).await?;
                    return Err(failed(key, "store.io", "the answer was lost"));
                }
                _ => {}
            }
        }
        self.inner.put_new(key, body).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.call()?;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        self.call()?;
        self.inner.get_range(key, offset, length).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        match self.call() {
            Ok(()) => self.inner.list(prefix),
            Err(fault) => futures::stream::iter([Err(fault)]).boxed(),
        }
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.call()?;
        self.inner.list_folders(prefix).await
    }

    fn properties(&self) -> Properties {
        self.inner.properties()
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
