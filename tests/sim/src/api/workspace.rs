//! The workspace tree over HTTP (reference sections 2.5 and 3.3).
//!
//! <https://docs.databricks.com/api/workspace/workspace>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::api::workspace_import;
use crate::archive;
use crate::content;
use crate::errors::ApiError;
use crate::reply::{Answer, Reply, Req, done, ok};
use crate::router::Routes;
use crate::state::Workspace;
use crate::tree::{Node, NodeKind, Tree, TreeError, canonical, split};

/// Cap of exports as JSON and of imported content (section 2.5).
pub(crate) const MAX_CONTENT: u64 = 10 << 20;

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/workspace/list", "workspace", list);
    r.get("/api/2.0/workspace/get-status", "workspace", get_status);
    r.get("/api/2.0/workspace/export", "workspace.export", export);
    r.post("/api/2.0/workspace/import", "workspace.import", workspace_import::import);
    r.post("/api/2.0/workspace/mkdirs", "workspace", mkdirs);
    r.post("/api/2.0/workspace/delete", "workspace", delete);
    r.get("/api/2.0/workspace-files/{*path}", "workspace.export", download);
    r.post("/api/2.0/workspace-files/import-file/{*path}", "workspace.import", workspace_import::import_file);
}

/// The canonical path of the parameter `path`.
fn path_arg(req: &Req) -> Result<String, ApiError> {
    let path = req.need("path")?;
    canonical(&path).ok_or_else(|| ApiError::invalid(format!("Path ({path}) doesn't start with '/'")))
}

pub(crate) fn absent(path: &str) -> ApiError {
    ApiError::absent(format!("Path ({path}) doesn't exist."))
}

fn list(req: &Req) -> Reply {
    let path = path_arg(req)?;
    let tree = req.ws.tree();
    let node = tree.at(&path).ok_or_else(|| absent(&path))?;
    // Section 3.3: paths come back with or without the prefix, as they were asked for.
    let prefix = if req.need("path")?.starts_with("/Workspace") { "/Workspace" } else { "" };
    let after: i64 = req.query("notebooks_modified_after").and_then(|t| t.parse().ok()).unwrap_or(i64::MIN);
    let base = if path == "/" { String::new() } else { path.clone() };
    let entries: Vec<Value> = if node.kind.holds() {
        tree.children(node)
            .filter(|n| n.kind != NodeKind::Notebook || n.modified_ms > after)
            .filter(|n| n.kind.holds() || req.sees("workspace", &n.id.to_string()))
            .map(|n| entry(n, &format!("{prefix}{base}/{}", n.name())))
            .collect()
    } else {
        vec![entry(node, &format!("{prefix}{path}"))]
    };
    // Section 3.3: `{}` without `objects` is an empty directory.
    if entries.is_empty() { done() } else { ok(json!({"objects": entries})) }
}

/// One entry as `list` and `get-status` show it.
fn entry(node: &Node, path: &str) -> Value {
    let mut e = Map::new();
    e.insert("object_type".into(), json!(node.kind.api()));
    e.insert("path".into(), json!(path));
    e.insert("object_id".into(), json!(node.id));
    e.insert(
        "resource_id".into(),
        node.resource.as_ref().map_or_else(|| json!(node.id.to_string()), |r| json!(r)),
    );
    if let Some(language) = node.language {
        e.insert("language".into(), json!(language.api()));
    }
    if matches!(node.kind, NodeKind::Notebook | NodeKind::File | NodeKind::Dashboard) {
        e.insert("created_at".into(), json!(node.created_ms));
        e.insert("modified_at".into(), json!(node.modified_ms));
    }
    if node.kind == NodeKind::File {
        e.insert("size".into(), json!(content::size(&node.body)));
    }
    Value::Object(e)
}

