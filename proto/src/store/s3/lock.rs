//! Whether a bucket has Object Lock.

use aws_sdk_s3::types::{DefaultRetention, ObjectLockEnabled};

use super::bucket::Bucket;
use super::fault::{Asked, refusal};
use crate::store::ObjectLock;

const ASKED: Asked<'static> =
    Asked { verb: "ask for the Object Lock of", action: "s3:GetBucketObjectLockConfiguration", of: "" };

/// Looks; what cannot be learnt is told as such.
pub(super) async fn look(bucket: &Bucket) -> ObjectLock {
    let asked = bucket.client.get_object_lock_configuration().bucket(&bucket.name);
    match asked.send().await {
        Ok(found) => {
            let Some(lock) = found.object_lock_configuration else { return ObjectLock::Off };
            if lock.object_lock_enabled != Some(ObjectLockEnabled::Enabled) {
                return ObjectLock::Off;
            }
            let default = lock.rule.and_then(|rule| rule.default_retention);
            ObjectLock::On { retention: default.as_ref().and_then(in_words) }
        }
        Err(error) => match refusal(&error) {
            (
                _,
                "ObjectLockConfigurationNotFoundError" | "NoSuchObjectLockConfiguration" | "NotImplemented",
            )
            | (501, _) => ObjectLock::Off,
            _ => ObjectLock::Unknown { reason: bucket.fault(ASKED, &error).to_string() },
        },
    }
}

fn in_words(default: &DefaultRetention) -> Option<String> {
    let mode = default.mode()?.as_str().to_ascii_lowercase();
    let (count, unit) = match (default.days(), default.years()) {
        (Some(days), _) => (days, "day"),
        (None, Some(years)) => (years, "year"),
        (None, None) => return None,
    };
    Some(format!("{mode}, {count} {unit}{}", if count == 1 { "" } else { "s" }))
}
