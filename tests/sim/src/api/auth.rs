//! Discovery and token endpoints (reference sections 1.1 to 1.4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::reply::{Answer, Reply, Req, ok};
use crate::router::{Guard, Routes};
use crate::sim::Cloud;

/// The tenant that `GET /aad/auth` tells.
const TENANT: &str = "72f988bf-0000-4000-a000-5a6b7c8d9e0f";

pub(crate) fn routes(r: &mut Routes) {
    r.add("GET", "/.well-known/databricks-config", "auth", Guard::Open, databricks_config);
    r.add("GET", "/oidc/.well-known/oauth-authorization-server", "auth", Guard::Open, authorization_server);
    r.add("POST", "/oidc/v1/token", "auth", Guard::Open, token);
    r.add(
        "GET",
        "/oidc/accounts/{account}/.well-known/oauth-authorization-server",
        "auth",
        Guard::Open,
        account_server,
    );
    r.add("POST", "/oidc/accounts/{account}/v1/token", "auth", Guard::Open, token);
    r.add("GET", "/aad/auth", "auth", Guard::Open, aad);
    r.add("POST", "/{tenant}/oauth2/token", "auth", Guard::Open, entra);
    r.add("POST", "/{tenant}/oauth2/v2.0/token", "auth", Guard::Open, entra);
}

fn host(req: &Req) -> String {
    let authority = req.headers.get("host").and_then(|h| h.to_str().ok()).unwrap_or("127.0.0.1");
    format!("http://{authority}")
}

/// Section 1.1: experimental, best effort, needs no token.
fn databricks_config(req: &Req) -> Reply {
    let cloud = match req.ws.cloud {
        Cloud::Aws => "AWS",
        Cloud::Azure => "AZURE",
        Cloud::Gcp => "GCP",
    };
    ok(json!({
        "oidc_endpoint": format!("{}/oidc", host(req)),
        "account_id": req.ws.account.id,
        "workspace_id": req.ws.id.to_string(),
        "cloud": cloud,
    }))
}

fn authorization_server(req: &Req) -> Reply {
    let base = format!("{}/oidc", host(req));
    ok(json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/v1/authorize"),
        "token_endpoint": format!("{base}/v1/token"),
        "grant_types_supported": ["client_credentials", "authorization_code", "refresh_token"],
    }))
}

fn account_server(req: &Req) -> Reply {
    let base = format!("{}/oidc/accounts/{}", host(req), req.param("account"));
    ok(
        json!({"issuer": base, "authorization_endpoint": format!("{base}/v1/authorize"), "token_endpoint": format!("{base}/v1/token")}),
    )
}

/// Client credentials in HTTP Basic or in the form (section 1.2); errors in OAuth style (1.3).
fn token(req: &Req) -> Reply {
    let form = form(req);
    let field = |name: &str| form.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    if field("grant_type").as_deref() != Some("client_credentials") {
        return oauth_error("unsupported_grant_type", "only client_credentials is supported");
    }
    let (id, secret) = match basic(req) {
        Some(pair) => pair,
        None => (field("client_id").unwrap_or_default(), field("client_secret").unwrap_or_default()),
    };
    match req.ws.identities.mint(&id, &secret, req.now()) {
        Some((token, lifetime)) => ok(
            json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime, "scope": "all-apis"}),
        ),
        None => oauth_error("invalid_client", "Client authentication failed"),
    }
}

/// Section 1.4: `Location` names the tenant in its first path segment.
fn aad(req: &Req) -> Reply {
    if req.ws.cloud != Cloud::Azure {
        return Err(crate::errors::ApiError::new(
            404,
            "ENDPOINT_NOT_FOUND",
            "No API found for 'GET /aad/auth'",
        ));
    }
    let location = format!(
        "{}/{TENANT}/oauth2/authorize?response_type=code&resource=2ff814a6-3304-4ab8-85cb-cd0e6f879c1d",
        host(req)
    );
    Ok(Answer::json(&json!({})).with_status(302).with_header("location", location))
}

/// The Entra-like endpoint, v1 with `resource` and v2 with `scope`; `expires_in` is a string in v1.
fn entra(req: &Req) -> Reply {
    let form = form(req);
    let field = |name: &str| form.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()).unwrap_or_default();
    match req.ws.identities.mint(&field("client_id"), &field("client_secret"), req.now()) {
        Some((token, lifetime)) => {
            let expires_on = req.now() / 1000 + lifetime;
            ok(json!({
                "access_token": token, "token_type": "Bearer", "resource": field("resource"),
                "expires_in": lifetime.to_string(), "ext_expires_in": lifetime.to_string(), "expires_on": expires_on.to_string(),
            }))
        }
        None => oauth_error("invalid_client", "AADSTS7000215: Invalid client secret provided."),
    }
}

fn oauth_error(error: &str, description: &str) -> Reply {
    Ok(Answer::json(&json!({"error": error, "error_description": description}))
        .with_status(if error == "invalid_client" { 401 } else { 400 }))
}

fn basic(req: &Req) -> Option<(String, String)> {
    let header = req.headers.get("authorization")?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(header).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn form(req: &Req) -> Vec<(String, String)> {
    let uri = format!("/?{}", String::from_utf8_lossy(&req.body));
    let Ok(uri) = uri.parse() else { return Vec::new() };
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|q| q.0).unwrap_or_default()
}
