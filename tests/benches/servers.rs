//! Starts the servers that a fleet shares, RabbitMQ and Redis, for benchmarks that are no Rust programs: prints the address of
//! each on a line of its own, and ends them when its standard input is closed. With `--bucket` also SeaweedFS, of which it
//! prints, on a third line, its address, the name of a bucket, and the two words of a key to it.

use std::io::Read as _;

use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;
use lakehold_tests::component::seaweed::{BUCKET, Seaweed, WRITER};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
async fn main() {
    let bucket = async {
        match std::env::args().any(|argument| argument == "--bucket") {
            true => Some(Seaweed::start().await),
            false => None,
        }
    };
    let (rabbit, redis, weed) = tokio::join!(Rabbit::start(), Redis::start(&[]), bucket);
    println!("{}\n{}", rabbit.url(), redis.url());
    if let Some(weed) = &weed {
        println!("{} {BUCKET} {} {}", weed.endpoint, WRITER.0, WRITER.1);
    }
    // Whatever ends the reading, nobody needs them any more.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
