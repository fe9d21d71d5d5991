//! Git folders and git credentials (reference section 3.3).
//!
//! <https://docs.databricks.com/api/workspace/repos>

use serde_json::{Value, json};

use crate::api::workspace::{forget, tree_error};
use crate::errors::ApiError;
use crate::paging::{self, Listing};
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::tree::{NewNode, NodeKind, canonical, split};

/// Name of the documents in the store; the id is that of the tree's entry.
pub(crate) const REPO: &str = "repo";
const CREDENTIAL: &str = "git_credential";

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/repos", "repos", list);
    r.post("/api/2.0/repos", "repos", create);
    r.get("/api/2.0/repos/{id}", "repos", get);
    r.patch("/api/2.0/repos/{id}", "repos", update);
    r.delete("/api/2.0/repos/{id}", "repos", delete);
    r.get("/api/2.0/git-credentials", "git-credentials", credentials);
    r.post("/api/2.0/git-credentials", "git-credentials", create_credential);
    r.get("/api/2.0/git-credentials/{id}", "git-credentials", credential);
    r.patch("/api/2.0/git-credentials/{id}", "git-credentials", update_credential);
    r.delete("/api/2.0/git-credentials/{id}", "git-credentials", delete_credential);
}

fn absent(id: &str) -> ApiError {
    ApiError::absent(format!("Repo with id {id} does not exist."))
}

/// About 20 a page; the token is asked for by the name it is returned under. Without a prefix, or with
/// that of the root, only what is under /Repos (section 3.3).
fn list(req: &Req) -> Reply {
    let prefix = req.query("path_prefix").unwrap_or("/");
    let prefix = match canonical(prefix).as_deref() {
        None | Some("/") => "/Repos".to_owned(),
        Some(other) => other.to_owned(),
    };
    let listing =
        Listing { kind: REPO, parent: None, size: &[], default: 20, max: 20, token: "next_page_token" };
    let store = req.ws.store();
    let page =
        paging::page(req, &store, &listing, |r| r["path"].as_str().is_some_and(|p| p.starts_with(&prefix)))?;
    ok(page.body("repos"))
}

fn get(req: &Req) -> Reply {
    let repo = req.ws.store().get(REPO, req.param("id"));
    ok(repo.ok_or_else(|| absent(req.param("id")))?)
}

fn create(req: &Req) -> Reply {
    let body = req.json()?;
    let (url, provider) = (req.need("url")?, req.need("provider")?);
    let name =
        url.trim_end_matches('/').rsplit('/').next().unwrap_or("repo").trim_end_matches(".git").to_owned();
    let path = match req.arg("path").filter(|p| !p.is_empty()) {
        Some(path) => canonical(&path)
            .ok_or_else(|| ApiError::invalid(format!("Path ({path}) doesn't start with '/'")))?,
        None => format!("/Repos/{}/{name}", req.caller.name),
    };
    let id = req.ws.fresh_number();
    {
        let mut tree = req.ws.tree();
        // The folder of the user under /Repos is made on the way; elsewhere the parent must exist.
        if path.starts_with("/Repos/") && path.matches('/').count() == 3 {
            let parent = split(&path).0.to_owned();
            tree.mkdirs(&parent, req.now(), || req.ws.fresh_number()).map_err(|e| tree_error(e, &parent))?;
        }
        let node = NewNode { kind: NodeKind::Repo, ..NewNode::directory(id, req.now()) };
        tree.add(&path, node).map_err(|e| tree_error(e, &path))?;
    }
    let mut repo = json!({
        "id": id, "path": path, "url": url, "provider": provider, "branch": "main",
        "head_commit_id": req.ws.fresh().hex(40),
    });
    if let Some(sparse) = body.get("sparse_checkout") {
        repo["sparse_checkout"] = sparse.clone();
    }
    req.ws.store().put(REPO, &id.to_string(), &repo);
    ok(repo)
}

