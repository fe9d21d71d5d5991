//! Importing into the workspace tree: JSON, multipart, raw (reference sections 2.5 and 3.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use crate::api::workspace::{MAX_CONTENT, tree_error};
use crate::archive;
use crate::content::{self, Body};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, done};
use crate::tree::{Language, NewNode, NodeKind, canonical};

/// Section 2.5: the largest workspace file.
const MAX_FILE: u64 = 500 << 20;

/// What is to be imported, however it travelled.
#[derive(Debug, Default)]
struct Import {
    path: String,
    format: String,
    language: Option<Language>,
    overwrite: bool,
    content: Bytes,
}

/// `POST /api/2.0/workspace/import`.
pub(crate) fn import(req: &Req) -> Reply {
    let mut import = match boundary(req) {
        Some(boundary) => multipart(&req.body, &boundary)?,
        None => from_json(req)?,
    };
    import.path = canonical(&import.path)
        .ok_or_else(|| ApiError::invalid(format!("Path ({}) doesn't start with '/'", import.path)))?;
    // Section 2.5: a form carries workspace files up to the cap of the product.
    let as_file = matches!(import.format.as_str(), "RAW" | "AUTO") && boundary(req).is_some();
    let cap = if as_file { MAX_FILE } else { MAX_CONTENT };
    if import.content.len() as u64 > cap {
        return Err(ApiError::new(
            400,
            "MAX_NOTEBOOK_SIZE_EXCEEDED",
            format!("The content of {} exceeds the maximum of {cap} bytes.", import.path),
        ));
    }
    match import.format.as_str() {
        "SOURCE" => {
            let language = import.language.ok_or_else(|| {
                ApiError::invalid("The language must be specified when importing in SOURCE format.")
            })?;
            let path = import.path.clone();
            notebook(req, &import, &path, language)
        }
        "JUPYTER" => jupyter(req, &import),
        "DBC" => dbc(req, &import),
        "RAW" => file(req, &import),
        "AUTO" => auto(req, &import),
        other => Err(ApiError::invalid(format!("Unsupported import format: {other}"))),
    }
}

/// Section 3.3: the first line decides between notebook and file, whatever the caller meant.
fn auto(req: &Req, import: &Import) -> Reply {
    let (stem, extension) = import.path.rsplit_once('.').unwrap_or((&import.path, ""));
    let language = match extension {
        "py" => Some(Language::Python),
        "sql" => Some(Language::Sql),
        "scala" => Some(Language::Scala),
        "r" => Some(Language::R),
        _ => None,
    };
    let marked = std::str::from_utf8(&import.content).is_ok_and(|t| content::strip_marker(t).is_some());
    match (extension, language) {
        ("ipynb", _) => jupyter(req, import),
        (_, Some(language)) if marked => notebook(req, import, stem, language),
        _ => file(req, import),
    }
}

fn notebook(req: &Req, import: &Import, path: &str, language: Language) -> Reply {
    let text = String::from_utf8_lossy(&import.content);
    let source = content::strip_marker(&text).unwrap_or(&text).to_owned();
    write(req, path, import.overwrite, NodeKind::Notebook, Some(language), Body::Written(Bytes::from(source)))
}

fn jupyter(req: &Req, import: &Import) -> Reply {
    let language = content::jupyter_language(&import.content)
        .ok_or_else(|| ApiError::new(400, "BAD_REQUEST", "The notebook is not valid Jupyter JSON."))?;
    let path = import.path.strip_suffix(".ipynb").unwrap_or(&import.path);
    write(
        req,
        path,
        import.overwrite,
        NodeKind::Notebook,
        Some(language),
        Body::Jupyter(import.content.clone()),
    )
}

fn file(req: &Req, import: &Import) -> Reply {
    write(req, &import.path, import.overwrite, NodeKind::File, None, Body::Written(import.content.clone()))
}

/// A DBC of one notebook becomes that notebook, of several a directory.
fn dbc(req: &Req, import: &Import) -> Reply {
    let entries = archive::unzip(&import.content)
        .ok_or_else(|| ApiError::new(400, "BAD_REQUEST", "The archive cannot be read."))?;
    if req.ws.tree().at(&import.path).is_some() {
        // Section 3.3 of the vendor's page: overwrite is not supported for DBC.
        return Err(ApiError::new(
            400,
            "RESOURCE_ALREADY_EXISTS",
            format!("Path ({}) already exists.", import.path),
        ));
    }
    let single = matches!(entries.as_slice(), [(name, _)] if !name.contains('/'));
    for (name, bytes) in entries {
        let inner = name.split_once('/').map_or(name.as_str(), |(_, rest)| rest);
        let path = if single { import.path.clone() } else { format!("{}/{inner}", import.path) };
        let (stem, extension) = path.rsplit_once('.').unwrap_or((&path, ""));
        let is_notebook = matches!(extension, "python" | "sql" | "scala" | "r") || single;
        let parent = crate::tree::split(stem).0.to_owned();
        if !single {
            let made = req.ws.tree().mkdirs(&parent, req.now(), || req.ws.fresh_number());
            made.map_err(|e| tree_error(e, &parent))?;
        }
        match content::jupyter_language(&bytes).filter(|_| is_notebook) {
            Some(language) => {
                let target = if single { import.path.as_str() } else { stem };
                write(req, target, false, NodeKind::Notebook, Some(language), Body::Jupyter(bytes))?
            }
            None => write(req, &path, false, NodeKind::File, None, Body::Written(bytes))?,
        };
    }
    done()
}

