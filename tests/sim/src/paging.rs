//! Page tokens (reference section 2.6, families P1): opaque, naming a position rather than an offset,
//! so that items created or deleted between two pages neither repeat nor vanish.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::errors::ApiError;
use crate::reply::Req;
use crate::state::{Doc, Store};

/// How a listing is asked for.
pub(crate) struct Listing<'a> {
    pub(crate) kind: &'a str,
    /// Only children of this parent.
    pub(crate) parent: Option<&'a str>,
    /// Names the page size travels by.
    pub(crate) size: &'a [&'a str],
    pub(crate) default: usize,
    pub(crate) max: usize,
    /// Name of the request field that carries the token: `page_token` almost everywhere.
    pub(crate) token: &'a str,
}

/// One page; `next` is absent on the last.
pub(crate) struct Page {
    pub(crate) items: Vec<Value>,
    pub(crate) next: Option<String>,
}

impl Page {
    /// `{name: [...], "next_page_token": ...}`; an empty list leaves the field out, as the real API does.
    pub(crate) fn body(self, name: &str) -> Value {
        let mut body = serde_json::Map::new();
        if !self.items.is_empty() {
            body.insert(name.to_owned(), Value::Array(self.items));
        }
        if let Some(token) = self.next {
            body.insert("next_page_token".to_owned(), Value::String(token));
        }
        Value::Object(body)
    }
}

/// One page of documents the caller may see and that pass the filter.
pub(crate) fn page(
    req: &Req,
    store: &Store,
    listing: &Listing<'_>,
    keep: impl Fn(&Value) -> bool,
) -> Result<Page, ApiError> {
    let size = req.size(listing.size, listing.default, listing.max)?;
    let after = match req.query(listing.token).filter(|t| !t.is_empty()) {
        Some(token) => decode(listing.kind, token)?,
        None => 0,
    };
    let mut matching = store
        .scan(listing.kind, listing.parent, after)
        .filter(|d| req.sees(listing.kind, &d.id) && keep(&d.value));
    let taken: Vec<Doc> = matching.by_ref().take(size).collect();
    let more = matching.next().is_some();
    let next = taken.last().filter(|_| more).map(|d| encode(listing.kind, d.seq));
    Ok(Page { items: taken.into_iter().map(|d| d.value).collect(), next })
}

/// All documents the caller may see: family P0, one response.
pub(crate) fn visible(req: &Req, store: &Store, kind: &str) -> Vec<Value> {
    store.scan(kind, None, 0).filter(|d| req.sees(kind, &d.id)).map(|d| d.value).collect()
}

/// A token for a position within a listing of this kind.
pub(crate) fn encode(kind: &str, seq: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}:{seq}"))
}

/// The position of a token; a token of another listing is refused.
pub(crate) fn decode(kind: &str, token: &str) -> Result<u64, ApiError> {
    let bad = || ApiError::invalid(format!("Invalid page token: {token}"));
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok()).ok_or_else(bad)?;
    let (name, seq) = text.rsplit_once(':').ok_or_else(bad)?;
    if name == kind { seq.parse().map_err(|_| bad()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_bound_to_their_listing() {
        let token = encode("job", 42);
        assert_eq!(decode("job", &token).ok(), Some(42));
        assert!(decode("repo", &token).is_err());
        assert!(decode("job", "not a token").is_err());
    }
}
