//! The lines between a fleet and its servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use lakehold_tests::component::http_proxy::{Act, HttpProxy};
use lakehold_tests::component::line::{Line, Mood};
use lakehold_tests::fleet::{Addresses, Servers};

use super::{AT_ONCE, Scene, seconds};

#[derive(Clone, Copy, Debug)]
enum Server {
    Rabbit,
    Redis,
    Bucket,
}

/// A line to one of the servers, and where a fleet finds them over it.
async fn line_to(server: Server, servers: &Servers) -> (Line, Addresses) {
    let mut addresses = servers.addresses();
    let address = match server {
        Server::Rabbit => &mut addresses.rabbit,
        Server::Redis => &mut addresses.redis,
        Server::Bucket => &mut addresses.s3,
    };
    let at = address.rfind(['/', '@']).unwrap() + 1;
    let line = Line::start(&address[at..]).await;
    address.replace_range(at.., &line.address);
    (line, addresses)
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Longer than any timeout of ours but the broker's heartbeat.
    Silent,
    Broken,
    Slow,
    CutAgainAndAgain,
}

const SCENES: [(&str, Server, Trouble); 12] = [
    ("rabbit-silent", Server::Rabbit, Trouble::Silent),
    ("redis-silent", Server::Redis, Trouble::Silent),
    ("bucket-silent", Server::Bucket, Trouble::Silent),
    ("rabbit-broken", Server::Rabbit, Trouble::Broken),
    ("redis-broken", Server::Redis, Trouble::Broken),
    ("bucket-broken", Server::Bucket, Trouble::Broken),
    ("rabbit-slow", Server::Rabbit, Trouble::Slow),
    ("redis-slow", Server::Redis, Trouble::Slow),
    ("bucket-slow", Server::Bucket, Trouble::Slow),
    ("rabbit-cut", Server::Rabbit, Trouble::CutAgainAndAgain),
    ("redis-cut", Server::Redis, Trouble::CutAgainAndAgain),
    ("bucket-cut", Server::Bucket, Trouble::CutAgainAndAgain),
];

async fn play(servers: &Servers, name: &'static str, server: Server, trouble: Trouble) {
    let (line, addresses) = line_to(server, servers).await;
    let mut scene = Scene::at(servers, name, addresses).await;
    let run = scene.run().await;
    match trouble {
        Trouble::Silent => {
            line.is(Mood::Silent);
            seconds(10.0).await;
        }
        Trouble::Broken => {
            line.is(Mood::Broken);
            seconds(5.0).await;
        }
        Trouble::Slow => {
            line.is(Mood::Slow(Duration::from_millis(300)));
            scene.sim.clear_faults();
            seconds(5.0).await;
        }
        Trouble::CutAgainAndAgain => {
            for _ in 0..10 {
                line.cut();
                seconds(0.3).await;
            }
        }
    }
    line.is(Mood::Good);
    scene.ends(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_silent_broken_slow_and_cut() {
    let servers = &Servers::start().await;
    let scenes = futures::stream::iter(SCENES);
    scenes.for_each_concurrent(AT_ONCE, |(name, server, trouble)| play(servers, name, server, trouble)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_refuses_a_third_of_all_requests_and_then_is_full() {
    let servers = &Servers::start().await;
    let upstream = servers.weed.endpoint.clone();
    let busy = async {
        // For a while: a client that is told to slow down waits for seconds.
        let refused = |n: u32| n < 120 && n % 10 < 3;
        let rule = move |_: &_, n| if refused(n) { Act::Answer(503, "SlowDown", "") } else { Act::Pass };
        let proxy = HttpProxy::start(&upstream, rule).await;
        let addresses = Addresses { s3: proxy.endpoint.clone(), ..servers.addresses() };
        let mut scene = Scene::at(servers, "bucket-busy", addresses).await;
        let run = scene.run().await;
        scene.ends(run).await;
    };
    let full = async {
        let is_full = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_full);
        let proxy = HttpProxy::start(&upstream, move |request, _| {
            let refused = request.method == "PUT" && flag.load(Ordering::SeqCst);
            if refused { Act::Answer(507, "InsufficientStorage", "") } else { Act::Pass }
        });
        let proxy = proxy.await;
        let addresses = Addresses { s3: proxy.endpoint.clone(), ..servers.addresses() };
        let mut scene = Scene::at(servers, "bucket-full", addresses).await;
        let mut run = scene.run().await;
        is_full.store(true, Ordering::SeqCst);
        scene.sim.clear_faults();
        // It may wait for room, or end so that it can be resumed.
        let clock = lakehold_proto::clock::SystemClock::shared();
        let began = clock.tick();
        while run.lives() && clock.tick().since(began) < Duration::from_secs(5) {
            seconds(0.1).await;
        }
        is_full.store(false, Ordering::SeqCst);
        scene.ends(run).await;
    };
    tokio::join!(busy, full);
}
