//! What the simulator remembers: a world of workspaces, their accounts and metastores.
//!
//! Things are JSON documents in a [`Store`], by kind and id, kept as text so that a large population
//! stays small; the workspace tree, which is most of a large population, has a denser form of its own
//! ([`crate::tree`]), and bodies of notebooks and files are made from (seed, id) when they are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::api::scim::Memberships;
use crate::calls::Calls;
use crate::clock::Clock;
use crate::faults::Faults;
use crate::identity::Identities;
use crate::limits::Limiter;
use crate::rng::{self, Rng};
use crate::sim::{Cloud, SimConfig};
use crate::tree::Tree;

/// Everything one simulator holds.
pub(crate) struct World {
    pub(crate) config: SimConfig,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) workspaces: Vec<Arc<Workspace>>,
}

/// One workspace.
pub(crate) struct Workspace {
    pub(crate) index: usize,
    /// The numeric id of `X-Databricks-Org-Id`.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) cloud: Cloud,
    /// Seed of this workspace, different for each.
    pub(crate) seed: u64,
    pub(crate) account: Arc<Account>,
    pub(crate) metastore: Arc<Metastore>,
    pub(crate) identities: Identities,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) calls: Calls,
    store: Mutex<Store>,
    tree: Mutex<Tree>,
    /// Who is in which group, as of a version of the groups.
    pub(crate) memberships: Mutex<(u64, Arc<Memberships>)>,
    serial: AtomicU64,
    requests: AtomicU64,
}

/// An account: what workspaces of one customer share.
pub(crate) struct Account {
    pub(crate) id: String,
    /// Seed of the people of this account.
    pub(crate) seed: u64,
}

/// A Unity Catalog metastore; many workspaces may be attached to one.
pub(crate) struct Metastore {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Holds catalogs, schemas, tables and so on; documents as in a workspace's own store.
    store: Mutex<Store>,
    serial: AtomicU64,
    seed: u64,
}

impl Account {
    pub(crate) fn new(seed: u64) -> Self {
        Self { id: Rng::of(seed, "account", 0).uuid(), seed }
    }
}

impl Metastore {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self {
            id: Rng::of(seed, "metastore", 0).uuid(),
            name: name.to_owned(),
            store: Mutex::default(),
            serial: AtomicU64::new(0),
            seed,
        }
    }

    /// The documents; never held across an await, since handlers are synchronous.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// A generator for a new id: the n-th new thing of a seed always gets the same one.
    pub(crate) fn fresh(&self) -> Rng {
        Rng::of(self.seed, "fresh", self.serial.fetch_add(1, Ordering::Relaxed))
    }
}

