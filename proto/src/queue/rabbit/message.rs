//! A message as the broker carries it.
//!
//! Headers hold the context of the trace and nothing else of ours; what the broker adds begins with `x-`. Of a message that
//! somebody else sent, only what we understand is read, and the rest is passed over.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::super::{MAX_MESSAGE, Message, QueueName};
use crate::fault::{Class, Fault, Result};

/// What [`Message::of`] writes.
const CONTENT_TYPE: &str = "application/vnd.msgpack";
/// Survives the broker; quorum queues keep every message, but what lands elsewhere as a dead letter goes by this.
const PERSISTENT: u8 = 2;
/// Confirmed as soon as it lies in memory: a report is a hint.
const FLEETING: u8 = 1;
/// Headers must fit into one frame; a trace's context has some hundred bytes.
const MAX_TRACE: usize = 8 * 1024;

/// A message ready to be sent, as often as it takes.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) queue: QueueName,
    /// The queue's name again, as the library wants it.
    pub(super) route: ShortString,
    /// Nobody else's: the broker's answers are matched by it.
    pub(super) id: ShortString,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
}

impl Parcel {
    pub(super) fn of(queue: &QueueName, message: Message, id: &str) -> Result<Self> {
        let bug = |what: &str, size: usize, most: usize| {
            let detail = format!("its {what} has {size} bytes, {most} are allowed");
            Fault::new(Class::Bug, "queue.too-large", format!("publish to {queue:?}"), detail)
        };
        if message.body.len() > MAX_MESSAGE {
            return Err(bug("body", message.body.len(), MAX_MESSAGE));
        }
        let traced = message.trace.iter().map(|(name, value)| name.len() + value.len()).sum();
        if traced > MAX_TRACE {
            return Err(bug("trace context", traced, MAX_TRACE));
        }
        let short = |text: &str| ShortString::try_new(text).map_err(|_long| bug("name", text.len(), 255));
        let id = short(id)?;
        let mut headers = FieldTable::default();
        for (name, value) in &message.trace {
            headers.insert(short(name)?, AMQPValue::LongString(value.as_str().into()));
        }
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(if queue.is_replies() { FLEETING } else { PERSISTENT })
            .with_message_id(id.clone())
            .with_headers(headers);
        Ok(Self { queue: queue.clone(), route: short(queue.as_str())?, id, body: message.body, properties })
    }
}

/// The message that was delivered.
pub(super) fn message(properties: &BasicProperties, body: Vec<u8>) -> Message {
    Message { body: Bytes::from(body), trace: trace(properties) }
}

fn trace(properties: &BasicProperties) -> BTreeMap<String, String> {
    let mut trace = BTreeMap::new();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        if name.as_str().starts_with("x-") {
            continue;
        }
        if let Some(text) = text(value) {
            trace.insert(name.to_string(), text);
        }
    }
    trace
}

/// How often it came back before, by the broker's count.
pub(super) fn returns(properties: &BasicProperties) -> u32 {
    let headers = properties.headers().as_ref();
    let counted = headers.and_then(|headers| number(headers.inner().get("x-delivery-count")?));
    counted.map_or(0, |counted| u32::try_from(counted).unwrap_or(u32::MAX))
}

pub(super) fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

pub(super) fn number(value: &AMQPValue) -> Option<u64> {
    match *value {
        AMQPValue::ShortShortInt(n) => n.try_into().ok(),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => n.try_into().ok(),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => n.try_into().ok(),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => n.try_into().ok(),
        AMQPValue::Timestamp(n) => Some(n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_the_trace_and_passes_over_what_is_not_ours() {
        let trace = BTreeMap::from([("traceparent".to_owned(), "00-1-2-01".to_owned())]);
        let sent = Message { body: Bytes::from_static(b"x"), trace };
        let parcel = Parcel::of(&QueueName::tasks("p"), sent.clone(), "1").unwrap();
        let mut headers = parcel.properties.headers().clone().unwrap();
        headers.insert("x-first-death-queue".into(), AMQPValue::LongString("q".into()));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        headers.insert("number".into(), AMQPValue::LongLongInt(-3));
        headers.insert("bytes".into(), AMQPValue::LongString(vec![0xff_u8].into()));
        let properties = parcel.properties.with_headers(headers);
        assert_eq!(message(&properties, b"x".to_vec()), sent);
        assert_eq!(returns(&properties), 3);
    }

    #[test]
    fn refuses_what_no_message_of_ours_is() {
        let queue = QueueName::tasks("p");
        let large = Message::from(Bytes::from(vec![0; MAX_MESSAGE + 1]));
        assert_eq!(Parcel::of(&queue, large, "1").unwrap_err().code, "queue.too-large");
        let trace = BTreeMap::from([("k".repeat(300), String::new())]);
        let named = Message { body: Bytes::new(), trace };
        assert_eq!(Parcel::of(&queue, named, "1").unwrap_err().code, "queue.too-large");
        let long = QueueName::tasks(&"p".repeat(300));
        assert_eq!(Parcel::of(&long, Message::default(), "1").unwrap_err().code, "queue.too-large");
    }
}
