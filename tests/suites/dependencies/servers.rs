//! The servers themselves: killed, emptied, out of memory.

use lakehold_proto::queue::QueueName;
use lakehold_tests::fleet::Servers;

use super::{Scene, seconds};

/// One after the other: they share what is killed.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_killed_emptied_and_out_of_memory() {
    let mut servers = Servers::start().await;

    let mut scene = Scene::new(&servers, "broker-killed").await;
    let run = scene.run().await;
    servers.rabbit.written(&QueueName::tasks("default")).await;
    servers.rabbit.kill();
    seconds(2.0).await;
    servers.rabbit.restart().await;
    scene.ends(run).await;

    let mut scene = Scene::new(&servers, "redis-killed").await;
    let run = scene.run().await;
    servers.redis.server.kill();
    seconds(3.0).await;
    servers.redis.restart().await;
    scene.ends(run).await;

    let mut scene = Scene::new(&servers, "bucket-killed").await;
    let run = scene.run().await;
    servers.weed.kill();
    seconds(2.0).await;
    servers.weed.restart().await;
    scene.ends(run).await;

    let mut scene = Scene::new(&servers, "redis-emptied").await;
    let run = scene.run().await;
    for _ in 0..15 {
        servers.redis.cli(&["FLUSHALL"]);
        seconds(0.2).await;
    }
    scene.ends(run).await;

    // It takes nothing more, and evicts nothing: locks and budgets can be read, and not be written.
    let mut scene = Scene::new(&servers, "redis-full").await;
    let run = scene.run().await;
    servers.redis.cli(&["config", "set", "maxmemory", "1"]);
    scene.workers[0].says("Redis cannot be used").await;
    scene.ends(run).await;
    servers.redis.cli(&["config", "set", "maxmemory", "0"]);
    scene.workers[0].says("Redis is back").await;

    // The broker takes no messages, and says nothing of it to those that send.
    let mut scene = Scene::new(&servers, "broker-full").await;
    let mut run = scene.run().await;
    servers.rabbit.control(&["set_vm_memory_high_watermark", "0.00001"]);
    scene.sim.clear_faults();
    seconds(5.0).await;
    assert!(run.lives(), "it waits until the broker takes messages again");
    servers.rabbit.control(&["set_vm_memory_high_watermark", "0.4"]);
    scene.ends(run).await;
}
