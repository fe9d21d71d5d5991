//! The pace: as fast as the workspace allows, and no faster.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use lakehold_proto::clock::SystemClock;
use lakehold_sim::{Limits, Sim, SimConfig};
use lakehold_worker::source::databricks::Request;
use lakehold_worker::source::databricks::families::PERMISSIONS;

use super::{calls, client_by, meter, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_allowed_rate_is_used_and_hardly_anything_throttled() {
    let latency = Duration::from_millis(20);
    let sim =
        Sim::start(SimConfig { limits: Limits::real(), latency, ..SimConfig::default() }).await.unwrap();
    let clock = SystemClock::shared();
    let (client, meter) = (client_by(settings(&sim.url(0)), Arc::clone(&clock)), meter());
    // That the object is absent is an answer like any other to the limit.
    let request = Request::get(&PERMISSIONS, "/api/2.0/permissions/notebooks/1");
    let began = clock.tick();
    const CALLS: usize = 400;
    stream::iter(0..CALLS)
        .for_each_concurrent(16, |_| async {
            let _ = client.json(&request, &meter).await;
        })
        .await;
    let took = clock.tick().since(began).as_secs_f64();
    let report = sim.calls();
    assert_eq!(calls(&meter).made, report.total, "what we count is what was asked");
    assert!(report.throttled * 200 < report.total, "{} of {} throttled", report.throttled, report.total);
    let used = CALLS as f64 / took / 100.0;
    // A loaded machine is slower than its clock; how much of the rate is used at leisure is for the benchmark to tell.
    assert!((0.75..=1.05).contains(&used), "{used:.3} of the rate was used");
    println!("{used:.3} of the rate used, {} of {} throttled", report.throttled, report.total);
}
