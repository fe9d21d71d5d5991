//! The SQL Statement Execution API (section 5.4).
//!
//! A statement runs whole while it is submitted; a caller who will not wait is told so later. Its answer
//! is HTTP 200 also when it FAILED.
//!
//! <https://docs.databricks.com/api/workspace/statementexecution>

mod alter;
mod changes;
mod columns;
mod create;
mod cursor;
mod query;
mod relations;
mod run;
mod show;
mod statement;
pub(crate) mod types;

use serde_json::{Map, Value, json};

use crate::api::uc;
use crate::api::warehouses::{self, WAREHOUSE};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, done, ok};
use crate::router::{Guard, Routes};
pub(crate) use cursor::Cursor;
use cursor::Sql;
use query::Rows;
pub(crate) use relations::view_properties;
pub(crate) use run::Session;

/// Statements by id, with their results.
const STATEMENT: &str = "sql_statement";

/// Section 5.4: the longest text.
const MAX_TEXT: usize = 16 << 20;

/// Rows of one chunk.
const CHUNK: usize = 1000;

/// Results are readable for an hour, statements known for twelve.
const RESULT_MS: i64 = 3_600_000;
const KNOWN_MS: i64 = 12 * RESULT_MS;

/// The most statements remembered, so that a long run does not fill the memory.
const REMEMBERED: usize = 2000;

pub(crate) fn routes(r: &mut Routes) {
    let base = "/api/2.0/sql/statements";
    r.post(base, "sql.statements", execute);
    r.get(&format!("{base}/{{id}}"), "sql.statements", get);
    r.post(&format!("{base}/{{id}}/cancel"), "sql.statements", cancel);
    r.get(&format!("{base}/{{id}}/result/chunks/{{chunk}}"), "sql.statements", chunk);
    r.add("GET", "/sim-storage/results/{id}/{chunk}", "sql.results", Guard::Open, presigned);
}

fn execute(req: &Req) -> Reply {
    let body = req.json()?;
    let field = |f: &str| body.get(f).and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = field("statement");
    if text.is_empty() {
        return Err(ApiError::invalid("Missing required field: statement"));
    }
    if text.len() > MAX_TEXT {
        return Err(ApiError::invalid(format!("The statement is larger than {MAX_TEXT} bytes.")));
    }
    let wait = wait_seconds(&field("wait_timeout"))?;
    let external = disposition(&field("disposition"), &field("format"))?;
    let session = session(req, &body)?;
    let text = bind(&text, body.get("parameters"))?;
    let rows = {
        let mut metastore = uc::open(req)?;
        run::run(&mut metastore, &text, &session)
    };
    let limit = body.get("row_limit").and_then(Value::as_u64).and_then(|l| usize::try_from(l).ok());
    let id = req.ws.fresh().uuid();
    let statement = record(&id, rows, limit, external, req.now());
    let mut store = req.ws.store();
    if store.len(STATEMENT) >= REMEMBERED
        && let Some(oldest) = store.nth_id(STATEMENT, 0)
    {
        store.remove(STATEMENT, &oldest);
    }
    let mut kept = statement.clone();
    kept["_pending"] = json!(wait == 0);
    store.put(STATEMENT, &id, &kept);
    if wait == 0 {
        return ok(json!({"statement_id": id, "status": {"state": "PENDING"}}));
    }
    ok(shown(req, statement, 0))
}

/// `0s`, or 5 to 50 seconds; 10 if not given (section 5.4).
fn wait_seconds(text: &str) -> Result<u64, ApiError> {
    if text.is_empty() {
        return Ok(10);
    }
    match text.strip_suffix('s').and_then(|n| n.parse().ok()) {
        Some(n) if n == 0 || (5..=50).contains(&n) => Ok(n),
        _ => Err(ApiError::invalid(format!("wait_timeout must be 0s or between 5s and 50s, not {text}."))),
    }
}

/// Whether results go by external links; inline ones are JSON only (section 5.4).
fn disposition(disposition: &str, format: &str) -> Result<bool, ApiError> {
    match (disposition, format) {
        ("" | "INLINE", "" | "JSON_ARRAY") => Ok(false),
        ("EXTERNAL_LINKS", "" | "JSON_ARRAY") => Ok(true),
        ("EXTERNAL_LINKS", _) => {
            Err(ApiError::new(501, "NOT_IMPLEMENTED", "The simulator writes results as JSON_ARRAY only."))
        }
        _ => Err(ApiError::invalid("The INLINE disposition supports the JSON_ARRAY format only.")),
    }
}