impl Workspace {
    pub(crate) fn new(
        index: usize,
        config: &SimConfig,
        account: Arc<Account>,
        metastore: Arc<Metastore>,
    ) -> Self {
        let seed = Rng::of(config.seed, "workspace", index as u64).next();
        Self {
            index,
            id: 1_000_000_000_000_000 + Rng::of(seed, "id", 0).below(8_000_000_000_000_000),
            name: format!("sim-{index}"),
            cloud: config.cloud,
            seed,
            account,
            metastore,
            identities: Identities::new(&config.identities),
            limiter: Arc::new(Limiter::new(config.limits.clone())),
            calls: Calls::default(),
            store: Mutex::default(),
            tree: Mutex::default(),
            memberships: Mutex::default(),
            serial: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    /// The documents; never held across an await, since handlers are synchronous.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// The workspace tree. Whoever needs both locks takes this one first.
    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    /// A generator for a new id: the n-th new thing of a seed always gets the same one.
    pub(crate) fn fresh(&self) -> Rng {
        Rng::of(self.seed, "fresh", self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// The id a client finds in `x-request-id`.
    pub(crate) fn request_id(&self) -> String {
        Rng::of(self.seed, "request", self.requests.fetch_add(1, Ordering::Relaxed)).uuid()
    }

    /// A new numeric id, as jobs, users and tree nodes have: 15 or 16 digits, below 2^53.
    pub(crate) fn fresh_number(&self) -> u64 {
        100_000_000_000_000 + self.fresh().below(900_000_000_000_000)
    }
}

/// Locks, also after a panic elsewhere: every value is valid between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// JSON documents by kind and id, listed in the order in which they were created.
#[derive(Debug, Default)]
pub(crate) struct Store {
    tables: BTreeMap<&'static str, Table>,
    next: u64,
}

#[derive(Debug, Default)]
struct Table {
    /// Changes with every write.
    version: u64,
    rows: BTreeMap<u64, Row>,
    by_id: HashMap<Box<str>, u64>,
    by_parent: HashMap<Box<str>, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Row {
    id: Box<str>,
    parent: Box<str>,
    json: Box<str>,
}

/// One document of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Doc {
    /// Position in creation order; what page tokens name.
    pub(crate) seq: u64,
    pub(crate) id: String,
    pub(crate) value: Value,
}

impl Store {
    /// Creates or replaces; a replaced document keeps its place in listings.
    pub(crate) fn put(&mut self, kind: &'static str, id: &str, value: &Value) {
        self.put_under(kind, id, "", value);
    }

    /// As [`Store::put`], under a parent by which it can be listed cheaply (a schema of a table).
    pub(crate) fn put_under(&mut self, kind: &'static str, id: &str, parent: &str, value: &Value) {
        let table = self.tables.entry(kind).or_default();
        table.version += 1;
        let seq = table.by_id.get(id).copied().unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let row = Row { id: id.into(), parent: parent.into(), json: value.to_string().into_boxed_str() };
        if let Some(old) = table.rows.insert(seq, row)
            && *old.parent != *parent
            && let Some(set) = table.by_parent.get_mut(&old.parent)
        {
            set.remove(&seq);
        }
        table.by_id.insert(id.into(), seq);
        if !parent.is_empty() {
            table.by_parent.entry(parent.into()).or_default().insert(seq);
        }
    }

    pub(crate) fn get(&self, kind: &str, id: &str) -> Option<Value> {
        let table = self.tables.get(kind)?;
        table.rows.get(table.by_id.get(id)?).map(Row::value)
    }

    pub(crate) fn contains(&self, kind: &str, id: &str) -> bool {
        self.tables.get(kind).is_some_and(|t| t.by_id.contains_key(id))
    }

    pub(crate) fn remove(&mut self, kind: &str, id: &str) -> Option<Value> {
        let table = self.tables.get_mut(kind)?;
        table.version += 1;
        let seq = table.by_id.remove(id)?;
        let row = table.rows.remove(&seq)?;
        if let Some(set) = table.by_parent.get_mut(&row.parent) {
            set.remove(&seq);
        }
        Some(row.value())
    }

    /// Changes a document in place; `None` if there is none.
    pub(crate) fn edit(&mut self, kind: &str, id: &str, change: impl FnOnce(&mut Value)) -> Option<Value> {
        let table = self.tables.get_mut(kind)?;
        table.version += 1;
        let row = table.rows.get_mut(table.by_id.get(id)?)?;
        let mut value = row.value();
        change(&mut value);
        row.json = value.to_string().into_boxed_str();
        Some(value)
    }

    /// Documents in order, after a position, under a parent if one is given; parsed as they are taken.
    pub(crate) fn scan<'a>(
        &'a self,
        kind: &str,
        parent: Option<&str>,
        after: u64,
    ) -> Box<dyn Iterator<Item = Doc> + 'a> {
        let Some(table) = self.tables.get(kind) else { return Box::new(std::iter::empty()) };
        let doc = |(seq, row): (u64, &Row)| Doc { seq, id: row.id.to_string(), value: row.value() };
        match parent {
            None => Box::new(table.rows.range(after + 1..).map(|(s, r)| (*s, r)).map(doc)),
            Some(parent) => match table.by_parent.get(parent) {
                None => Box::new(std::iter::empty()),
                Some(set) => Box::new(
                    set.range(after + 1..).filter_map(|s| table.rows.get(s).map(|r| (*s, r))).map(doc),
                ),
            },
        }
    }

    /// All documents of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.scan(kind, None, 0).map(|d| d.value).collect()
    }

    /// The ids of a kind, without parsing a document.
    pub(crate) fn ids(&self, kind: &str) -> Vec<String> {
        self.tables.get(kind).map_or_else(Vec::new, |t| t.rows.values().map(|r| r.id.to_string()).collect())
    }

    /// The id of the n-th document, counted round and round: how one thing refers to some other.
    pub(crate) fn nth_id(&self, kind: &str, n: u64) -> Option<String> {
        let table = self.tables.get(kind)?;
        let len = table.rows.len() as u64;
        if len == 0 {
            return None;
        }
        let skip = usize::try_from(n % len).unwrap_or(0);
        table.rows.values().nth(skip).map(|r| r.id.to_string())
    }

    /// Differs whenever documents of the kind may differ.
    pub(crate) fn version(&self, kind: &str) -> u64 {
        self.tables.get(kind).map_or(0, |t| t.version)
    }

    pub(crate) fn len(&self, kind: &str) -> usize {
        self.tables.get(kind).map_or(0, |t| t.rows.len())
    }

    /// The first document that satisfies a predicate.
    pub(crate) fn find(&self, kind: &str, test: impl Fn(&Value) -> bool) -> Option<Value> {
        self.scan(kind, None, 0).map(|d| d.value).find(|v| test(v))
    }
}

impl Row {
    fn value(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or(Value::Null)
    }
}

/// A stable choice by name, such as which of several shapes an item takes.
pub(crate) fn choose(name: &str, n: u64) -> u64 {
    rng::hash(name) % n.max(1)
}
