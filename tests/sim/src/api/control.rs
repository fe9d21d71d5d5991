//! `/__sim/`: the counters, faults, changes, identities and clock of the simulator itself.
//!
//! Never counted, limited or faulted, and without a token: it must work whatever is simulated.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::calls::CallReport;
use crate::errors::ApiError;
use crate::faults::Fault;
use crate::identity::IdentitySpec;
use crate::population::{self, Mutation};
use crate::reply::{Reply, Req, done, ok};
use crate::router::{Guard, Routes};

pub(crate) fn routes(r: &mut Routes) {
    let mut add = |method, path, handler| r.add(method, path, "sim", Guard::Control, handler);
    add("GET", "/__sim/calls", calls);
    add("POST", "/__sim/calls/reset", reset_calls);
    add("POST", "/__sim/faults", add_faults);
    add("DELETE", "/__sim/faults", clear_faults);
    add("POST", "/__sim/mutate", mutate);
    add("POST", "/__sim/identities", define_identity);
    add("DELETE", "/__sim/identities/{token}", revoke_identity);
    add("POST", "/__sim/clock", clock);
    add("GET", "/__sim/info", info);
}

/// Of this workspace, or of all with `?all=true`.
fn calls(req: &Req) -> Reply {
    let mut report = CallReport::default();
    for ws in &req.world.workspaces {
        if ws.index == req.ws.index || req.flag("all") {
            report.merge(ws.calls.report());
        }
    }
    ok(serde_json::to_value(report).unwrap_or_default())
}

fn reset_calls(req: &Req) -> Reply {
    for ws in &req.world.workspaces {
        if ws.index == req.ws.index || req.flag("all") {
            ws.calls.reset();
        }
    }
    done()
}

/// One fault or a list of them.
fn add_faults(req: &Req) -> Reply {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        Many(Vec<Fault>),
        One(Box<Fault>),
    }
    let faults = match parse::<OneOrMany>(req) {
        Ok(OneOrMany::Many(faults)) => faults,
        Ok(OneOrMany::One(fault)) => vec![*fault],
        // The untagged error says nothing; that of a single fault names the field.
        Err(error) => return Err(parse::<Fault>(req).err().unwrap_or(error)),
    };
    for fault in faults {
        req.world.faults.add(fault).map_err(|e| ApiError::invalid(e.to_string()))?;
    }
    done()
}

fn clear_faults(req: &Req) -> Reply {
    req.world.faults.clear();
    done()
}

fn mutate(req: &Req) -> Reply {
    let mutation: Mutation = parse(req)?;
    population::known(&mutation.kind).map_err(|e| ApiError::invalid(e.to_string()))?;
    let report = population::mutate(&req.world, &req.ws, &mutation);
    ok(serde_json::to_value(report).unwrap_or_default())
}

fn define_identity(req: &Req) -> Reply {
    let spec: IdentitySpec = parse(req)?;
    req.ws.identities.define(spec);
    done()
}

fn revoke_identity(req: &Req) -> Reply {
    if req.ws.identities.revoke(req.param("token")) { done() } else { Err(ApiError::absent("no such token")) }
}

/// `{"advance_ms": N}`.
fn clock(req: &Req) -> Reply {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Advance {
        advance_ms: i64,
    }
    let advance: Advance = parse(req)?;
    req.world.clock.advance(advance.advance_ms);
    ok(json!({"now_ms": req.now()}))
}

/// What a test wants to know about a workspace: ids, and how many things of each kind it holds.
fn info(req: &Req) -> Reply {
    let counts: serde_json::Map<String, serde_json::Value> =
        population::kinds().map(|k| (k.name.to_owned(), json!((k.ids)(&req.ws).len()))).collect();
    ok(json!({
        "workspace_id": req.ws.id, "name": req.ws.name, "account_id": req.ws.account.id,
        "metastore_id": req.ws.metastore.id, "seed": req.world.config.seed, "items": counts,
    }))
}

fn parse<T: DeserializeOwned>(req: &Req) -> Result<T, ApiError> {
    serde_json::from_slice(&req.body).map_err(|e| ApiError::invalid(e.to_string()))
}
