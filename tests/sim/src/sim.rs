//! [`Sim`]: starting, changing and stopping a simulator inside somebody else's runtime.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tower_service::Service;

use crate::api;
use crate::calls::CallReport;
use crate::chain::ResetConnection;
use crate::clock::Clock;
use crate::faults::{Fault, Faults};
use crate::identity::IdentitySpec;
use crate::limits::Limits;
use crate::population::{self, Mutation, MutationReport, Population};
use crate::rng::Rng;
use crate::state::{Account, Metastore, Workspace, World};

/// Where a workspace pretends to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// Amazon.
    #[default]
    Aws,
    /// Microsoft: Entra tokens, application ids as service principal keys.
    Azure,
    /// Google.
    Gcp,
}

/// What to simulate. The default is one workspace with 50 items, no limits and no latency.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Address of the first workspace, which must be a loopback one; the others take the ports after
    /// it. Port 0 gives each a free one.
    pub listen: SocketAddr,
    /// How many workspaces.
    pub workspaces: usize,
    /// The same seed makes the same workspaces.
    pub seed: u64,
    /// What is in them.
    pub population: Population,
    /// Hostile names and bodies too.
    pub hostile: bool,
    /// The cloud.
    pub cloud: Cloud,
    /// Added to every call.
    pub latency: Duration,
    /// Rate limits and concurrency caps.
    pub limits: Limits,
    /// Faults in force from the start.
    pub faults: Vec<Fault>,
    /// All workspaces are attached to one metastore.
    pub share_metastore: bool,
    /// All workspaces belong to one account.
    pub share_account: bool,
    /// Further tokens and clients.
    pub identities: Vec<IdentitySpec>,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            workspaces: 1,
            seed: 1,
            population: Population::Items(50),
            hostile: false,
            cloud: Cloud::Aws,
            latency: Duration::ZERO,
            limits: Limits::none(),
            faults: Vec::new(),
            share_metastore: false,
            share_account: false,
            identities: Vec::new(),
        }
    }
}

/// Why a simulator did not start, or could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Only loopback addresses: the token is public.
    #[error("listen on {0}: the simulator listens on loopback addresses only")]
    NotLoopback(SocketAddr),
    /// The port is taken, or the ports after it run out.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// A glob of a fault is not one.
    #[error("read the path of a fault")]
    Fault(#[from] globset::Error),
    /// Filling the workspaces panicked or was cancelled.
    #[error("fill the workspaces")]
    Populate,
    /// No such workspace.
    #[error("workspace {0} does not exist")]
    NoWorkspace(usize),
    /// A kind is named that the population does not have.
    #[error("kind {name} is not one of: {known}")]
    NoKind {
        /// The name given.
        name: String,
        /// All names.
        known: String,
    },
}

/// A running simulator; dropping it closes all ports and connections.
pub struct Sim {
    world: Arc<World>,
    addresses: Vec<SocketAddr>,
    loops: Vec<AbortHandle>,
}

impl Sim {
    /// Makes the workspaces, opens their ports and serves them on the current runtime.
    pub async fn start(config: SimConfig) -> Result<Self, SimError> {
        if !config.listen.ip().is_loopback() {
            return Err(SimError::NotLoopback(config.listen));
        }
        population::check(&config.population)?;
        // A large population takes seconds of pure work, which must not stall the caller's other tasks.
        let made = tokio::task::spawn_blocking(move || make(config)).await;
        let world = Arc::new(made.map_err(|_| SimError::Populate)??);
        let mut sim = Self { world: Arc::clone(&world), addresses: Vec::new(), loops: Vec::new() };
        for ws in &world.workspaces {
            let address = nth_address(world.config.listen, ws.index);
            let listener =
                TcpListener::bind(address).await.map_err(|source| SimError::Listen { address, source })?;
            sim.addresses.push(listener.local_addr().map_err(|source| SimError::Listen { address, source })?);
            let router = api::routes().build(&world, ws);
            sim.loops.push(tokio::spawn(accept(listener, router)).abort_handle());
        }
        Ok(sim)
    }

    /// `http://127.0.0.1:PORT` of the i-th workspace; empty if there is none.
    pub fn url(&self, i: usize) -> String {
        self.addresses.get(i).map_or_else(String::new, |a| format!("http://{a}"))
    }

