//! Opens what the configuration names: the one place that knows which adapters there are.

use std::path::Path;
use std::sync::Arc;

use crate::clock::SharedClock;
use crate::config::{Config, ServerConfig, Settings, StoreLocation};
use crate::fault::{Class, Fault, Result};
use crate::locks::redis::{CarefulLocks, RedisConfig, RedisTls};
use crate::queue::rabbit::{ClientCertificate, RabbitConfig, RabbitQueue};
use crate::secret::Secret;
use crate::store::s3::{S3Config, S3Store};
use crate::store::{DirectoryStore, SharedStore, Traced};

/// The store; also as a directory, where it is one. A directory need not exist.
///
/// # Errors
/// For a bucket, what keeps it from being reached.
pub async fn store(settings: &Settings) -> Result<(SharedStore, Option<DirectoryStore>)> {
    match &settings.store {
        StoreLocation::Directory(path) => {
            let directory = DirectoryStore::new(path);
            Ok((Traced::over(Arc::new(directory.clone())), Some(directory)))
        }
        StoreLocation::Bucket { bucket, prefix } => {
            let given = &settings.config.s3;
            let config = S3Config {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: given.endpoint.clone(),
                region: given.region.clone(),
                path_style: given.path_style,
                kms_key: given.kms_key.clone(),
                insecure: given.insecure,
                ..S3Config::default()
            };
            let store = Arc::new(S3Store::connect(config).await?);
            Ok((Traced::over_bucket(store, bucket, prefix), None))
        }
    }
}

/// What processes on several machines share.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// How tasks and reports travel.
    pub queue: Arc<RabbitQueue>,
    /// Locks and the budget.
    pub locks: Arc<CarefulLocks>,
}

/// The fleet that the configuration names; `None` when everything runs in one process. `store` is the id of the store,
/// which keeps installations apart that share a Redis; `name` is what the broker's own lists call us.
///
/// # Errors
/// `Config` and `Denied` for what a person must mend; `Unavailable` when the broker or Redis cannot be reached.
pub async fn fleet(config: &Config, store: &str, name: &str, clock: &SharedClock) -> Result<Option<Fleet>> {
    let (Some(queue), Some(redis)) = (&config.queue, &config.redis) else { return Ok(None) };
    let (queue, redis) = (rabbit(queue, name)?, redis_at(redis, store)?);
    let queue = RabbitQueue::connect(&queue, Arc::clone(clock));
    let locks = CarefulLocks::connect(&redis, Arc::clone(clock));
    let (queue, locks) = futures::try_join!(queue, locks)?;
    Ok(Some(Fleet { queue: Arc::new(queue), locks: Arc::new(locks) }))
}

/// The configured queue alone; `None` when everything runs in one process.
///
/// # Errors
/// Those of [`fleet`] that concern the broker.
pub async fn queue(config: &Config, name: &str, clock: &SharedClock) -> Result<Option<RabbitQueue>> {
    let Some(queue) = &config.queue else { return Ok(None) };
    RabbitQueue::connect(&rabbit(queue, name)?, Arc::clone(clock)).await.map(Some)
}

fn rabbit(given: &ServerConfig, name: &str) -> Result<RabbitConfig> {
    let client = given.certificate.clone().zip(given.key.clone());
    Ok(RabbitConfig {
        ca: given.ca.clone(),
        client: client.map(|(certificate, key)| ClientCertificate { certificate, key }),
        insecure: given.insecure,
        name: name.to_owned(),
        ..RabbitConfig::new(given.url("queue")?)
    })
}

fn redis_at(given: &ServerConfig, prefix: &str) -> Result<RedisConfig> {
    let identity = match given.certificate.as_deref().zip(given.key.as_deref()) {
        Some((certificate, key)) => {
            let key = String::from_utf8_lossy(&read("redis.key", key)?).into_owned();
            Some((read("redis.certificate", certificate)?, Secret::new(key)))
        }
        None => None,
    };
    let ca = given.ca.as_deref().map(|ca| read("redis.ca", ca)).transpose()?;
    let tls = (ca.is_some() || identity.is_some()).then_some(RedisTls { ca, identity });
    Ok(RedisConfig { insecure: given.insecure, tls, ..RedisConfig::new(given.url("redis")?, prefix) })
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>> {
    let context = || format!("read {} (`{key}`)", path.display());
    std::fs::read(path).map_err(|e| Fault::new(Class::Config, "config.certificate", context(), e))
}
