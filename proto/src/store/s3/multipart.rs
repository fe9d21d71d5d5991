//! Making a large object from parts. The parts are slices of the body, so they take no memory of their own, and a few are
//! under way at once. Nothing is visible until the upload is completed, which is the conditional create.

use std::sync::Arc;

use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::bucket::{Bucket, ROUNDS};
use super::fault::{Asked, TORN, refusal};
use super::put::{Verdict, encryption, verdict, writing};
use super::{checksum, read};
use crate::fault::{Class, Fault, Result};
use crate::store::{Key, Put};

/// Bodies above this many bytes are uploaded in parts.
pub(super) const ABOVE: usize = 16 << 20;
/// The size of a part; the last may be smaller. S3 takes no less than 5 MiB.
pub(super) const PART: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

/// Makes the object, unless there is one.
pub(super) async fn put_new(bucket: &Arc<Bucket>, key: &Key, body: Bytes) -> Result<Put> {
    let mut round = 0;
    loop {
        // Also where the server checks the condition: it would do so only after every part was sent.
        if read::size(bucket, key).await?.is_some() {
            return Ok(Put::Existed);
        }
        let mut upload = Upload::begin(bucket, key).await?;
        let verdict = match upload.send(&body).await {
            Ok(parts) => upload.complete(parts).await,
            Err(verdict) => Some(verdict),
        };
        let Some(verdict) = verdict else { return Ok(Put::Created) };
        upload.abort().await;
        match verdict {
            Verdict::Existed => return Ok(Put::Existed),
            Verdict::Again(fault) if round >= ROUNDS => return Err(fault),
            Verdict::Again(_) => {}
            Verdict::Failed(fault) => return Err(fault),
        }
        round += 1;
        bucket.pause(round).await;
    }
}

/// An upload that was begun. When it is dropped before its end, a task of its own aborts it.
struct Upload {
    bucket: Arc<Bucket>,
    key: Key,
    id: String,
    open: bool,
}

impl Upload {
    async fn begin(bucket: &Arc<Bucket>, key: &Key) -> Result<Self> {
        let begun = bucket
            .client
            .create_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.path(key))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_server_side_encryption(encryption(bucket))
            .set_ssekms_key_id(bucket.kms_key.clone())
            .set_bucket_key_enabled(bucket.kms_key.as_ref().map(|_| true))
            .send()
            .await;
        match begun {
            Ok(CreateMultipartUploadOutput { upload_id: Some(id), .. }) => {
                Ok(Self { bucket: Arc::clone(bucket), key: key.clone(), id, open: true })
            }
            Ok(_) => {
                Err(writing(key).fault(Class::Unavailable, "store.answer", "the server gave an upload no id"))
            }
            Err(error) => Err(bucket.fault(writing(key), &error)),
        }
    }

    /// Sends all parts; in their order when they are done.
    async fn send(&self, body: &Bytes) -> Result<Vec<CompletedPart>, Verdict> {
        let parts = (0..body.len()).step_by(PART).zip(1..);
        let sent = parts.map(|(from, number)| {
            let until = body.len().min(from + PART);
            self.send_part(number, body.slice(from..until))
        });
        futures::stream::iter(sent).buffered(PARTS_AT_ONCE).try_collect().await
    }

    async fn send_part(&self, number: i32, part: Bytes) -> Result<CompletedPart, Verdict> {
        let sum = checksum::of(&part);
        let mut round = 0;
        loop {
            let sent = self
                .bucket
                .client
                .upload_part()
                .bucket(&self.bucket.name)
                .key(self.bucket.path(&self.key))
                .upload_id(&self.id)
                .part_number(number)
                .checksum_sha256(&sum)
                .content_length(part.len() as i64)
                .body(ByteStream::from(part.clone()))
                .customize()
                .config_override(self.bucket.settings_for(part.len()))
                .send()
                .await;
            let error = match sent {
                Ok(sent) => {
                    let part = CompletedPart::builder().part_number(number).checksum_sha256(sum);
                    return Ok(part.set_e_tag(sent.e_tag).build());
                }
                Err(error) => error,
            };
            let fault = self.bucket.fault(writing(&self.key), &error);
            match refusal(&error) {
                // The server has forgotten the upload, as one that lost its state does: all of it is begun anew.
                (404, "NoSuchUpload") => return Err(Verdict::Again(lost(fault))),
                _ if fault.code == TORN && round < ROUNDS => {}
                _ => return Err(Verdict::Failed(fault)),
            }
            round += 1;
            self.bucket.pause(round).await;
        }
    }

    /// Makes the object from its parts; `None` when that made it.
    async fn complete(&mut self, parts: Vec<CompletedPart>) -> Option<Verdict> {
        let condition = self.bucket.condition();
        let completed = self
            .bucket
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket.name)
            .key(self.bucket.path(&self.key))
            .upload_id(&self.id)
            .set_if_none_match(condition.clone())
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            // A server may need to copy the parts before it answers.
            .config_override(self.bucket.settings_for(ABOVE))
            .send()
            .await;
        let Err(error) = completed else {
            self.open = false;
            return None;
        };
        let fault = self.bucket.fault(writing(&self.key), &error);
        match refusal(&error) {
            // Either it was lost, or an attempt before this one completed it and its answer was lost.
            (404, "NoSuchUpload") => match read::size(&self.bucket, &self.key).await {
                Ok(Some(_)) => Some(Verdict::Existed),
                Ok(None) => Some(Verdict::Again(lost(fault))),
                Err(fault) => Some(Verdict::Failed(fault)),
            },
            refusal => Some(verdict(&self.bucket, condition.is_some(), refusal, fault)),
        }
    }

    /// Gives the parts up. That it fails is only logged: the parts are no objects, and cost nothing but their room.
    async fn abort(mut self) {
        self.open = false;
        abort(&self.bucket, &self.key, &self.id).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let (bucket, key, id) = (Arc::clone(&self.bucket), self.key.clone(), std::mem::take(&mut self.id));
        // Without a runtime this process is ending, and the parts are left to the bucket's lifecycle.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { abort(&bucket, &key, &id).await });
        }
    }
}

async fn abort(bucket: &Bucket, key: &Key, id: &str) {
    let aborted = bucket
        .client
        .abort_multipart_upload()
        .bucket(&bucket.name)
        .key(bucket.path(key))
        .upload_id(id)
        .customize()
        .config_override(bucket.settings_for_once())
        .send()
        .await;
    let Err(error) = aborted else { return };
    if refusal(&error).1 == "NoSuchUpload" {
        return;
    }
    let asked = Asked { verb: "abort the upload of", action: "s3:AbortMultipartUpload", of: key.as_str() };
    tracing::warn!(fault = %bucket.fault(asked, &error), "the parts of a failed upload stay until the bucket's lifecycle removes them");
}

fn lost(fault: Fault) -> Fault {
    Fault { class: Class::Unavailable, code: "store.lost-upload", ..fault }
}
