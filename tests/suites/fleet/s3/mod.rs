//! The store in a bucket: against SeaweedFS, which checks credentials and survives a crash; against MiniStack, which has
//! Object Lock and KMS; and through a proxy that does what networks and lesser servers do.

mod conditions;
mod crashes;
mod line;
mod promises;
mod refusals;

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use lakehold_proto::store::Key;
use lakehold_proto::store::s3::{S3Config, S3Store};
use lakehold_tests::component::ministack::Ministack;
use lakehold_tests::component::s3;
use lakehold_tests::component::seaweed::{BUCKET, Seaweed};

/// A body that is uploaded in parts: three of 8 MiB.
const LARGE: usize = (16 << 20) + 5;

/// A bucket as [`who`] sees it, with little patience.
fn bucket(endpoint: &str, who: (&str, &str)) -> S3Config {
    S3Config {
        prefix: "some/store".into(),
        attempts: NonZeroU32::new(3),
        timeout: Some(Duration::from_secs(20)),
        ..s3::bucket(endpoint, who)
    }
}

async fn connect(endpoint: &str, who: (&str, &str)) -> S3Store {
    S3Store::connect(bucket(endpoint, who)).await.unwrap()
}

/// An emulator with the bucket, and whoever asks it: it looks at no credentials, and so lets a proxy change requests.
async fn ministack() -> Ministack {
    let server = Ministack::start().await;
    server.admin().create_bucket().bucket(BUCKET).send().await.unwrap();
    server
}

const ANYBODY: (&str, &str) = ("anybody", "any-secret-0123456789");

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

/// Bytes that are the same for the same seed, and compress to nothing less.
fn noise(seed: u64, length: usize) -> Bytes {
    use rand::{RngCore as _, SeedableRng as _};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let look = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The uploads of parts that are open, as the server tells.
async fn open_uploads(admin: &aws_sdk_s3::Client) -> usize {
    let found = admin.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    found.uploads.unwrap_or_default().len()
}

async fn weed() -> Seaweed {
    Seaweed::start().await
}
