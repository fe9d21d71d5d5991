//! One call to a workspace, as a value: it can be sent again, and it never holds a credential.

use std::fmt;

use bytes::Bytes;
use lakehold_proto::fault::{Class, Fault, Result};
use reqwest::{Method, Url};
use serde::Serialize;

use super::families::{Family, Verb};

/// A call to the workspace.
#[derive(Clone)]
pub struct Request {
    /// Whose budget it comes out of.
    pub family: &'static Family,
    /// How it is sent.
    pub method: Method,
    /// Whether it changes anything. Follows the method, but for reads that are sent as POST.
    pub verb: Verb,
    /// The path from the root, percent-encoded where names are part of it: see [`segment`].
    pub path: String,
    /// Query parameters, not yet encoded. A name may occur twice. Booleans are the words `true` and `false`.
    pub query: Vec<(&'static str, String)>,
    /// The body, already written.
    pub body: Option<Bytes>,
    /// Whether the body is JSON; bytes as they are otherwise.
    pub is_json: bool,
    /// Whether sending it twice comes to the same as sending it once, so that a change may be tried again.
    pub repeatable: bool,
}

impl Request {
    /// A read.
    pub fn get(family: &'static Family, path: impl Into<String>) -> Self {
        Self::new(family, Method::GET, Verb::Read, path)
    }

    /// A call that makes or changes something.
    pub fn post(family: &'static Family, path: impl Into<String>) -> Self {
        Self::new(family, Method::POST, Verb::Write, path)
    }

    /// A call that replaces something.
    pub fn put(family: &'static Family, path: impl Into<String>) -> Self {
        Self::new(family, Method::PUT, Verb::Write, path)
    }

    /// A call that changes a part of something.
    pub fn patch(family: &'static Family, path: impl Into<String>) -> Self {
        Self::new(family, Method::PATCH, Verb::Write, path)
    }

    /// A call that takes something away.
    pub fn delete(family: &'static Family, path: impl Into<String>) -> Self {
        Self::new(family, Method::DELETE, Verb::Write, path)
    }

    fn new(family: &'static Family, method: Method, verb: Verb, path: impl Into<String>) -> Self {
        Self {
            family,
            method,
            verb,
            path: path.into(),
            query: Vec::new(),
            body: None,
            is_json: true,
            repeatable: false,
        }
    }

    /// The same call with one more query parameter.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// The same call with `body` as JSON.
    ///
    /// # Errors
    /// `Bug` when `body` cannot be written as JSON.
    pub fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let written = serde_json::to_vec(body).map_err(|e| {
            Fault::new(Class::Bug, "http.body", self.context(), format!("write its body: {e}"))
        })?;
        self.body = Some(written.into());
        Ok(self)
    }

    /// The same call with `body` as it is.
    #[must_use]
    pub fn octets(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self.is_json = false;
        self
    }

    /// The same call, which comes to the same when it is sent twice: it is retried as a read is.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// The same call, known to change nothing although its method says otherwise (a search sent as POST): it is counted
    /// and retried as a read.
    #[must_use]
    pub fn reads(mut self) -> Self {
        self.verb = Verb::Read;
        self
    }

    /// What it does, as a fault's context: `get /api/2.1/jobs/list`.
    pub fn context(&self) -> String {
        const LONGEST: usize = 200;
        let path: String = self.path.chars().take(LONGEST).collect();
        let cut = if path.len() < self.path.len() { "…" } else { "" };
        format!("{} {path}{cut}", self.method.as_str().to_ascii_lowercase())
    }

    /// Its address at `host`. A path that a URL parser would rewrite (`..`, a `?` that was not encoded) is refused: it would
    /// ask for something else than it says.
    pub(super) fn url(&self, host: &Url) -> Result<Url> {
        let mut url = host.clone();
        url.set_path(&self.path);
        if url.path() != self.path {
            let detail = "a name in it cannot be part of an address";
            return Err(Fault::new(Class::Unsupported, "http.unsafe-path", self.context(), detail));
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}

/// A body may hold a secret that is being restored, so only its size is shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("family", &self.family.name)
            .field("call", &self.context())
            .field("query", &self.query)
            .field("body", &self.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}

/// `name` as one segment of a path: everything but unreserved characters is percent-encoded, slashes too. Names are data.
pub fn segment(name: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::families::{JOBS, UNITY_CATALOG};
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(segment("main.a b/ü?#%"), "main.a%20b%2F%C3%BC%3F%23%25");
        let host = Url::parse("https://example.test").unwrap();
        let request = Request::get(&UNITY_CATALOG, format!("/api/x/{}", segment("a/../b?c")));
        assert_eq!(request.url(&host).unwrap().as_str(), "https://example.test/api/x/a%2F..%2Fb%3Fc");
    }

    #[test]
    fn a_path_that_means_something_else_is_refused() {
        let host = Url::parse("https://example.test").unwrap();
        for path in ["/api/x/..", "/api/x/%2e%2E/y", "/api/x?y", "/api/x#y", "/api/./x", "api"] {
            let refused = Request::get(&JOBS, path).url(&host).unwrap_err();
            assert_eq!(refused.code, "http.unsafe-path", "{path}");
        }
    }

    #[test]
    fn a_body_is_not_shown() {
        let request = Request::post(&JOBS, "/api/x").json(&"hunter2").unwrap();
        assert!(request.body.is_some() && !format!("{request:?}").contains("hunter2"));
    }

    #[test]
    fn query_values_are_encoded() {
        let host = Url::parse("https://example.test").unwrap();
        let request = Request::get(&JOBS, "/api/x").query("path", "/a b&c=1").query("flag", "true");
        assert_eq!(request.url(&host).unwrap().query(), Some("path=%2Fa+b%26c%3D1&flag=true"));
        assert_eq!(request.context(), "get /api/x");
    }
}