/// Where a statement runs: its warehouse, which it starts, and the names it resolves against.
fn session(req: &Req, body: &Map<String, Value>) -> Result<Session, ApiError> {
    let field =
        |f: &str| body.get(f).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_lowercase);
    let id =
        field("warehouse_id").ok_or_else(|| ApiError::invalid("Missing required field: warehouse_id"))?;
    let Some(warehouse) = req.ws.store().get(WAREHOUSE, &id) else {
        return Err(ApiError::absent(format!("SQL warehouse {id} does not exist.")));
    };
    // Section 5.4: the first call starts a stopped warehouse.
    if warehouse["state"] == "STOPPED" {
        warehouses::turn_to(&req.ws, &id, "RUNNING", req.now());
    }
    let assigned = req.ws.store().get(uc::ASSIGNMENT, &req.ws.id.to_string()).unwrap_or_default();
    let default = assigned["default_catalog_name"].as_str().unwrap_or("main").to_owned();
    Ok(Session {
        catalog: field("catalog").unwrap_or(default),
        schema: field("schema").unwrap_or_else(|| "default".to_owned()),
        pro: warehouse["warehouse_type"] == "PRO" || warehouse["enable_serverless_compute"] == true,
    })
}

/// Puts named parameters into the text as literals, outside of quotes.
fn bind(text: &str, parameters: Option<&Value>) -> Result<String, ApiError> {
    let Some(parameters) = parameters.and_then(Value::as_array).filter(|p| !p.is_empty()) else {
        return Ok(text.to_owned());
    };
    let mut out = String::with_capacity(text.len());
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        match (quote, c) {
            (Some('\''), '\\') => {
                out.push(c);
                out.extend(chars.next().map(|(_, c)| c));
                continue;
            }
            (Some(q), c) if q == c => quote = None,
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, ':') => {
                let rest = &text[i + 1..];
                let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                if len > 0 && rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    let name = &rest[..len];
                    let found = parameters.iter().find(|p| p["name"] == name);
                    // A colon also stands in struct types and paths: only known names are replaced.
                    if let Some(parameter) = found {
                        out.push_str(&literal(parameter)?);
                        for _ in 0..len {
                            chars.next();
                        }
                        continue;
                    }
                }
            }
            _ => {}
        }
        out.push(c);
    }
    Ok(out)
}

fn literal(parameter: &Value) -> Result<String, ApiError> {
    let Some(value) = parameter["value"].as_str() else { return Ok("NULL".to_owned()) };
    let kind = parameter["type"].as_str().unwrap_or("STRING").to_uppercase();
    if kind == "STRING" || kind == "DATE" || kind.starts_with("TIMESTAMP") {
        return Ok(format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
    }
    if value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')) {
        return Ok(value.to_owned());
    }
    Err(ApiError::invalid(format!("'{value}' is not a valid {kind}.")))
}

/// A statement that has ended.
fn record(id: &str, rows: Sql<Rows>, limit: Option<usize>, external: bool, now: i64) -> Value {
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            return json!({
                "statement_id": id, "_at": now,
                // Section 5.4: SQL errors come as HTTP 200 with the state FAILED.
                "status": {"state": "FAILED", "sql_state": error.state, "error": {"error_code": "BAD_REQUEST", "message": error.to_string()}},
            });
        }
    };
    let total = rows.values.len();
    let kept: Vec<_> = rows.values.into_iter().take(limit.unwrap_or(usize::MAX)).collect();
    let columns: Vec<Value> = rows
        .columns
        .iter()
        .enumerate()
        .map(|(i, name)| json!({"name": name, "position": i, "type_name": "STRING", "type_text": "STRING"}))
        .collect();
    let chunks: Vec<Value> = (0..kept.len().div_ceil(CHUNK))
        .map(|i| {
            let offset = i * CHUNK;
            json!({"chunk_index": i, "row_offset": offset, "row_count": (kept.len() - offset).min(CHUNK)})
        })
        .collect();
    json!({
        "statement_id": id, "_at": now, "_rows": kept, "_external": external,
        "status": {"state": "SUCCEEDED"},
        "manifest": {
            "format": "JSON_ARRAY", "schema": {"column_count": columns.len(), "columns": columns},
            "total_row_count": kept.len(), "total_chunk_count": chunks.len(), "chunks": chunks, "truncated": kept.len() < total,
        },
    })
}

