//! What a configuration that parses may still get wrong.

use std::path::Path;

use super::{Config, DatabricksConfig, EnvironmentConfig, StoreLocation};
use crate::fault::{Class, Fault};
use crate::ids::EnvName;

/// Everything that is wrong with `config`, each with the key it is about; empty when all is well. `folder` is where
/// relative paths begin.
pub fn check(config: &Config, folder: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(store) = &config.store {
        faults
            .extend(StoreLocation::read(store, folder).err().map(|fault| fault.while_doing("check `store`")));
    }
    check_servers(config, &mut faults);
    faults.extend(config.coordinator.faults());
    for (name, environment) in &config.environments {
        check_environment(name, environment, &mut faults);
    }
    faults
}

/// Workers on other machines need a queue, and a budget that they share: one without the other would either do nothing or
/// ask more of an environment than it allows.
fn check_servers(config: &Config, faults: &mut Vec<Fault>) {
    let redis = ["rediss", "redis", "rediss+sentinel", "redis+sentinel", "unix"];
    faults.extend(config.queue.as_ref().and_then(|queue| queue.fault("queue", &["amqps", "amqp"])));
    faults.extend(config.redis.as_ref().and_then(|server| server.fault("redis", &redis)));
    let (given, missing) = match (&config.queue, &config.redis) {
        (Some(_), None) => ("queue", "redis"),
        (None, Some(_)) => ("redis", "queue"),
        _ => return,
    };
    let detail =
        format!("`{given}` is given and `{missing}` is not: a fleet needs both, an embedded run neither");
    faults.push(
        wrong("config.half-a-fleet", given, detail).hint(format!("add `{missing}:`, or take `{given}:` out")),
    );
}

fn check_environment(name: &EnvName, environment: &EnvironmentConfig, faults: &mut Vec<Fault>) {
    let at = |key: &str| format!("environments.{name}{key}");
    match (&environment.databricks, &environment.postgres) {
        (Some(databricks), None) => check_databricks(&at(".databricks"), databricks, faults),
        (None, Some(postgres)) => faults.extend(postgres.faults(&at(".postgres"))),
        (None, None) => faults.push(
            wrong("config.source", &at(""), "it names no source")
                .hint("add `databricks: {host: https://…, token: env:NAME}` or `postgres: {url: env:NAME}`"),
        ),
        (Some(_), Some(_)) => faults.push(
            wrong("config.source", &at(""), "it names two sources").hint("make an environment of each"),
        ),
    }
    let share = environment.limits.share;
    if !(share > 0.0 && share <= 1.0) {
        let detail = format!("{share} is not above 0 and up to 1");
        faults.push(wrong("config.limits", &at(".limits.share"), detail));
    }
    let factor = environment.limits.factor;
    if !(1.0..=1000.0).contains(&factor) {
        let detail = format!("{factor} is not from 1 up to 1000");
        faults.push(
            wrong("config.limits", &at(".limits.factor"), detail)
                .hint("to use less than the documented limits, lower limits.share"),
        );
    }
    if environment.limits.concurrency == 0 {
        faults.push(wrong("config.limits", &at(".limits.concurrency"), "no call could ever be made"));
    }
    for (key, given) in [(".rpo", environment.rpo), (".rto", environment.rto)] {
        if given.is_some_and(|given| given.0.is_zero()) {
            faults.push(wrong("config.objective", &at(key), "an objective of no time can never be met"));
        }
    }
    if let Some(schedule) = &environment.schedule {
        faults.extend(schedule.read(&at(".schedule")).err());
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if environment.pool.is_empty() || !environment.pool.bytes().all(fits) {
        faults.push(wrong(
            "config.pool",
            &at(".pool"),
            format!("{:?} is no name of a pool", environment.pool),
        ));
    }
}

fn check_databricks(key: &str, given: &DatabricksConfig, faults: &mut Vec<Fault>) {
    if given.host.is_none() && given.profile.is_none() {
        faults.push(
            wrong("config.host", key, "neither `host` nor `profile` is given").hint("add `host: https://…`"),
        );
    }
    if given.host.as_deref().is_some_and(str::is_empty) {
        faults.push(wrong("config.host", &format!("{key}.host"), "it is empty"));
    }
    let pairs = [
        ("client_id", given.client_id.is_some(), "client_secret", given.client_secret.is_some()),
        (
            "azure_client_id",
            given.azure_client_id.is_some(),
            "azure_client_secret",
            given.azure_client_secret.is_some(),
        ),
    ];
    for (id, has_id, secret, has_secret) in pairs {
        if has_id != has_secret {
            let (there, missing) = if has_id { (id, secret) } else { (secret, id) };
            faults.push(wrong("config.credentials", key, format!("`{there}` is given without `{missing}`")));
        }
    }
    let ways = [
        given.token.is_some(),
        given.client_id.is_some(),
        given.azure_client_id.is_some(),
        given.profile.is_some(),
    ];
    if ways.iter().filter(|given| **given).count() > 1 && given.auth_type.is_none() {
        faults.push(
            wrong("config.credentials", key, "more than one way to sign in is given")
                .hint("keep one of: token, client_id with client_secret, azure_client_id with azure_client_secret, profile; or say which with auth_type"),
        );
    }
}

pub(super) fn wrong(code: &'static str, key: &str, detail: impl std::fmt::Display) -> Fault {
    Fault::new(Class::Config, code, format!("check `{key}`"), detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        let config = super::super::parse(Path::new("x.yaml"), text).unwrap();
        check(&config, Path::new("/")).into_iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text =
            "version: 1\nstore: gs://b\nqueue: amqps://x\nenvironments:\n  a: {limits: {share: 1.5}}\n";
        assert_eq!(
            codes(text),
            ["config.store-unsupported", "config.half-a-fleet", "config.source", "config.limits"]
        );
    }

    #[test]
    fn shares_and_credentials_must_make_sense() {
        let with =
            |rest: &str| format!("version: 1\nenvironments:\n  a: {{databricks: {{host: https://x, {rest}\n");
        assert!(codes(&with("token: env:T}, limits: {share: 1}}")).is_empty());
        assert_eq!(codes(&with("token: env:T}, limits: {share: 0}}")), ["config.limits"]);
        assert_eq!(codes(&with("token: env:T}, limits: {share: .nan}}")), ["config.limits"]);
        assert!(codes(&with("token: env:T}, limits: {factor: 4}}")).is_empty());
        for factor in ["0.5", "1001", ".nan"] {
            let typed = with(&format!("token: env:T}}, limits: {{factor: {factor}}}}}"));
            assert_eq!(codes(&typed), ["config.limits"], "{factor}");
        }
        assert_eq!(codes(&with("client_id: env:T}}")), ["config.credentials"]);
        assert_eq!(codes(&with("token: env:T, profile: x}}")), ["config.credentials"]);
        assert!(codes(&with("token: env:T, profile: x, auth_type: pat}}")).is_empty());
        assert_eq!(codes(&with("token: env:T}, rpo: 0s}")), ["config.objective"]);
        assert!(codes(&with("token: env:T}, schedule: {cron: '0 2 * * *'}}")).is_empty());
        assert_eq!(codes(&with("token: env:T}, schedule: {cron: '0 25 * * *'}}")), ["config.cron"]);
    }
}