/// A tag detaches the head: the branch is gone (section 3.3).
fn update(req: &Req) -> Reply {
    let body = req.json()?;
    let commit = req.ws.fresh().hex(40);
    let changed = req.ws.store().edit(REPO, req.param("id"), |repo| {
        let Some(map) = repo.as_object_mut() else { return };
        match (body.get("branch"), body.get("tag")) {
            (Some(branch), _) => drop(map.insert("branch".to_owned(), branch.clone())),
            (None, Some(_)) => drop(map.shift_remove("branch")),
            (None, None) => {}
        }
        if body.contains_key("branch") || body.contains_key("tag") {
            map.insert("head_commit_id".to_owned(), json!(commit));
        }
        // Patterns may change, but only where sparse checkout was chosen at creation.
        if let (Some(sparse), true) = (body.get("sparse_checkout"), map.contains_key("sparse_checkout")) {
            map.insert("sparse_checkout".to_owned(), sparse.clone());
        }
    });
    changed.map_or_else(|| Err(absent(req.param("id"))), |_| done())
}

fn delete(req: &Req) -> Reply {
    let id = req.param("id");
    let there = req.ws.store().contains(REPO, id);
    let gone = id.parse().map(|id| req.ws.tree().remove_id(id)).unwrap_or_default();
    if !there {
        return Err(absent(id));
    }
    forget(&req.ws, &gone);
    req.ws.store().remove(REPO, id);
    done()
}

/// Of the calling user only: an admin cannot list others' (section 3.3); the token is never returned.
fn credentials(req: &Req) -> Reply {
    let mine: Vec<Value> = req
        .ws
        .store()
        .all(CREDENTIAL)
        .into_iter()
        .filter(|c| c["_owner"] == *req.caller.name)
        .map(shown)
        .collect();
    ok(json!({"credentials": mine}))
}

fn shown(mut credential: Value) -> Value {
    if let Some(map) = credential.as_object_mut() {
        map.shift_remove("_owner");
    }
    credential
}

fn own(req: &Req) -> Result<Value, ApiError> {
    let found = req.ws.store().get(CREDENTIAL, req.param("id")).filter(|c| c["_owner"] == *req.caller.name);
    found.ok_or_else(|| ApiError::absent(format!("Git credential {} does not exist.", req.param("id"))))
}

fn credential(req: &Req) -> Reply {
    Ok(crate::reply::Answer::json(&shown(own(req)?)))
}

fn create_credential(req: &Req) -> Reply {
    let mut credential = req.json()?;
    let provider = req.need("git_provider")?;
    credential.shift_remove("personal_access_token");
    let mut store = req.ws.store();
    let twin = |c: &Value| {
        c["_owner"] == *req.caller.name
            && c["git_provider"] == *provider
            && c["name"] == *credential.get("name").unwrap_or(&Value::Null)
    };
    if store.find(CREDENTIAL, twin).is_some() {
        return Err(ApiError::new(
            400,
            "RESOURCE_ALREADY_EXISTS",
            "Only one Git credential is supported per provider and user at this time.",
        ));
    }
    let id = req.ws.fresh_number();
    credential.insert("credential_id".to_owned(), json!(id));
    let body = Value::Object(credential.clone());
    credential.insert("_owner".to_owned(), json!(req.caller.name));
    store.put(CREDENTIAL, &id.to_string(), &Value::Object(credential));
    ok(body)
}

fn update_credential(req: &Req) -> Reply {
    own(req)?;
    let body = req.json()?;
    req.ws.store().edit(CREDENTIAL, req.param("id"), |c| {
        for field in ["git_provider", "git_username", "git_email", "name", "is_default_for_provider"] {
            if let Some(value) = body.get(field) {
                c[field] = value.clone();
            }
        }
    });
    done()
}

fn delete_credential(req: &Req) -> Reply {
    own(req)?;
    req.ws.store().remove(CREDENTIAL, req.param("id"));
    done()
}