/// The statement as a caller sees it, with one chunk of its result.
fn shown(req: &Req, mut statement: Value, index: usize) -> Value {
    let result = (statement["status"]["state"] == "SUCCEEDED").then(|| result(req, &statement, index));
    if let Some(map) = statement.as_object_mut() {
        map.retain(|k, _| !k.starts_with('_'));
        if let Some(result) = result {
            map.insert("result".to_owned(), result);
        }
    }
    statement
}

fn result(req: &Req, statement: &Value, index: usize) -> Value {
    let rows = statement["_rows"].as_array().map_or(&[][..], Vec::as_slice);
    let offset = index * CHUNK;
    let part: Vec<&Value> = rows.iter().skip(offset).take(CHUNK).collect();
    let id = statement["statement_id"].as_str().unwrap_or_default();
    let mut chunk = json!({"chunk_index": index, "row_offset": offset, "row_count": part.len()});
    if offset + part.len() < rows.len() {
        chunk["next_chunk_index"] = json!(index + 1);
        chunk["next_chunk_internal_link"] =
            json!(format!("/api/2.0/sql/statements/{id}/result/chunks/{}", index + 1));
    }
    if statement["_external"] == true {
        let host = req.headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or("127.0.0.1");
        let mut link = chunk.clone();
        link["external_link"] = json!(format!("http://{host}/sim-storage/results/{id}/{index}"));
        // Section 5.4: a presigned URL lives for 15 minutes at most.
        link["expiration"] = json!(crate::clock::rfc3339(req.now() + 900_000));
        return json!({"external_links": [link]});
    }
    if !part.is_empty() {
        chunk["data_array"] = json!(part);
    }
    chunk
}

fn find(req: &Req) -> Result<Value, ApiError> {
    let id = req.param("id");
    let found = req.ws.store().get(STATEMENT, id);
    // Section 5.4: forgotten after twelve hours.
    let known = found.filter(|s| req.now() - s["_at"].as_i64().unwrap_or(0) < KNOWN_MS);
    known.ok_or_else(|| ApiError::absent(format!("The statement {id} was not found.")))
}

fn get(req: &Req) -> Reply {
    let mut statement = find(req)?;
    if req.now() - statement["_at"].as_i64().unwrap_or(0) > RESULT_MS {
        statement["status"]["state"] = json!("CLOSED");
    }
    req.ws.store().edit(STATEMENT, req.param("id"), |s| s["_pending"] = json!(false));
    ok(shown(req, statement, 0))
}

fn cancel(req: &Req) -> Reply {
    let statement = find(req)?;
    // Section 5.4: a cancel that comes too late is accepted and does nothing.
    if statement["_pending"] == true {
        req.ws.store().edit(STATEMENT, req.param("id"), |s| {
            s["_pending"] = json!(false);
            s["status"] = json!({"state": "CANCELED"});
        });
    }
    done()
}

fn chunk(req: &Req) -> Reply {
    let statement = find(req)?;
    if req.now() - statement["_at"].as_i64().unwrap_or(0) > RESULT_MS {
        return Err(ApiError::absent("The results of the statement have expired."));
    }
    let index = req.param("chunk").parse().unwrap_or(usize::MAX);
    let count = statement["manifest"]["total_chunk_count"].as_u64().unwrap_or(0);
    if index as u64 >= count.max(1) {
        return Err(ApiError::invalid(format!("Chunk {} does not exist.", req.param("chunk"))));
    }
    ok(result(req, &statement, index))
}

/// The object store behind external links.
fn presigned(req: &Req) -> Reply {
    // Section 5.4: must be fetched without the Authorization header.
    if req.headers.contains_key("authorization") {
        return Err(ApiError::new(400, "InvalidArgument", "Only one auth mechanism allowed."));
    }
    let statement = find(req)?;
    let index: usize = req.param("chunk").parse().unwrap_or(usize::MAX);
    let rows = statement["_rows"].as_array().cloned().unwrap_or_default();
    ok(Value::Array(rows.into_iter().skip(index.saturating_mul(CHUNK)).take(CHUNK).collect()))
}