    /// All URLs.
    pub fn urls(&self) -> Vec<String> {
        (0..self.addresses.len()).map(|i| self.url(i)).collect()
    }

    /// The bearer token that every workspace accepts.
    pub fn token(&self) -> &'static str {
        crate::identity::TOKEN
    }

    /// What all workspaces were asked.
    pub fn calls(&self) -> CallReport {
        let mut all = CallReport::default();
        for ws in &self.world.workspaces {
            all.merge(ws.calls.report());
        }
        all
    }

    /// What one workspace was asked.
    pub fn calls_of(&self, i: usize) -> CallReport {
        self.world.workspaces.get(i).map(|ws| ws.calls.report()).unwrap_or_default()
    }

    /// Sets all counters to zero.
    pub fn reset_calls(&self) {
        for ws in &self.world.workspaces {
            ws.calls.reset();
        }
    }

    /// Arms a fault.
    pub fn add_fault(&self, fault: Fault) -> Result<(), SimError> {
        Ok(self.world.faults.add(fault)?)
    }

    /// How often the faults in force have struck.
    pub fn faults_fired(&self) -> u64 {
        self.world.faults.fired()
    }

    /// Disarms all faults, and lets go the calls that they delay.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// Changes a workspace as its users would.
    pub fn mutate(&self, i: usize, mutation: &Mutation) -> Result<MutationReport, SimError> {
        let ws = self.world.workspaces.get(i).ok_or(SimError::NoWorkspace(i))?;
        population::known(&mutation.kind)?;
        Ok(population::mutate(&self.world, ws, mutation))
    }

    /// Adds or changes a token or client in every workspace.
    pub fn identity(&self, spec: &IdentitySpec) {
        for ws in &self.world.workspaces {
            ws.identities.define(spec.clone());
        }
    }

    /// The simulator's clock, to be moved.
    pub fn clock(&self) -> &Clock {
        &self.world.clock
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        for handle in &self.loops {
            handle.abort();
        }
    }
}

pub(crate) fn make(config: SimConfig) -> Result<World, SimError> {
    let faults = Faults::default();
    for fault in &config.faults {
        faults.add(fault.clone())?;
    }
    let seed = |label: &str, i: usize, shared: bool| {
        Rng::of(config.seed, label, if shared { 0 } else { i as u64 }).next()
    };
    let mut workspaces: Vec<Arc<Workspace>> = Vec::new();
    for i in 0..config.workspaces.max(1) {
        let first = workspaces.first();
        let account = match first {
            Some(ws) if config.share_account => Arc::clone(&ws.account),
            _ => Arc::new(Account::new(seed("account", i, config.share_account))),
        };
        let metastore = match first {
            Some(ws) if config.share_metastore => Arc::clone(&ws.metastore),
            _ => Arc::new(Metastore::new(
                seed("metastore", i, config.share_metastore),
                &format!("metastore-{i}"),
            )),
        };
        workspaces.push(Arc::new(Workspace::new(i, &config, account, metastore)));
    }
    let world = World { config, clock: Clock::new(), faults, workspaces };
    for ws in &world.workspaces {
        population::populate(&world, ws);
    }
    Ok(world)
}

fn nth_address(first: SocketAddr, i: usize) -> SocketAddr {
    let port =
        if first.port() == 0 { 0 } else { first.port().saturating_add(u16::try_from(i).unwrap_or(u16::MAX)) };
    SocketAddr::new(first.ip(), port)
}

/// Serves one workspace until it is aborted, which aborts its connections too.
async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The sentinel error that makes hyper drop a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was reset by a fault")]
struct Reset;

async fn connection(stream: TcpStream, router: Router) {
    // Small answers must not wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&reset);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut router = router.clone();
        let asked = Arc::clone(&asked);
        async move {
            let response: Result<Response, Infallible> = router.call(request.map(Body::new)).await;
            match response {
                Ok(response) if response.extensions().get::<ResetConnection>().is_some() => {
                    asked.store(true, Ordering::Relaxed);
                    Err(Reset)
                }
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        }
    });
    let mut connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is a client gone or a body that a fault cut short; nobody here can act on it.
    let _ = Pin::new(&mut connection).await;
    if reset.load(Ordering::Relaxed) {
        // Zero linger turns the close into a RST, which is what a broken load balancer sends.
        let stream = connection.into_parts().io.into_inner();
        let _ = stream.set_zero_linger();
    }
}
