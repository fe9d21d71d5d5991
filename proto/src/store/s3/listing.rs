//! Listing objects, page by page. A page that comes twice, or one that promises more and does not say where, is a fault:
//! a listing that ended without one was whole. Nothing is made of the order, which differs among servers.

use std::sync::Arc;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::bucket::{Bucket, ROUNDS};
use super::fault::Asked;
use crate::fault::{Class, Result};
use crate::store::{Key, Listed};

/// See [`crate::store::Store::list`].
pub(super) fn list(bucket: Arc<Bucket>, prefix: &str) -> BoxStream<'static, Result<Listed>> {
    let root = bucket.root.len();
    pages(bucket, prefix.to_owned(), None)
        .map_ok(move |page| {
            let found = page.contents.unwrap_or_default().into_iter();
            let listed = found.filter_map(move |object| {
                // What is no key of ours (a console's folder marker, a person's own files) is none of ours.
                let key = Key::parse(object.key()?.get(root..)?).ok()?;
                Some(Ok(Listed { key, size: object.size().and_then(|size| u64::try_from(size).ok())? }))
            });
            futures::stream::iter(listed)
        })
        .try_flatten()
        .boxed()
}

/// See [`crate::store::Store::list_folders`].
pub(super) async fn list_folders(bucket: &Arc<Bucket>, prefix: &str) -> Result<Vec<String>> {
    let below = bucket.root.len() + prefix.len();
    let mut names = Vec::new();
    let mut pages = pages(Arc::clone(bucket), prefix.to_owned(), Some("/"));
    while let Some(page) = pages.try_next().await? {
        let folders = page.common_prefixes.unwrap_or_default();
        let folders = folders.iter().filter_map(|folder| folder.prefix()?.get(below..)?.strip_suffix('/'));
        names.extend(folders.filter(|name| !name.is_empty() && !name.starts_with('.')).map(str::to_owned));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Where a listing stands.
enum Next {
    First,
    After(String),
    Done,
}

fn pages(
    bucket: Arc<Bucket>,
    prefix: String,
    delimiter: Option<&'static str>,
) -> BoxStream<'static, Result<ListObjectsV2Output>> {
    futures::stream::try_unfold(Next::First, move |next| {
        let (bucket, prefix) = (Arc::clone(&bucket), prefix.clone());
        async move {
            let token = match next {
                Next::First => None,
                Next::After(token) => Some(token),
                Next::Done => return Ok(None),
            };
            let page = page(&bucket, &prefix, delimiter, token.clone()).await?;
            let next = match (page.is_truncated.unwrap_or(false), page.next_continuation_token.clone()) {
                (false, _) => Next::Done,
                (true, Some(next)) if Some(&next) != token.as_ref() => Next::After(next),
                (true, _) => {
                    let detail =
                        "the server says that there is more and not where: the listing cannot be trusted";
                    return Err(listing(&prefix)
                        .fault(Class::Unavailable, "store.listing", detail)
                        .hint("try again; if it lasts, this server cannot hold a store"));
                }
            };
            Ok(Some((page, next)))
        }
    })
    .boxed()
}

async fn page(
    bucket: &Bucket,
    prefix: &str,
    delimiter: Option<&str>,
    token: Option<String>,
) -> Result<ListObjectsV2Output> {
    let mut round = 0;
    loop {
        let asked = bucket
            .client
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(format!("{}{prefix}", bucket.root))
            .set_delimiter(delimiter.map(str::to_owned))
            .set_continuation_token(token.clone());
        let fault = match asked.send().await {
            Ok(page) => return Ok(page),
            Err(error) => bucket.fault(listing(prefix), &error),
        };
        round += 1;
        // A page that was cut off is no XML.
        if fault.code != "store.answer" || round >= ROUNDS {
            return Err(fault);
        }
        bucket.pause(round).await;
    }
}

fn listing(prefix: &str) -> Asked<'_> {
    Asked { verb: "list", action: "s3:ListBucket", of: prefix }
}
