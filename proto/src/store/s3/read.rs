//! Reading objects, whole and in ranges. A body that breaks off, or disagrees with its checksum, is asked for again.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use bytes::{Bytes, BytesMut};

use super::bucket::{Bucket, ROUNDS};
use super::fault::{Asked, chain, refusal};
use super::{checksum, multipart};
use crate::fault::{Class, Fault, Result};
use crate::store::Key;

/// No more is set aside for a body before its bytes come: what a server announces is not what it sends.
const SET_ASIDE: usize = 64 << 20;

/// Reads an object whole.
pub(super) async fn get(bucket: &Bucket, key: &Key) -> Result<Option<Bytes>> {
    let mut round = 0;
    loop {
        let asked = bucket.client.get_object().bucket(&bucket.name).key(bucket.path(key)).customize();
        // Asked for by hand: the SDK would then check it itself, and warn of each object that was made of parts.
        let asked = asked.mutate_request(|request| {
            request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        });
        let Some(answer) = found(bucket, key, asked.send().await)? else { return Ok(None) };
        let given = answer.checksum_sha256.clone();
        let fault = match body(bucket, key, answer).await {
            Ok(body) => match given.and_then(|given| checksum::agrees(&given, &body, multipart::PART)) {
                Some(false) => damaged(key, body.len()),
                _ => return Ok(Some(body)),
            },
            Err(fault) => fault,
        };
        round += 1;
        if round >= ROUNDS {
            return Err(fault);
        }
        bucket.pause(round).await;
    }
}

/// Reads a range of an object.
pub(super) async fn get_range(bucket: &Bucket, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
    let end = offset.checked_add(length);
    let Some(last) = end.filter(|_| length > 0).map(|end| end - 1) else {
        // HTTP has no word for an empty range, nor for one past the end of numbers.
        let Some(size) = size(bucket, key).await? else { return Ok(None) };
        return match end {
            Some(end) if end <= size => Ok(Some(Bytes::new())),
            _ => Err(cut_off(key, offset, length, Some(size))),
        };
    };
    let mut round = 0;
    loop {
        let asked = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(bucket.path(key))
            .range(format!("bytes={offset}-{last}"));
        let answer = match asked.send().await {
            Err(error) if refusal(&error).0 == 416 => return Err(cut_off(key, offset, length, None)),
            answer => found(bucket, key, answer)?,
        };
        let Some(answer) = answer else { return Ok(None) };
        let Some((first, size)) = answer.content_range.as_deref().and_then(range) else {
            return Err(reading(key)
                .fault(Class::Unsupported, "store.no-ranges", "the server ignores that a part was asked for")
                .hint("use a server that answers ranged requests, or one without a proxy that drops them"));
        };
        if size.is_some_and(|size| last >= size) {
            return Err(cut_off(key, offset, length, size));
        }
        let fault = match body(bucket, key, answer).await {
            Ok(body) if body.len() as u64 == length && first == offset => return Ok(Some(body)),
            Ok(body) => broken(
                key,
                format!("{length} bytes from {offset} were asked for, {} from {first} came", body.len()),
            ),
            Err(fault) => fault,
        };
        round += 1;
        if round >= ROUNDS {
            return Err(fault);
        }
        bucket.pause(round).await;
    }
}

/// The size of an object, or `None` if there is none. It asks for one byte, and not for the head alone: the answer to
/// that has no body, and so never says whether object or bucket is absent, nor why something is denied.
pub(super) async fn size(bucket: &Bucket, key: &Key) -> Result<Option<u64>> {
    let asked = bucket.client.get_object().bucket(&bucket.name).key(bucket.path(key)).range("bytes=0-0");
    match asked.send().await {
        Err(error) if refusal(&error).0 == 416 => Ok(Some(0)),
        answer => Ok(found(bucket, key, answer)?.map(|answer| {
            let ranged = answer.content_range.as_deref().and_then(range).and_then(|(_, size)| size);
            ranged.unwrap_or(answer.content_length.unwrap_or(0).unsigned_abs())
        })),
    }
}

type Answer = Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>>;

fn found(bucket: &Bucket, key: &Key, answer: Answer) -> Result<Option<GetObjectOutput>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        // By its name alone: a 404 of a proxy, or of a bucket that is gone, is no absent object.
        Err(error) if refusal(&error).1 == "NoSuchKey" => Ok(None),
        Err(error) => Err(bucket.fault(reading(key), &error)),
    }
}

/// Receives a body, which must have the announced length and come in bearable time.
async fn body(bucket: &Bucket, key: &Key, mut answer: GetObjectOutput) -> Result<Bytes> {
    let announced = answer.content_length.and_then(|length| u64::try_from(length).ok());
    let time = bucket.time_for(announced.unwrap_or(0));
    let receive = async {
        let mut body = BytesMut::with_capacity(announced.map_or(0, |n| SET_ASIDE.min(n as usize)));
        while let Some(bytes) = answer.body.next().await {
            body.extend_from_slice(&bytes.map_err(|e| broken(key, chain(&e)))?);
        }
        Ok::<_, Fault>(body.freeze())
    };
    let body = tokio::time::timeout(time, receive)
        .await
        .map_err(|_| broken(key, format!("it did not come within {} seconds", time.as_secs())))??;
    match announced {
        Some(announced) if announced != body.len() as u64 => {
            Err(broken(key, format!("{announced} bytes were announced, {} came", body.len())))
        }
        _ => Ok(body),
    }
}

/// Reads `bytes 3-6/10`: where it begins, and how large the object is.
fn range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, size.trim().parse().ok()))
}

fn reading(key: &Key) -> Asked<'_> {
    Asked { verb: "read", action: "s3:GetObject", of: key.as_str() }
}

fn broken(key: &Key, why: String) -> Fault {
    reading(key)
        .fault(Class::Unavailable, "store.broken-body", format!("the body broke off: {why}"))
        .hint("it is tried again; if it lasts, look at proxies and the network on the way")
}

fn damaged(key: &Key, bytes: usize) -> Fault {
    let detail = format!(
        "its {bytes} bytes do not have the checksum that the server keeps of it, {ROUNDS} times in a row"
    );
    reading(key).fault(Class::Integrity, "store.checksum-mismatch", detail).hint(
        "run `lakehold verify --all` to see which items are hurt; a proxy on the way may also change bodies",
    )
}

fn cut_off(key: &Key, offset: u64, length: u64, size: Option<u64>) -> Fault {
    let has = size.map_or("fewer".to_owned(), |size| size.to_string());
    let detail = format!("bytes {offset} and {length} more are asked for, it has {has}: it is cut off");
    reading(key).fault(Class::Integrity, "store.truncated", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read() {
        assert_eq!(range("bytes 3-6/10"), Some((3, Some(10))));
        assert_eq!(range("bytes 0-0/*"), Some((0, None)));
        for bad in ["", "bytes", "bytes */10", "items 0-1/2", "bytes x-1/2"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