/// `POST /api/2.0/workspace-files/import-file/{path}`, undocumented (section 2.5).
pub(crate) fn import_file(req: &Req) -> Reply {
    let path = canonical(&format!("/{}", req.param("path"))).unwrap_or_default();
    let existing = req.ws.tree().at(&path).map(|n| n.kind);
    match existing {
        // Section 2.5: a notebook in the way has an EMPTY error code.
        Some(NodeKind::Notebook) => {
            return Err(ApiError::new(400, "", format!("Node with name {path} already exists.")));
        }
        Some(_) if !req.flag("overwrite") => {
            return Err(ApiError::exists(format!("Node with name {path} already exists.")));
        }
        _ => {}
    }
    write(req, &path, true, NodeKind::File, None, Body::Written(req.body.clone()))
}

/// Creates or overwrites; overwriting never changes the type of an entry (section 3.3).
fn write(
    req: &Req,
    path: &str,
    overwrite: bool,
    kind: NodeKind,
    language: Option<Language>,
    body: Body,
) -> Reply {
    let mut tree = req.ws.tree();
    if let Some(node) = tree.at_mut(path) {
        if !overwrite {
            return Err(tree_error(crate::tree::TreeError::Exists, path));
        }
        if node.kind != kind {
            return Err(ApiError::invalid(format!(
                "Cannot overwrite the asset at {path} due to type mismatch (asked: {}, actual: {}).",
                kind.api(),
                node.kind.api()
            )));
        }
        node.body = body;
        node.language = language;
        node.modified_ms = req.now().max(node.modified_ms + 1);
        return done();
    }
    let new = NewNode { id: req.ws.fresh_number(), kind, language, now_ms: req.now(), body, resource: None };
    // Section 3.3: no `mkdir -p`; a missing parent is 404.
    tree.add(path, new).map_err(|e| tree_error(e, path))?;
    done()
}

fn from_json(req: &Req) -> Result<Import, ApiError> {
    let body = req.json()?;
    let text = |f: &str| body.get(f).and_then(Value::as_str).unwrap_or_default().to_owned();
    let content = STANDARD
        .decode(text("content"))
        .map_err(|_| ApiError::new(400, "BAD_REQUEST", "content is not valid base64"))?;
    Ok(Import {
        path: req.need("path")?,
        format: Some(text("format")).filter(|f| !f.is_empty()).unwrap_or_else(|| "SOURCE".to_owned()),
        language: language(&text("language"))?,
        overwrite: body.get("overwrite").is_some_and(|o| o == true),
        content: Bytes::from(content),
    })
}

fn language(text: &str) -> Result<Option<Language>, ApiError> {
    match text {
        "" => Ok(None),
        other => Language::parse(other)
            .map(Some)
            .ok_or_else(|| ApiError::invalid(format!("Unknown language: {other}"))),
    }
}

fn boundary(req: &Req) -> Option<String> {
    let content_type = req.headers.get("content-type")?.to_str().ok()?;
    let (_, boundary) = content_type.strip_prefix("multipart/form-data")?.split_once("boundary=")?;
    Some(boundary.trim_matches('"').to_owned())
}

fn multipart(body: &Bytes, boundary: &str) -> Result<Import, ApiError> {
    let mut import = Import { format: "SOURCE".to_owned(), ..Import::default() };
    let delimiter = format!("--{boundary}").into_bytes();
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(found) = find(&body[at..], &delimiter) {
        starts.push(at + found);
        at += found + delimiter.len();
    }
    for pair in starts.windows(2) {
        let part = &body[pair[0] + delimiter.len()..pair[1]];
        let Some(head_end) = find(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&part[..head_end]);
        let from = pair[0] + delimiter.len() + head_end + 4;
        let value = body.slice(from..pair[1].saturating_sub(2).max(from));
        let Some(name) = head.split("name=\"").nth(1).and_then(|n| n.split('"').next()) else { continue };
        let text = String::from_utf8_lossy(&value).into_owned();
        match name {
            "path" => import.path = text,
            "format" => import.format = text,
            "language" => import.language = language(&text)?,
            "overwrite" => import.overwrite = text == "true",
            "content" => import.content = value,
            _ => {}
        }
    }
    Ok(import)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
