//! What the S3 servers of the tests share: their bucket as a store knows it, a client to look behind the store's back, and
//! ports.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
};
use lakehold_proto::secret::Secret;
use lakehold_proto::store::s3::{S3Config, S3Keys};

use super::seaweed::BUCKET;

/// The bucket of a server, for one of its users.
pub fn bucket(endpoint: &str, (id, secret): (&str, &str)) -> S3Config {
    S3Config {
        bucket: BUCKET.into(),
        endpoint: Some(endpoint.into()),
        path_style: true,
        keys: Some(S3Keys { id: id.into(), secret: Secret::new(secret), session: None }),
        ..S3Config::default()
    }
}

/// A client that tries once.
pub fn client(endpoint: &str, (id, secret): (&str, &str)) -> Client {
    let settings = Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .credentials_provider(Credentials::new(id, secret, None, None, "tests"))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled());
    Client::from_conf(settings.build())
}

/// Makes a bucket `locked` whose objects nobody can delete for a day.
pub async fn create_locked(admin: &Client) {
    admin.create_bucket().bucket("locked").object_lock_enabled_for_bucket(true).send().await.unwrap();
    let mode = DefaultRetention::builder().mode(ObjectLockRetentionMode::Compliance).days(1);
    let rule = ObjectLockRule::builder().default_retention(mode.build()).build();
    let lock = ObjectLockConfiguration::builder().object_lock_enabled(ObjectLockEnabled::Enabled).rule(rule);
    let lock = admin.put_object_lock_configuration().bucket("locked").object_lock_configuration(lock.build());
    lock.send().await.unwrap();
}