fn get_status(req: &Req) -> Reply {
    let path = path_arg(req)?;
    let tree = req.ws.tree();
    let node = tree.at(&path).ok_or_else(|| absent(&path))?;
    let asked = req.need("path")?;
    let mut status = entry(node, asked.trim_end_matches('/'));
    if path == "/" {
        status["path"] = json!("/");
    }
    // Undocumented parameter, section 3.3.
    if req.flag("return_git_info") {
        let repo = std::iter::once(node).chain(tree.ancestors(node)).find(|n| n.kind == NodeKind::Repo);
        if let Some(repo) = repo.and_then(|n| req.ws.store().get("repo", &n.id.to_string())) {
            status["git_info"] = json!({
                "id": repo["id"], "path": repo["path"], "url": repo["url"], "provider": repo["provider"],
                "branch": repo["branch"], "head_commit_id": repo["head_commit_id"],
            });
        }
    }
    ok(status)
}

fn export(req: &Req) -> Reply {
    let path = path_arg(req)?;
    let tree = req.ws.tree();
    let node = tree.at(&path).ok_or_else(|| absent(&path))?;
    let format = req.query("format").unwrap_or("SOURCE").to_owned();
    let direct = req.flag("direct_download");
    let (file_type, body) = match node.kind {
        NodeKind::File if direct => return Ok(stream_file(node)),
        NodeKind::File => {
            // Section 2.5: for files the reason stands only in the details.
            if content::size(&node.body) > MAX_CONTENT {
                return Err(ApiError::new(
                    400,
                    "BAD_REQUEST",
                    format!("The size of {path} exceeds the maximum of 10485760 bytes."),
                )
                .with_reason("MAX_READ_SIZE_EXCEEDED", json!({"path": path})));
            }
            let extension = node.name().rsplit_once('.').map_or("", |(_, e)| e).to_owned();
            (extension, content::file(&node.body))
        }
        NodeKind::Notebook => notebook(req, node, &format)?,
        // Section 3.3: a directory comes as a zip, whatever the format.
        NodeKind::Directory | NodeKind::Repo if format != "HTML" => {
            ("dbc".to_owned(), directory(&tree, node)?)
        }
        _ => {
            return Err(ApiError::new(
                400,
                "BAD_REQUEST",
                format!("{} objects cannot be exported: {path}", node.kind.api()),
            ));
        }
    };
    if body.len() as u64 > MAX_CONTENT {
        return Err(ApiError::new(
            400,
            "MAX_NOTEBOOK_SIZE_EXCEEDED",
            format!("The size of {path} ({} bytes) exceeds the maximum of 10485760 bytes.", body.len()),
        ));
    }
    if direct {
        return Ok(Answer::bytes("application/octet-stream", body));
    }
    ok(json!({"content": STANDARD.encode(&body), "file_type": file_type}))
}

fn notebook(req: &Req, node: &Node, format: &str) -> Result<(String, bytes::Bytes), ApiError> {
    let language = node.language.unwrap_or(crate::tree::Language::Python);
    let outputs = req.query("outputs") != Some("NONE");
    let source = || content::as_source(&node.body, language);
    match format {
        "SOURCE" | "AUTO" | "RAW" => Ok((language.extension().to_owned(), source())),
        "JUPYTER" => {
            Ok(("ipynb".to_owned(), content::as_jupyter(&node.body, language, node.name(), outputs)))
        }
        "DBC" => {
            let inside = content::as_jupyter(&node.body, language, node.name(), true);
            Ok(("dbc".to_owned(), archive::zip(&[(archive_name(node, node.name()), inside)])))
        }
        "HTML" => {
            let text = String::from_utf8_lossy(&source()).replace('&', "&amp;").replace('<', "&lt;");
            Ok((
                "html".to_owned(),
                format!("<!DOCTYPE html><html><body><pre>{text}</pre></body></html>").into(),
            ))
        }
        other => Err(ApiError::invalid(format!("Unsupported export format: {other}"))),
    }
}

/// Names in a DBC carry the language as extension.
fn archive_name(node: &Node, relative: &str) -> String {
    match node.language {
        Some(crate::tree::Language::Python) => format!("{relative}.python"),
        Some(language) => format!("{relative}.{}", language.extension()),
        None => relative.to_owned(),
    }
}

