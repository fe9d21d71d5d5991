//! Measures the stores side by side: a directory, and a bucket of SeaweedFS and of MiniStack, all on this machine. It
//! prints one line for each; objects of 4 MiB are written and read eight at a time, small ones sixteen at a time, and one
//! of 1 GiB is uploaded in parts while the kernel notes this process's peak of memory.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lakehold_proto::clock::SystemClock;
use lakehold_proto::fault::Result;
use lakehold_proto::store::s3::S3Store;
use lakehold_proto::store::{DirectoryStore, Key, Store};
use lakehold_tests::component::ministack::Ministack;
use lakehold_tests::component::s3::bucket;
use lakehold_tests::component::seaweed::{BUCKET, Seaweed, WRITER};

const PACKS: usize = 64;
const PACK: usize = 4 << 20;
const SMALL: usize = 1000;
const HUGE: usize = 1 << 30;

const STORES: [&str; 3] = ["directory", "seaweed", "ministack"];

/// Each store in a process of its own, so that its memory is its own; or the one that is named.
#[tokio::main]
#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
async fn main() -> Result<()> {
    if let Some(name) = std::env::args().nth(1) {
        println!("{}", of(&name).await?);
        return Ok(());
    }
    println!("store      put 4 MiB   get 4 MiB   put 4 KiB   get 4 KiB   put 1 GiB   memory besides it");
    for name in STORES {
        let own = std::env::current_exe().unwrap_or_default();
        let ran = std::process::Command::new(own).arg(name).status();
        if !ran.is_ok_and(|ended| ended.success()) {
            println!("{name} failed");
        }
    }
    Ok(())
}

async fn of(name: &str) -> Result<String> {
    match name {
        "seaweed" => {
            let weed = Seaweed::start().await;
            measure(name, Arc::new(S3Store::connect(bucket(&weed.endpoint, WRITER)).await?)).await
        }
        "ministack" => {
            let ministack = Ministack::start().await;
            // It is there already when it was made before.
            let _ = ministack.admin().create_bucket().bucket(BUCKET).send().await;
            measure(name, Arc::new(S3Store::connect(bucket(&ministack.endpoint, WRITER)).await?)).await
        }
        _ => {
            let folder = std::env::temp_dir().join(format!("lakehold-stores-{}", std::process::id()));
            let measured = measure(name, Arc::new(DirectoryStore::new(&folder))).await;
            // Left over, it is only in the way.
            let _ = std::fs::remove_dir_all(folder);
            measured
        }
    }
}

async fn measure(name: &str, store: Arc<dyn Store>) -> Result<String> {
    let store = &*store;
    let put = async |room: &str, n: usize, body: Bytes| store.put_new(&key(room, n)?, body).await;
    let get = async |room: &str, n: usize| store.get(&key(room, n)?).await;
    let huge = body(1, HUGE);
    begin_peak_anew();
    let before = resident();
    let huge_put = seconds(put("huge", 0, huge)).await?;
    let besides = peak().saturating_sub(before);
    let bodies: Vec<_> = (0..PACKS).map(|n| body(n, PACK)).collect();
    let large_put = seconds(many(8, PACKS, |n| put("large", n, bodies[n].clone()))).await?;
    let large_get = seconds(many(8, PACKS, |n| get("large", n))).await?;
    let small_put = seconds(many(16, SMALL, |n| put("small", n, body(n, 4096)))).await?;
    let small_get = seconds(many(16, SMALL, |n| get("small", n))).await?;
    let rate = |bytes: usize, seconds: f64| format!("{:>4.0} MB/s", bytes as f64 / seconds / 1e6);
    let each = |seconds: f64| format!("{:>6.0}/s", SMALL as f64 / seconds);
    Ok(format!(
        "{name:<10} {}   {}   {}    {}    {}   {:.1} MiB",
        rate(PACKS * PACK, large_put),
        rate(PACKS * PACK, large_get),
        each(small_put),
        each(small_get),
        rate(HUGE, huge_put),
        besides as f64 / 1024.0,
    ))
}

fn key(room: &str, n: usize) -> Result<Key> {
    Key::parse(&format!("{room}/{n}"))
}

async fn many<T, F>(at_once: usize, count: usize, each: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<T>>,
{
    futures::stream::iter((0..count).map(each)).buffer_unordered(at_once).try_for_each(async |_| Ok(())).await
}

async fn seconds<T>(work: impl Future<Output = Result<T>>) -> Result<f64> {
    let clock = SystemClock::shared();
    let began = clock.tick();
    work.await?;
    Ok(clock.tick().since(began).as_secs_f64())
}

/// Bytes that no server can pack.
fn body(seed: usize, length: usize) -> Bytes {
    use rand::{RngCore as _, SeedableRng as _};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(seed as u64).fill_bytes(&mut bytes);
    bytes.into()
}

/// The kernel notes this process's peak of memory from now on.
fn begin_peak_anew() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn resident() -> u64 {
    status("VmRSS:")
}

/// The peak of resident memory, in KiB.
fn peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
