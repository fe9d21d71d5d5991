//! Starts the servers that a fleet shares, RabbitMQ and Redis, for benchmarks that are no Rust programs: prints the address of
//! each on a line of its own, and ends them when its standard input is closed.

use std::io::Read as _;

use lakehold_tests::component::rabbitmq::Rabbit;
use lakehold_tests::component::redis::Redis;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
async fn main() {
    let (rabbit, redis) = tokio::join!(Rabbit::start(), Redis::start(&[]));
    println!("{}\n{}", rabbit.url(), redis.url());
    // Whatever ends the reading, nobody needs them any more.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
