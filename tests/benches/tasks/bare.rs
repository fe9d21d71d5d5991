//! What lapin does by itself.

use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::clock::SystemClock;
use lakehold_proto::ids::Nonce;
use lakehold_tests::component::rabbitmq::Rabbit;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use crate::SLOTS;

/// About what an assignment has.
const BODY: usize = 700;

/// So many messages there and back; how many a second.
pub(crate) async fn bare(rabbit: &Rabbit, folder: &Path, tasks: usize) -> f64 {
    let clock = SystemClock::shared();
    let connect = async || {
        let properties = ConnectionProperties::default();
        Arc::new(Connection::connect(&rabbit.url(), properties).await.unwrap())
    };
    let (sending, taking) = (connect().await, connect().await);
    let (name, replies) = (format!("bare.{}", Nonce::random()), format!("bare.replies.{}", Nonce::random()));
    let declaring = sending.create_channel().await.unwrap();
    for (queue, kind) in [(&name, "quorum"), (&replies, "classic")] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        declaring.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
    }
    let reports = Arc::new(sending.create_channel().await.unwrap());
    reports.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for slot in 0..SLOTS {
        let channel = taking.create_channel().await.unwrap();
        channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        let mut consumer = channel
            .basic_consume(
                name.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let (folder, replies, reports) = (folder.to_owned(), replies.clone(), Arc::clone(&reports));
        tokio::spawn(async move {
            let mut done = 0;
            while let Some(Ok(delivery)) = consumer.next().await {
                done += 1;
                let path = folder.join(format!("{slot}-{done}"));
                tokio::fs::write(path, &delivery.data).await.unwrap();
                // The last ones may find the connection closed: what we wait for is heard before it is confirmed here.
                if publish(&reports, &replies, 200).await.is_err() {
                    return;
                }
                let _ = delivery.acker.ack(BasicAckOptions::default()).await;
            }
        });
    }
    let hearing = taking.create_channel().await.unwrap();
    hearing.basic_qos(64, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut heard = hearing
        .basic_consume(replies.as_str().into(), "".into(), options, FieldTable::default())
        .await
        .unwrap();
    let channel = sending.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let began = clock.tick();
    let send = futures::stream::iter(0..tasks)
        .map(Ok)
        .try_for_each_concurrent(256, |_| publish(&channel, &name, BODY));
    let hear = async {
        for _ in 0..tasks {
            heard.next().await.unwrap().unwrap().acker.ack(BasicAckOptions::default()).await.unwrap();
        }
    };
    let (sent, ()) = tokio::join!(send, hear);
    sent.unwrap();
    let rate = tasks as f64 / clock.tick().since(began).as_secs_f64();
    for connection in [sending, taking] {
        connection.close(200, "done".into()).await.unwrap();
    }
    rate
}

async fn publish(channel: &lapin::Channel, queue: &str, size: usize) -> lapin::Result<()> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let body = vec![7; size];
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirmed =
        channel.basic_publish("".into(), queue.into(), mandatory, &body, properties).await?.await?;
    assert!(confirmed.is_ack());
    Ok(())
}
