//! What the broker and the library that speaks to it report, as faults of ours. Codes: `queue.denied`, `queue.tls`,
//! `queue.unreachable`, `queue.lost`, `queue.mismatch`, `queue.blocked`, `queue.refused`, `queue.unroutable`,
//! `queue.unconfirmed`, `queue.unsettled`, `queue.cancelled`, `queue.closed`, `queue.url`, `queue.too-large`.

use std::fmt;
use std::io;

use lapin::ErrorKind;

use crate::fault::{Class, Fault};

/// The code of a fault after which the same call may succeed on the next connection.
pub(super) const LOST: &str = "queue.lost";

/// The reply codes of AMQP that we tell apart (<https://www.rabbitmq.com/docs/channels#error-handling>, 2026-11-21).
pub(super) mod reply {
    pub(crate) const ACCESS_REFUSED: u16 = 403;
    pub(crate) const NOT_FOUND: u16 = 404;
    pub(crate) const RESOURCE_LOCKED: u16 = 405;
    pub(crate) const PRECONDITION_FAILED: u16 = 406;
    pub(crate) const NOT_ALLOWED: u16 = 530;
}

/// The reply code in an error, where the broker sent it.
pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(e) => Some(e.get_id()),
        _ => None,
    }
}

/// A fault of an operation on a connection that was up.
pub(super) fn of(error: &lapin::Error, context: impl Into<String>) -> Fault {
    match (reply_code(error), error.kind()) {
        (Some(reply::ACCESS_REFUSED | reply::NOT_ALLOWED), ErrorKind::ProtocolError(e)) => {
            denied(context, e.get_message())
        }
        (Some(_), ErrorKind::ProtocolError(e)) => lost(context, e.get_message()),
        _ => lost(context, error),
    }
}

/// A fault of an attempt to connect. `shown` is the URL without its user.
pub(super) fn of_connecting(error: &lapin::Error, shown: &str) -> Fault {
    let context = format!("connect to {shown}");
    match (reply_code(error), error.kind()) {
        (Some(reply::ACCESS_REFUSED | reply::NOT_ALLOWED), ErrorKind::ProtocolError(e)) => {
            denied(context, e.get_message())
        }
        (_, ErrorKind::AuthProviderError(e)) => denied(context, e),
        // The only invalid data before a handshake is done is TLS: a certificate, or a port that speaks something else.
        (_, ErrorKind::IOError(e)) if e.kind() == io::ErrorKind::InvalidData => tls(context, e),
        (_, ErrorKind::IOError(e)) => unreachable(context, e),
        _ => unreachable(context, error),
    }
}

pub(super) fn denied(context: impl Into<String>, detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Denied, "queue.denied", context, format!("the broker refused: {detail}")).hint(
        "check user, password and virtual host of `queue:`; the user needs to configure, write and read \
         `^lakehold\\..*` there",
    )
}

pub(super) fn tls(context: impl Into<String>, detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Config, "queue.tls", context, detail).hint(
        "check that the port speaks TLS, that the host is a name in the broker's certificate, and that the \
         configured authority (or the system's, where none is configured) signed it",
    )
}

pub(super) fn unreachable(context: impl Into<String>, detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Unavailable, "queue.unreachable", context, detail)
        .hint("check that the broker runs and that host and port of `queue:` are right; we keep trying")
}

pub(super) fn lost(context: impl Into<String>, detail: impl fmt::Display) -> Fault {
    Fault::new(Class::Unavailable, LOST, context, detail)
}

pub(super) fn closed(context: impl Into<String>) -> Fault {
    Fault::new(Class::Cancelled, "queue.closed", context, "the queue was closed by this process")
}

pub(super) fn blocked(context: impl Into<String>, reason: &str) -> Fault {
    Fault::new(
        Class::Unavailable,
        "queue.blocked",
        context,
        format!("the broker takes no messages: {reason}"),
    )
    .hint("the broker is short of memory or disk space: see its alarms")
}

/// We are connected, but this one thing is not answered. 3.10 does that for ever with a queue whose node was killed within
/// half a second of its first declaration: it comes back without a leader.
pub(super) fn silent(context: impl Into<String>) -> Fault {
    let detail = "the broker is there, but did not answer this in time";
    Fault::new(Class::Unavailable, "queue.unconfirmed", context, detail).hint(
        "see `rabbitmq-queues quorum_status` of the queue: without a leader it waits for its nodes; one that never gets \
         any can be deleted, since a run sends again what it held",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lapin::protocol::{AMQPError, AMQPErrorKind};

    use super::*;

    fn protocol(code: u16) -> lapin::Error {
        let kind = AMQPErrorKind::from_id(code).unwrap();
        ErrorKind::ProtocolError(AMQPError::new(kind, "because".into())).into()
    }

    #[test]
    fn refusals_are_told_from_trouble() {
        let class = |code| of(&protocol(code), "x").class;
        assert_eq!(
            [class(403), class(530), class(320), class(404)].map(Class::word),
            ["denied", "denied", "unavailable", "unavailable"]
        );
        let io = |kind| lapin::Error::from(ErrorKind::IOError(Arc::new(io::Error::from(kind))));
        assert_eq!(of_connecting(&io(io::ErrorKind::InvalidData), "x").code, "queue.tls");
        assert_eq!(of_connecting(&io(io::ErrorKind::ConnectionRefused), "x").code, "queue.unreachable");
    }
}
