//! Paging: how long listings come in pieces, as data that a row of the kinds table holds.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use serde_json::value::RawValue;

use super::client::Client;
use super::request::Request;
use crate::capture::Meter;

/// The family of a listing (the vendor's API has four).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// One answer holds everything.
    None,
    /// The answer's `next_page_token` is sent back; the listing ends where there is none, *not* at an empty page.
    Token {
        /// The query parameter the token is sent back in: `page_token`, but for repos `next_page_token`.
        request: &'static str,
        /// The query parameter for the size of a page, and its value: `("max_results", "0")` for Unity Catalog.
        size: Option<(&'static str, &'static str)>,
    },
    /// SCIM: `startIndex` advances by the number received, and the listing ends where nothing more comes. Each page begins
    /// with the last item of the one before: where it does not, others wrote meanwhile, an item may have slipped from one
    /// page to the other, and the listing begins again.
    Scim {
        /// Items asked for at once.
        count: u32,
    },
    /// Legacy SQL: `page` counts from 1; the listing ends at an empty page.
    Page {
        /// Items asked for at once (`page_size`).
        size: u32,
    },
}

/// One page: the items exactly as the API wrote them.
pub type Page = Vec<Box<RawValue>>;

impl Client {
    /// Lists page by page: only one page is in memory. The first failure ends the stream, and what it says is the answer
    /// for the whole listing. The stream owns what it needs.
    ///
    /// `items` is the field of the answer that holds the items; empty when the answer itself is the array. An answer
    /// without the field is an empty page (the vendor leaves empty lists out); a field of another type is an error and never
    /// an empty list. Listings that are paged by position (SCIM, legacy SQL) may show an item twice when others write
    /// meanwhile: the caller drops doubles by key, which [`Capture`](crate::capture::Capture) does.
    ///
    /// # Errors
    /// Those of [`Client::json`]; `Unavailable` with `http.page-loop` when a token comes back again, and with
    /// `http.not-a-list` when the answer is no list, and with `http.shifting` when positions shift again and again.
    pub fn pages(
        &self,
        request: Request,
        paging: &Paging,
        items: &str,
        meter: &Arc<Meter>,
    ) -> BoxStream<'static, Result<Page>> {
        let walk = Walk::new(self.clone(), request, *paging, items.to_owned(), Arc::clone(meter));
        stream::try_unfold(walk, Walk::step).boxed()
    }
}

/// How often a listing by position is read from its beginning before it is given up.
const ROUNDS: u32 = 3;

/// Where a listing stands.
struct Walk {
    client: Client,
    request: Request,
    paging: Paging,
    items: String,
    meter: Arc<Meter>,
    next: Next,
    /// Hashes of the tokens that came, for a listing that goes in circles. Eight bytes for each page.
    seen: HashSet<u64>,
    /// What a listing by position showed last.
    overlap: Option<Overlap>,
    round: u32,
}

/// The last page of a listing by position, as much of it as tells whether the next one joins it.
struct Overlap {
    last: u64,
    page: u64,
}

/// What is asked for next.
enum Next {
    Token(Option<String>),
    Position(u64),
    Done,
}

impl Walk {
    fn new(client: Client, request: Request, paging: Paging, items: String, meter: Arc<Meter>) -> Self {
        let next = match paging {
            Paging::None | Paging::Token { .. } => Next::Token(None),
            Paging::Scim { .. } | Paging::Page { .. } => Next::Position(1),
        };
        Self { client, request, paging, items, meter, next, seen: HashSet::new(), overlap: None, round: 1 }
    }

    async fn step(mut self) -> Result<Option<(Page, Self)>> {
        let Some(request) = self.ask() else { return Ok(None) };
        let body = self.client.json(&request, &self.meter).await?;
        let (mut page, token) = read_page(&body, &self.items, &request)?;
        match self.paging {
            Paging::None => self.next = Next::Done,
            Paging::Token { .. } => self.follow(token)?,
            // Positions end where nothing more comes: a short page may only mean that the server gives fewer at once.
            Paging::Page { .. } if page.is_empty() => return Ok(None),
            Paging::Page { .. } => self.advance(1),
            Paging::Scim { .. } => match self.join(&mut page) {
                Joined::Ended => return Ok(None),
                Joined::Follows => self.advance(page.len() as u64),
                Joined::Shifted => self.begin_again()?,
            },
        }
        Ok(Some((page, self)))
    }

    /// Takes from a page what the one before showed last.
    fn join(&mut self, page: &mut Page) -> Joined {
        let whole = hash_of(&page.iter().map(|item| item.get()).collect::<Vec<_>>());
        let (first, last) = (page.first().map(|item| identity(item)), page.last().map(|item| identity(item)));
        match (&self.overlap, first) {
            (None, None) => return Joined::Ended,
            // A server that knows no positions gives everything again.
            (Some(before), _) if before.page == whole => return Joined::Ended,
            (Some(before), first) if first != Some(before.last) => return Joined::Shifted,
            (Some(_), _) => drop(page.remove(0)),
            (None, Some(_)) => {}
        }
        self.overlap = last.map(|last| Overlap { last, page: whole });
        if page.is_empty() { Joined::Ended } else { Joined::Follows }
    }

    fn begin_again(&mut self) -> Result<()> {
        if self.round >= ROUNDS {
            let detail =
                format!("others wrote while it was read, {ROUNDS} times: an item may have been passed over");
            return Err(Fault::new(Class::Unavailable, "http.shifting", self.request.context(), detail));
        }
        self.round += 1;
        self.overlap = None;
        self.next = Next::Position(1);
        Ok(())
    }