fn directory(tree: &Tree, top: &Node) -> Result<bytes::Bytes, ApiError> {
    let above = split(&tree.path(top)).0.trim_end_matches('/').len() + 1;
    let mut entries = Vec::new();
    let mut total = 0;
    for node in tree.below(top) {
        let body = match node.kind {
            NodeKind::Notebook => content::as_jupyter(
                &node.body,
                node.language.unwrap_or(crate::tree::Language::Python),
                node.name(),
                true,
            ),
            NodeKind::File if content::size(&node.body) <= MAX_CONTENT => content::file(&node.body),
            _ => continue,
        };
        total += body.len() as u64;
        if total > MAX_CONTENT {
            return Err(ApiError::new(
                400,
                "MAX_NOTEBOOK_SIZE_EXCEEDED",
                format!("The size of {} exceeds the maximum of 10485760 bytes.", tree.path(top)),
            ));
        }
        let path = tree.path(node);
        entries.push((archive_name(node, path.get(above..).unwrap_or(node.name())), body));
    }
    Ok(archive::zip(&entries))
}

fn stream_file(node: &Node) -> Answer {
    let size = content::size(&node.body);
    Answer::lazy("application/octet-stream", size, content::chunks(&node.body))
}

/// `GET /api/2.0/workspace-files/{path}`, undocumented (section 2.5).
fn download(req: &Req) -> Reply {
    let path = canonical(&format!("/{}", req.param("path"))).unwrap_or_default();
    let tree = req.ws.tree();
    match tree.at(&path) {
        Some(node) if node.kind == NodeKind::File => Ok(stream_file(node)),
        _ => Err(absent(&path)),
    }
}

fn mkdirs(req: &Req) -> Reply {
    let path = path_arg(req)?;
    let ws = &req.ws;
    match ws.tree().mkdirs(&path, req.now(), || ws.fresh_number()) {
        Ok(_) => done(),
        Err(_) => Err(ApiError::new(
            400,
            "RESOURCE_ALREADY_EXISTS",
            format!("An object other than a directory is in the way of {path}."),
        )),
    }
}

fn delete(req: &Req) -> Reply {
    let path = path_arg(req)?;
    let recursive = req.json()?.get("recursive").is_some_and(|r| r == true);
    let protected = matches!(path.as_str(), "/" | "/Users" | "/Shared" | "/Repos");
    let gone = {
        let mut tree = req.ws.tree();
        let node = tree.at(&path).ok_or_else(|| absent(&path))?;
        if protected {
            return Err(ApiError::new(400, "INVALID_PARAMETER_VALUE", format!("Folder {path} is protected")));
        }
        if !recursive && node.kind.holds() && tree.children(node).next().is_some() {
            return Err(ApiError::new(400, "DIRECTORY_NOT_EMPTY", format!("Folder ({path}) is not empty")));
        }
        tree.remove(&path)
    };
    forget(&req.ws, &gone);
    done()
}

/// What other services keep about entries that are gone.
pub(crate) fn forget(ws: &Workspace, gone: &[Node]) {
    let mut store = ws.store();
    for node in gone {
        let kind = match node.kind {
            NodeKind::Directory => "directories",
            NodeKind::Notebook => "notebooks",
            NodeKind::File => "files",
            NodeKind::Repo => "repos",
            _ => "",
        };
        store.remove("acl", &format!("{kind}/{}", node.id));
        if node.kind == NodeKind::Repo {
            store.remove("repo", &node.id.to_string());
        }
        if let (NodeKind::Dashboard, Some(id)) = (node.kind, &node.resource) {
            store.remove("dashboard", id);
        }
    }
}

/// The error of an entry that could not be made.
pub(crate) fn tree_error(error: TreeError, path: &str) -> ApiError {
    match error {
        TreeError::NoParent(parent) => {
            ApiError::absent(format!("The parent folder ({parent}) does not exist."))
        }
        // The workspace API answers 400 with this code where others answer 409.
        TreeError::Exists => {
            ApiError::new(400, "RESOURCE_ALREADY_EXISTS", format!("Path ({path}) already exists."))
        }
    }
}
