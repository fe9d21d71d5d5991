//! Making an object with one request.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;

use super::bucket::{Bucket, ROUNDS};
use super::fault::{Asked, TORN, refusal};
use super::{checksum, read};
use crate::fault::{Class, Fault, Result};
use crate::store::{Key, Put};

/// Makes the object, unless there is one.
pub(super) async fn put_new(bucket: &Bucket, key: &Key, body: Bytes) -> Result<Put> {
    let sum = checksum::of(&body);
    let mut round = 0;
    loop {
        let condition = bucket.condition();
        if condition.is_none() && read::size(bucket, key).await?.is_some() {
            return Ok(Put::Existed);
        }
        let sent = bucket
            .client
            .put_object()
            .bucket(&bucket.name)
            .key(bucket.path(key))
            .set_if_none_match(condition.clone())
            .checksum_sha256(&sum)
            .set_server_side_encryption(encryption(bucket))
            .set_ssekms_key_id(bucket.kms_key.clone())
            .set_bucket_key_enabled(bucket.kms_key.as_ref().map(|_| true))
            .content_length(body.len() as i64)
            .body(ByteStream::from(body.clone()))
            .customize()
            .config_override(bucket.settings_for(body.len()))
            .send()
            .await;
        let Err(error) = sent else { return Ok(Put::Created) };
        let fault = bucket.fault(writing(key), &error);
        match verdict(bucket, condition.is_some(), refusal(&error), fault) {
            Verdict::Existed => return Ok(Put::Existed),
            Verdict::Again(fault) if round >= ROUNDS => return Err(fault),
            Verdict::Again(_) => {}
            Verdict::Failed(fault) => return Err(fault),
        }
        round += 1;
        bucket.pause(round).await;
    }
}

/// What a refused create comes to.
pub(super) enum Verdict {
    /// There is such an object.
    Existed,
    /// The same may succeed now.
    Again(Fault),
    /// It may not.
    Failed(Fault),
}

/// Reads the refusal of a create, sent with the condition or without.
pub(super) fn verdict(bucket: &Bucket, conditional: bool, refusal: (u16, &str), fault: Fault) -> Verdict {
    match refusal {
        (412, _) => Verdict::Existed,
        // Somebody else is creating or removing it at this moment.
        (409, _) => Verdict::Again(Fault { class: Class::Unavailable, code: "store.conflict", ..fault }),
        (501, _) if conditional => {
            bucket.lacks_conditions();
            Verdict::Again(fault)
        }
        _ if fault.code == TORN => Verdict::Again(fault),
        _ => Verdict::Failed(fault),
    }
}

pub(super) fn encryption(bucket: &Bucket) -> Option<ServerSideEncryption> {
    bucket.kms_key.as_ref().map(|_| ServerSideEncryption::AwsKms)
}

pub(super) fn writing(key: &Key) -> Asked<'_> {
    Asked { verb: "write", action: "s3:PutObject", of: key.as_str() }
}
