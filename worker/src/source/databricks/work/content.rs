//! What is in an item: the bytes of notebooks, files and scripts.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::config::NotebookFormat;
use lakehold_proto::fault::{Class, Fault, Result};
use serde_json::Value;

use super::super::families::WORKSPACE_EXPORT;
use super::super::kinds::path;
use super::super::request::Request;
use super::Work;
use super::item::Item;
use crate::capture::Body;

/// Bodies up to this size are held while they wait to be sealed; larger ones flow when their turn comes.
const HELD: usize = 1024 * 1024;

/// A content on its way in.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) body: Body,
    pub(super) format: &'static str,
    /// In what lesser form than asked for, and why.
    pub(super) degraded: Option<String>,
}

impl Work {
    /// A workspace file, as it is.
    ///
    /// # Errors
    /// Those of the call.
    pub(super) async fn file(self: &Arc<Self>, item: &Item) -> Result<Fetched> {
        let request = export(item, "AUTO");
        let size = path::text(&item.value, "size").and_then(|size| size.parse::<usize>().ok());
        let body = if size.is_some_and(|size| size > HELD) {
            // Nothing is asked for before it is wanted: a stream that waits holds a connection and the server's patience.
            let work = Arc::clone(self);
            let open = async move { work.client.stream(&request, &work.meter).await };
            Body::Stream(stream::once(open).try_flatten().boxed())
        } else {
            self.held(&request).await?
        };
        Ok(Fetched { body, format: "raw", degraded: None })
    }

    /// A notebook in the form that the plan asks for, or in the best that the server can give.
    ///
    /// # Errors
    /// Those of the call; `Unsupported` with `http.too-large` when even its source is too large.
    pub(super) async fn notebook(self: &Arc<Self>, item: &Item) -> Result<Fetched> {
        if self.notebooks == NotebookFormat::Source {
            let body = self.held(&export(item, "SOURCE")).await?;
            return Ok(Fetched { body, format: "source", degraded: None });
        }
        let fault = match self.held(&export(item, "JUPYTER").query("outputs", "ALL")).await {
            Ok(body) => return Ok(Fetched { body, format: "jupyter", degraded: None }),
            Err(fault) if too_large(&fault) => fault,
            Err(fault) => return Err(fault),
        };
        let degraded =
            |form: &str| Some(format!("{form}: too large to be exported as jupyter ({})", fault.detail));
        match self.held(&export(item, "JUPYTER").query("outputs", "NONE")).await {
            Ok(body) => Ok(Fetched { body, format: "jupyter", degraded: degraded("without its outputs") }),
            Err(fault) if too_large(&fault) => {
                let body = self.held(&export(item, "SOURCE")).await?;
                Ok(Fetched { body, format: "source", degraded: degraded("as source") })
            }
            Err(fault) => Err(fault),
        }
    }

    /// A body that is held if it is small, and flows if it turns out not to be.
    async fn held(&self, request: &Request) -> Result<Body> {
        let mut stream = self.client.stream(request, &self.meter).await?;
        let mut head = BytesMut::new();
        while head.len() <= HELD {
            match stream.try_next().await? {
                Some(piece) => head.extend_from_slice(&piece),
                None => return Ok(Body::Bytes(head.freeze())),
            }
        }
        let head: BoxStream<'static, Result<Bytes>> = stream::iter([Ok(head.freeze())]).boxed();
        Ok(Body::Stream(head.chain(stream).boxed()))
    }
}

fn export(item: &Item, format: &str) -> Request {
    Request::get(&WORKSPACE_EXPORT, "/api/2.0/workspace/export")
        .query("path", item.name.clone())
        .query("format", format)
        .query("direct_download", "true")
}

fn too_large(fault: &Fault) -> bool {
    fault.code == "http.too-large"
}

/// The bytes that `field` of an answer holds in base64.
///
/// # Errors
/// `Unavailable` when it holds none.
pub(super) fn decoded(answer: &[u8], field: &str) -> Result<Bytes> {
    let wrong = |detail: &str| {
        Fault::new(
            Class::Unavailable,
            "http.unexpected",
            format!("read the field {field} of an answer"),
            detail,
        )
    };
    let answer: Value = serde_json::from_slice(answer).map_err(|_| wrong("the answer cannot be read"))?;
    // An empty text may be left out (the vendor's encoding).
    let text = path::text(&answer, field).unwrap_or_default();
    STANDARD
        .decode(text.split_whitespace().collect::<String>())
        .map(Bytes::from)
        .map_err(|_| wrong("it is no base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_fields_are_decoded_or_refused() {
        assert_eq!(decoded(br#"{"script": "ZWNobyBoaQo="}"#, "script").unwrap(), "echo hi\n");
        assert_eq!(decoded(br#"{"script": "ZWNo\nbyBoaQo="}"#, "script").unwrap(), "echo hi\n");
        assert_eq!(decoded(b"{}", "script").unwrap(), "");
        assert_eq!(decoded(br#"{"script": "!"}"#, "script").unwrap_err().code, "http.unexpected");
        assert!(decoded(b"[", "script").is_err());
    }
}
