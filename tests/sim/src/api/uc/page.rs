//! Paging of Unity Catalog lists (reference section 2.6), which is unlike all others.
//!
//! Without `max_results` the whole list comes at once; with 0 the server chooses the page; pages may
//! be empty and still carry a token; and a last page that is just full carries one too.

use serde_json::Value;

use super::{Row, Uc};
use crate::errors::ApiError;
use crate::paging::{self, Page};
use crate::reply::Req;
use crate::rng;
use crate::state::Doc;

/// The page the server chooses.
const CHOSEN: usize = 100;

/// The largest page of any list; summaries allow 10 000.
const MOST: usize = 1000;

impl Uc<'_> {
    /// One page of securables under a parent.
    pub(crate) fn page(
        &self,
        row: &Row,
        parent: Option<&str>,
        keep: impl Fn(&Value) -> bool,
    ) -> Result<Page, ApiError> {
        let size = size(self.req, "max_results", 1)?;
        let docs = |after| self.store.scan(row.kind, parent, after);
        let seen = |d: &Doc| self.req.sees(row.kind, &d.id) && keep(&d.value);
        let label = format!("{}/{}", row.kind, parent.unwrap_or_default());
        cut(self.req, &label, size, |after| Box::new(docs(after).filter(move |d| seen(d))))
    }
}

/// `None`: the caller asks for the list in one piece.
pub(super) fn size(req: &Req, name: &str, least: i64) -> Result<Option<usize>, ApiError> {
    let Some(text) = req.query(name) else { return Ok(None) };
    let bad = |why: String| ApiError::invalid(format!("Invalid value for {name}: {why}"));
    let n: i64 = text.parse().map_err(|_| bad(format!("'{text}' is not a number")))?;
    match n {
        0 => Ok(Some(CHOSEN)),
        // Section 2.6: a value below 0 is an error; for permissions 1-149 is one too.
        n if n < least => Err(bad(format!("{n} must be 0 or at least {least}"))),
        n => Ok(Some(usize::try_from(n).unwrap_or(MOST).min(MOST))),
    }
}

/// Cuts a page out of documents in order, with the quirks above.
pub(super) fn cut<'a>(
    req: &Req,
    label: &str,
    size: Option<usize>,
    docs: impl FnOnce(u64) -> Box<dyn Iterator<Item = Doc> + 'a>,
) -> Result<Page, ApiError> {
    let resumed = format!("{label}~");
    let (after, after_empty) = match req.query("page_token").filter(|t| !t.is_empty()) {
        None => (0, false),
        Some(token) => match paging::decode(label, token) {
            Ok(after) => (after, false),
            Err(_) => (paging::decode(&resumed, token)?, true),
        },
    };
    let Some(size) = size else {
        return Ok(Page { items: docs(after).map(|d| d.value).collect(), next: None });
    };
    // Section 2.6: pages may be EMPTY with a token present; here about one in 23, always the same.
    if !after_empty && (rng::hash(label) ^ after.rotate_left(7)).is_multiple_of(23) {
        return Ok(Page { items: Vec::new(), next: Some(paging::encode(&resumed, after)) });
    }
    let taken: Vec<Doc> = docs(after).take(size).collect();
    // Section 2.6: a token on the last full page, which is why there is no look ahead here.
    let next = taken.last().filter(|_| taken.len() == size).map(|d| paging::encode(label, d.seq));
    Ok(Page { items: taken.into_iter().map(|d| d.value).collect(), next })
}
