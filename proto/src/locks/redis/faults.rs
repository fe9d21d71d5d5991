//! What Redis and the way to it say, as faults.
//!
//! | code | class | meaning |
//! |---|---|---|
//! | `locks.unreachable` | unavailable | no connection, or it broke |
//! | `locks.silent` | unavailable | connected, and no answer in time |
//! | `locks.read-only` | unavailable | a replica answered: a failover is under way, or the address is wrong |
//! | `locks.full` | unavailable | Redis has used up its memory and takes no writes |
//! | `locks.loading` | unavailable | Redis has just started, or waits for its primary |
//! | `locks.no-primary` | unavailable | no Sentinel knows a primary that answers |
//! | `locks.refused` | unavailable | any other error of the server |
//! | `locks.denied` | denied | user, password or rights |
//! | `locks.tls` | config | the certificate is not trusted, or ours cannot be used |
//! | `locks.url`, `locks.plain`, `locks.prefix` | config | what was configured cannot be used |

use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use super::address::Address;
use crate::fault::{Class, Fault};

const SILENT: &str = "Redis is overloaded or stopped, or the network drops what is sent";

/// The fault for `error`, met while doing `context` at `address`.
///
/// A server's message names users, commands and keys, never a password.
pub(super) fn fault(context: &str, address: &Address, error: &RedisError) -> Fault {
    let (class, code, hint) = meaning(error);
    let fault = Fault::new(class, code, context, format_args!("{address}: {error}"));
    if hint.is_empty() { fault } else { fault.hint(hint) }
}

fn meaning(error: &RedisError) -> (Class, &'static str, &'static str) {
    use Class::{Config, Denied, Unavailable};
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            return (Denied, "locks.denied", "check the user and the password in the address of Redis");
        }
        ErrorKind::Io if certificate(error) => {
            let hint = "the server's certificate must be for the host of the address, by an authority that is trusted \
                        here; a private one is given as `ca`";
            return (Config, "locks.tls", hint);
        }
        ErrorKind::Io if error.is_timeout() => return (Unavailable, "locks.silent", SILENT),
        ErrorKind::Io => {
            let hint = "is Redis running, and does this machine reach it?";
            return (Unavailable, "locks.unreachable", hint);
        }
        ErrorKind::InvalidClientConfig => return (Config, "locks.tls", ""),
        _ => {}
    }
    match error.code().unwrap_or_default() {
        "NOAUTH" | "WRONGPASS" => {
            (Denied, "locks.denied", "check the user and the password in the address of Redis")
        }
        "NOPERM" => {
            let hint = "give the user the rights that deploy/fleet.md lists";
            (Denied, "locks.denied", hint)
        }
        "READONLY" => {
            let hint = "a replica takes no writes: name the primary, or use a Sentinel address";
            (Unavailable, "locks.read-only", hint)
        }
        "OOM" => {
            let hint = "raise maxmemory, or give Lakehold a Redis of its own: it needs a few megabytes";
            (Unavailable, "locks.full", hint)
        }
        "LOADING" | "MASTERDOWN" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" => (Unavailable, "locks.loading", ""),
        "MISCONF" => (Unavailable, "locks.refused", "Redis cannot save to its disk: see its log"),
        "NOREPLICAS" => {
            (Unavailable, "locks.refused", "too few replicas are in step (min-replicas-to-write)")
        }
        _ => (Unavailable, "locks.refused", ""),
    }
}

/// Whether the TLS library did not like what it saw: it reports this as data that is not valid.
fn certificate(error: &RedisError) -> bool {
    let source =
        error.source().and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| io.kind() == io::ErrorKind::InvalidData)
}

/// Whether the connection is at fault, or what lies behind it: another one may do better.
pub(super) fn wants_another_connection(error: &RedisError) -> bool {
    !matches!(error.code(), Some("NOPERM" | "WRONGTYPE"))
}

/// Whether the server said nothing because the connection was found broken.
pub(super) fn broke(error: &RedisError) -> bool {
    error.is_io_error() && !error.is_timeout()
}

/// No answer in time.
pub(super) fn silent(context: &str, address: &Address, detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Unavailable, "locks.silent", context, format_args!("{address}: {detail}")).hint(SILENT)
}

/// No Sentinel could name a primary.
pub(super) fn no_primary(address: &Address, detail: impl fmt::Display) -> Fault {
    Fault::new(
        Class::Unavailable,
        "locks.no-primary",
        "find the primary",
        format_args!("{address}: {detail}"),
    )
    .hint("the word after the slash is the name the Sentinels watch it by; a failover takes a few seconds")
}
