//! One function for each promise of [`Queue`]; every adapter passes all of them.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Consumer, Delivery, Message, Queue, QueueName};
use crate::ids::Nonce;

/// Runs the whole suite on fresh queue names, so that it can share a broker with others.
pub async fn all(queue: &dyn Queue) {
    at_least_once(queue).await;
    a_dropped_delivery_comes_again(queue).await;
    handed_back_work_goes_to_somebody_else(queue).await;
    a_consumer_holds_one_message(queue).await;
    a_consumer_may_hold_several(queue).await;
    queues_are_apart(queue).await;
    what_waits_is_counted(queue).await;
    a_message_of_the_largest_size_passes(queue).await;
    the_context_of_a_trace_travels_along(queue).await;
    many_may_be_sent_at_once(queue).await;
}

fn fresh() -> QueueName {
    QueueName::tasks(&format!("conformance-{}", Nonce::random()))
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Box<dyn Delivery> {
    consumer.next().await.unwrap().expect("the queue was closed")
}

/// Everything published is delivered, whatever the order and however often.
pub async fn at_least_once(queue: &dyn Queue) {
    let name = fresh();
    let mut owed: HashSet<Bytes> = (0..50_u8).map(|n| Bytes::from(vec![n; 8])).collect();
    for body in &owed {
        queue.publish(&name, Message::from(body.clone())).await.unwrap();
    }
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    while !owed.is_empty() {
        let delivery = next(&mut consumer).await;
        owed.remove(&delivery.message().body);
        delivery.acknowledge().await.unwrap();
    }
}

async fn a_dropped_delivery_comes_again(queue: &dyn Queue) {
    let name = fresh();
    queue.publish(&name, Message::from(Bytes::from_static(b"once more"))).await.unwrap();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    for times in 0..3 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message().body.as_ref(), b"once more");
        assert_eq!(delivery.returned(), times, "each return counts");
    }
    next(&mut consumer).await.acknowledge().await.unwrap();
}

async fn handed_back_work_goes_to_somebody_else(queue: &dyn Queue) {
    let name = fresh();
    queue.publish(&name, Message::from(Bytes::from_static(b"take it"))).await.unwrap();
    let mut first = queue.consume(&name, 1).await.unwrap();
    let delivery = next(&mut first).await;
    let mut second = queue.consume(&name, 1).await.unwrap();
    drop(first);
    delivery.hand_back().await.unwrap();
    let taken = next(&mut second).await;
    assert_eq!(taken.message().body.as_ref(), b"take it");
    taken.acknowledge().await.unwrap();
}

async fn a_consumer_holds_one_message(queue: &dyn Queue) {
    let name = fresh();
    for body in [b"a", b"b"] {
        queue.publish(&name, Message::from(Bytes::copy_from_slice(body))).await.unwrap();
    }
    let mut one = queue.consume(&name, 1).await.unwrap();
    let held = next(&mut one).await;
    let mut two = queue.consume(&name, 1).await.unwrap();
    let other = next(&mut two).await;
    assert_ne!(held.message(), other.message(), "the second message was not kept back by the first consumer");
    held.acknowledge().await.unwrap();
    other.acknowledge().await.unwrap();
}

async fn a_consumer_may_hold_several(queue: &dyn Queue) {
    let name = fresh();
    for body in [b"a", b"b", b"c"] {
        queue.publish(&name, Message::from(Bytes::copy_from_slice(body))).await.unwrap();
    }
    let mut consumer = queue.consume(&name, 3).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut consumer).await);
    }
    let bodies: HashSet<_> = held.iter().map(|delivery| delivery.message().body.clone()).collect();
    assert_eq!(bodies.len(), 3);
    // Settled in any order.
    for delivery in held.into_iter().rev() {
        delivery.acknowledge().await.unwrap();
    }
}

async fn what_waits_is_counted(queue: &dyn Queue) {
    let name = fresh();
    for _ in 0..3 {
        queue.publish(&name, Message::default()).await.unwrap();
    }
    // A broker's count may lag behind.
    while queue.waiting(&name).await.unwrap() != 3 {}
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    let held = next(&mut consumer).await;
    while queue.waiting(&name).await.unwrap() != 2 {}
    held.acknowledge().await.unwrap();
    for left in [1, 0] {
        let delivery = next(&mut consumer).await;
        while queue.waiting(&name).await.unwrap() != left {}
        delivery.acknowledge().await.unwrap();
    }
}

async fn queues_are_apart(queue: &dyn Queue) {
    let (here, there) = (fresh(), fresh());
    queue.publish(&there, Message::from(Bytes::from_static(b"there"))).await.unwrap();
    queue.publish(&here, Message::from(Bytes::from_static(b"here"))).await.unwrap();
    let mut consumer = queue.consume(&here, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message().body.as_ref(), b"here");
    delivery.acknowledge().await.unwrap();
}

async fn a_message_of_the_largest_size_passes(queue: &dyn Queue) {
    let name = fresh();
    let body = Bytes::from(vec![7; super::MAX_MESSAGE]);
    queue.publish(&name, Message::from(body.clone())).await.unwrap();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message().body, body);
    delivery.acknowledge().await.unwrap();
}

async fn the_context_of_a_trace_travels_along(queue: &dyn Queue) {
    let name = fresh();
    let trace =
        [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=b")];
    let trace = trace.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
    let message = Message { body: Bytes::from_static(b"traced"), trace };
    queue.publish(&name, message.clone()).await.unwrap();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(*delivery.message(), message);
    assert_eq!(delivery.returned(), 0);
    delivery.acknowledge().await.unwrap();
}

async fn many_may_be_sent_at_once(queue: &dyn Queue) {
    let name = fresh();
    let mut owed: HashSet<Bytes> = (0..500_u16).map(|n| Bytes::from(n.to_be_bytes().to_vec())).collect();
    let sent = owed.iter().map(|body| queue.publish(&name, Message::from(body.clone())));
    futures::future::try_join_all(sent).await.unwrap();
    let mut consumer = queue.consume(&name, 1).await.unwrap();
    while !owed.is_empty() {
        let delivery = next(&mut consumer).await;
        owed.remove(&delivery.message().body);
        delivery.acknowledge().await.unwrap();
    }
}
