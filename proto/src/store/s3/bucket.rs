//! A bucket: its client, how long things may take, and what it is known to be able to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::{RetryConfig, RetryPartition, TokenBucket};
use aws_sdk_s3::config::{
    AppName, Builder, Credentials, ProvideCredentials as _, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use bytes::Bytes;
use rand::Rng as _;
use serde::Deserialize;

use super::config::{S3Config, S3Keys, refused};
use super::fault::chain;
use crate::clock::{SharedClock, SystemClock};
use crate::fault::Result;
use crate::store::Key;

/// How often something is begun anew here, above what the SDK repeats.
pub(super) const ROUNDS: u32 = 5;
/// The slowest line that is still worth waiting for, in bytes a second.
const SLOWEST: u64 = 128 << 10;
const CONNECT: Duration = Duration::from_secs(5);
/// How long a body may stand still.
const STALLED: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) name: String,
    /// Goes before every key: empty, or ending in `/`.
    pub(super) root: String,
    pub(super) kms_key: Option<String>,
    endpoint: Option<String>,
    timeout: Duration,
    timeouts: TimeoutConfig,
    conditional: AtomicBool,
    clock: SharedClock,
}

/// The part of `lakehold.json` that a bucket is opened with.
#[derive(Deserialize)]
struct Identity {
    probe: Probe,
}

#[derive(Deserialize)]
struct Probe {
    conditional_create: bool,
}

impl Bucket {
    pub(super) async fn open(config: S3Config) -> Result<Self> {
        config.check()?;
        let root = config.root()?;
        let (credentials, region) = identify(&config).await?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT.min(config.timeout()))
            .operation_attempt_timeout(config.timeout())
            .build();
        // Not made from the whole environment: an endpoint that a variable names would bypass what was checked, and the
        // location that people are shown would not be the one that is used.
        let mut settings = Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .credentials_provider(credentials)
            .region(region)
            .force_path_style(config.path_style)
            .retry_config(RetryConfig::standard().with_max_attempts(config.attempts()))
            // Left to itself the SDK shares 500 tokens among all clients of a process, and some fifty lost requests use
            // them up: after an outage nothing would be repeated for a long while. What bounds ours are the attempts
            // and their growing pauses.
            .retry_partition(
                RetryPartition::custom("lakehold").token_bucket(TokenBucket::unlimited()).build(),
            )
            .timeout_config(timeouts.clone())
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALLED).build())
            // We send a SHA-256 ourselves, and compare it ourselves: the SDK's own default is refused by some servers.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        settings.set_app_name(AppName::new("lakehold").ok());
        settings.set_endpoint_url(config.endpoint.clone());
        Ok(Self {
            client: Client::from_conf(settings.build()),
            timeout: config.timeout(),
            name: config.bucket,
            root,
            kms_key: config.kms_key,
            endpoint: config.endpoint,
            timeouts,
            conditional: AtomicBool::new(true),
            clock: SystemClock::shared(),
        })
    }

    /// Takes over what a probe recorded in `lakehold.json`. One that cannot be read is for whoever opens the store.
    pub(super) fn believe(&self, identity: &Bytes) {
        if let Ok(identity) = serde_json::from_slice::<Identity>(identity) {
            self.conditional.store(identity.probe.conditional_create, Ordering::Relaxed);
        }
    }

    /// Whether a create may rely on the server to refuse a second one.
    pub(super) fn is_conditional(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    /// The server has just refused the condition itself; from now on this bucket is asked first.
    pub(super) fn lacks_conditions(&self) {
        if self.conditional.swap(false, Ordering::Relaxed) {
            tracing::warn!(store = %self.location(), "the server refuses conditional creates: run one coordinator at a time");
        }
    }

    /// The value of `If-None-Match`.
    pub(super) fn condition(&self) -> Option<String> {
        self.is_conditional().then(|| "*".to_owned())
    }

    pub(super) fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    pub(super) fn location(&self) -> String {
        let url = format!("s3://{}/{}", self.name, self.root);
        let url = url.trim_end_matches('/');
        match &self.endpoint {
            Some(endpoint) => format!("{url} at {}", endpoint.trim_end_matches('/')),
            None => url.to_owned(),
        }
    }

    /// How long a request may take that moves `bytes`.
    pub(super) fn time_for(&self, bytes: u64) -> Duration {
        self.timeout + Duration::from_secs(bytes / SLOWEST)
    }

    /// The settings of a request that uploads `bytes`.
    pub(super) fn settings_for(&self, bytes: usize) -> Builder {
        let timeouts =
            self.timeouts.to_builder().operation_attempt_timeout(self.time_for(bytes as u64)).build();
        Builder::new().timeout_config(timeouts)
    }

    /// The settings of a request whose failure nobody waits for long.
    pub(super) fn settings_for_once(&self) -> Builder {
        Builder::new()
            .timeout_config(self.timeouts.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(1))
    }

    /// Waits before round `round` (from 1) is begun anew: longer each time, and not all at once.
    pub(super) async fn pause(&self, round: u32) {
        let most = FIRST_PAUSE * 2_u32.pow(round.min(6));
        let pause = most.mul_f64(rand::rng().random_range(0.5..1.0));
        self.clock.sleep(pause).await;
    }
}

/// Finds credentials and region, as given or by the standard chain.
async fn identify(config: &S3Config) -> Result<(SharedCredentialsProvider, Region)> {
    let given = config.keys.as_ref().map(|keys| SharedCredentialsProvider::new(credentials(keys)));
    let mut region = config.region.clone().map(Region::new);
    if region.is_none() && config.endpoint.is_some() {
        region = Some(Region::from_static("us-east-1"));
    }
    if let (Some(given), Some(region)) = (&given, &region) {
        return Ok((given.clone(), region.clone()));
    }
    let found = aws_config::defaults(BehaviorVersion::v2026_01_12());
    let found = match region {
        Some(region) => found.region(region),
        None => found,
    };
    let found = found.load().await;
    let Some(region) = found.region().cloned() else {
        return Err(refused(
            "store.no-region",
            format!("nothing says in which region bucket {} is", config.bucket),
        )
        .hint("set `region` in the configuration's s3 block, or AWS_REGION"));
    };
    let none = |why: &str| {
        refused("store.no-credentials", format!("no credentials were found: {why}"))
            .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine or pod a role")
    };
    let Some(credentials) = given.or_else(|| found.credentials_provider()) else {
        return Err(none("no provider"));
    };
    // Asked now, for a clear word at the start; the SDK asks again, and anew when they expire.
    credentials.provide_credentials().await.map_err(|e| none(&chain(&e)))?;
    Ok((credentials, region))
}

fn credentials(keys: &S3Keys) -> Credentials {
    let session = keys.session.as_ref().map(|token| token.reveal().to_owned());
    Credentials::new(&keys.id, keys.secret.reveal(), session, None, "lakehold")
}