    fn ask(&self) -> Option<Request> {
        let mut request = self.request.clone();
        match (&self.next, self.paging) {
            (Next::Done, _) => return None,
            (Next::Token(token), Paging::Token { request: field, size }) => {
                request.query.extend(size.map(|(name, value)| (name, value.to_owned())));
                request.query.extend(token.clone().map(|token| (field, token)));
            }
            (Next::Position(at), Paging::Scim { count }) => {
                request.query.push(("startIndex", at.saturating_sub(1).max(1).to_string()));
                request.query.push(("count", count.to_string()));
            }
            (Next::Position(at), Paging::Page { size }) => {
                request.query.push(("page", at.to_string()));
                request.query.push(("page_size", size.to_string()));
            }
            (Next::Token(_) | Next::Position(_), _) => {}
        }
        Some(request)
    }

    fn follow(&mut self, token: Option<String>) -> Result<()> {
        let Some(token) = token else {
            self.next = Next::Done;
            return Ok(());
        };
        if !self.seen.insert(hash_of(token.as_str())) {
            return Err(Fault::new(
                Class::Unavailable,
                "http.page-loop",
                self.request.context(),
                format!("page {} points back to a page that was already read", self.seen.len() + 1),
            )
            .hint("the workspace's answer is inconsistent; run the backup again"));
        }
        self.next = Next::Token(Some(token));
        Ok(())
    }

    fn advance(&mut self, by: u64) {
        if let Next::Position(at) = &mut self.next {
            *at += by;
        }
    }
}

/// How a page joins the one before.
enum Joined {
    Follows,
    Shifted,
    Ended,
}

fn hash_of(text: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What tells that two pages show the same item: its id, where it has one; it may have been changed in between.
fn identity(item: &RawValue) -> u64 {
    #[derive(serde::Deserialize)]
    struct Identified<'a> {
        #[serde(borrow)]
        id: Option<Cow<'a, str>>,
    }
    let id = serde_json::from_str::<Identified<'_>>(item.get()).ok().and_then(|item| item.id);
    hash_of(id.as_deref().unwrap_or(item.get()))
}

/// An answer without its list is an empty one, as the vendor's encoding has it; but an empty one is short. Whatever else
/// answers in the workspace's place must not be taken for a list of nothing.
const EMPTY: usize = 4096;

/// The items of one answer, and the token of the next page.
fn read_page(body: &Bytes, items: &str, request: &Request) -> Result<(Page, Option<String>)> {
    let wrong = |what: &str| {
        Fault::new(Class::Unavailable, "http.not-a-list", request.context(), what)
            .hint("the workspace answered something its API does not describe; nothing was taken for deleted")
    };
    if items.is_empty() {
        let page = serde_json::from_slice(body).map_err(|_| wrong("the answer is no array"))?;
        return Ok((page, None));
    }
    let answer: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(body).map_err(|_| wrong("the answer is no object"))?;
    // The vendor's encoding (proto3 JSON) lets null stand for an absent field.
    let page = match answer.get(items) {
        Some(list) => serde_json::from_str::<Option<Page>>(list.get())
            .map_err(|_| wrong(&format!("{items} is no array")))?
            .unwrap_or_default(),
        None if body.len() > EMPTY || answer.contains_key("error_code") => {
            return Err(wrong(&format!("the answer ({} bytes) has no {items}", body.len())));
        }
        None => Page::new(),
    };
    let token = match answer.get("next_page_token") {
        Some(token) => serde_json::from_str::<Option<String>>(token.get())
            .map_err(|_| wrong("next_page_token is no string"))?
            .filter(|token| !token.is_empty()),
        None => None,
    };
    Ok((page, token))
}

#[cfg(test)]
mod tests {
    use super::super::families::JOBS;
    use super::*;

    fn page(body: &'static str, items: &str) -> Result<(Vec<String>, Option<String>)> {
        let request = Request::get(&JOBS, "/api/2.1/jobs/list");
        let (page, token) = read_page(&Bytes::from_static(body.as_bytes()), items, &request)?;
        Ok((page.iter().map(|item| item.get().to_owned()).collect(), token))
    }

    #[test]
    fn items_are_kept_as_they_were_written() {
        let body =
            r#"{"x":[1],"jobs":[ {"b":1, "a":1.00} ,{"id":12345678901234567890}],"next_page_token":"t"}"#;
        let (items, token) = page(body, "jobs").unwrap();
        assert_eq!(items, [r#"{"b":1, "a":1.00}"#, r#"{"id":12345678901234567890}"#]);
        assert_eq!(token.as_deref(), Some("t"));
        assert_eq!(page("[1,2]", "").unwrap().0, ["1", "2"]);
    }

    #[test]
    fn an_absent_list_is_empty_and_a_strange_one_an_error() {
        for empty in ["{}", r#"{"jobs":[]}"#, r#"{"jobs":null}"#, r#"{"next_page_token":"","jobs":[]}"#] {
            assert_eq!(page(empty, "jobs").unwrap(), (vec![], None), "{empty}");
        }
        for strange in ["[]", "null", r#""x""#, r#"{"jobs":{}}"#, r#"{"jobs":"x"}"#, r#"{"jobs":0}"#] {
            assert_eq!(page(strange, "jobs").unwrap_err().code, "http.not-a-list", "{strange}");
        }
        let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(EMPTY)).leak();
        for strange in [long, r#"{"error_code":"INTERNAL_ERROR","message":"with status 200"}"#] {
            assert_eq!(page(strange, "jobs").unwrap_err().code, "http.not-a-list", "{strange}");
        }
        assert_eq!(page(r#"{"jobs":[],"next_page_token":7}"#, "jobs").unwrap_err().code, "http.not-a-list");
        assert_eq!(page("{}", "").unwrap_err().code, "http.not-a-list");
    }
}
