//! `lakehold verify`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lakehold_proto::address::Address;
use lakehold_proto::fault::Result;

use super::{Context, exit};
use crate::output::{Format, bytes, count, document, draws, print, say, shown};
use crate::snapshot::{ListedSnapshot, list};
use crate::verify::{Meter, Request, Verified, verify};

const EXAMPLES: &str = "\
Examples:
  lakehold verify prod                     all snapshots of prod, all bytes
  lakehold verify prod@latest
  lakehold verify --all --read-data 5      every table of contents, and a random 5 % of the packs";

/// How often the display is fed.
const TICK: Duration = Duration::from_millis(200);

/// What may be typed behind `verify`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("which").required(true))]
pub struct VerifyArgs {
    /// A snapshot (ENV@WHEN), or an environment for all of its snapshots; several may be given
    #[arg(group = "which", value_name = "SNAPSHOT|ENV")]
    pub addresses: Vec<String>,
    /// All snapshots of the store, and what belongs to none
    #[arg(long, group = "which")]
    pub all: bool,
    /// How much of the packs to read, in percent; 0 checks only that they are there
    #[arg(long, value_name = "PERCENT", default_value = "100", value_parser = percent)]
    pub read_data: f64,
}

fn percent(typed: &str) -> Result<f64, String> {
    let number: f64 = typed.trim_end_matches('%').parse().map_err(|_| format!("{typed:?} is no number"))?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err("it must be from 0 to 100".into()) }
}

pub(super) async fn run(args: &VerifyArgs, context: &Context) -> Result<u8> {
    let request = request(args, context).await?;
    if request.snapshots.is_empty() {
        say("no snapshots to verify");
    }
    let meter = Arc::new(Meter::default());
    let shown = (!context.quiet && draws()).then(|| Display::start(Arc::clone(&meter)));
    let found = verify(&context.store, &request, &meter).await;
    drop(shown);
    let found = found?;
    match context.output {
        Format::Table => print(&text(&found, args.read_data))?,
        Format::Name => {
            let hurt = found.snapshots.iter().filter(|one| !one.sound);
            hurt.map(|one| format!("{}@{}\n", one.environment, one.snapshot.digits()))
                .try_for_each(|line| print(&line))?;
        }
        format => document(format, &found)?,
    }
    Ok(if found.sound { exit::COMPLETE } else { exit::INTEGRITY })
}

async fn request(args: &VerifyArgs, context: &Context) -> Result<Request> {
    let mut snapshots = Vec::new();
    if args.all {
        for environment in context.with_snapshots(&[]).await? {
            let listed = list(&*context.store, &environment).await?;
            snapshots.extend(listed.into_iter().map(|one| (environment.clone(), one)));
        }
    }
    for typed in &args.addresses {
        let address: Address = typed.parse()?;
        // A bare environment means all of it: a person who wants one snapshot says which.
        if typed == address.environment.as_str() {
            context.with_snapshots(std::slice::from_ref(&address.environment)).await?;
            let listed = list(&*context.store, &address.environment).await?;
            snapshots.extend(listed.into_iter().map(|one| (address.environment.clone(), one)));
        } else {
            let manifest = context.snapshot(&address).await?.manifest;
            let one = ListedSnapshot { time: manifest.time, snapshot: manifest.snapshot };
            snapshots.push((manifest.environment, one));
        }
    }
    snapshots.sort_unstable();
    snapshots.dedup();
    Ok(Request { snapshots, percent: args.read_data, whole_store: args.all })
}

fn text(found: &Verified, percent: f64) -> String {
    let mut text = String::new();
    for one in &found.snapshots {
        let verdict = if one.sound { "sound" } else { "DAMAGED" };
        text.push_str(&format!(
            "{}@{}  {}  {} items  {verdict}\n",
            one.environment,
            one.snapshot.short(),
            one.time,
            count(one.items)
        ));
    }
    for damage in &found.damage {
        text.push_str(&format!("damaged: {} [{}]: {}\n", damage.object, damage.code, shown(&damage.detail)));
    }
    for item in &found.items {
        let snapshots: Vec<_> =
            item.snapshots.iter().map(|id| format!("{}@{}", item.environment, id.short())).collect();
        let (name, parts) = (shown(&item.name), item.parts.join(", "));
        text.push_str(&format!("hurt: {}/{name} ({parts}) in {}\n", item.kind, snapshots.join(", ")));
    }
    if found.items_hurt > found.items.len() as u64 {
        text.push_str(&format!("hurt: {} more\n", found.items_hurt - found.items.len() as u64));
    }
    for note in &found.notes {
        text.push_str(&format!("note: {}\n", shown(note)));
    }
    let share = if percent < 100.0 { format!(" ({percent} % of the packs)") } else { String::new() };
    text.push_str(&format!(
        "{} snapshots, {} packs, {} frames, {} read{share}: {}\n",
        found.snapshots.len(),
        count(found.packs_read),
        count(found.frames),
        bytes(found.bytes_read),
        match found.damage.len() {
            0 if percent < 100.0 => "sound, as far as it was read".into(),
            0 => "all sound".into(),
            n => format!("{n} objects damaged, {} items hurt", count(found.items_hurt)),
        }
    ));
    text
}

/// A bar on standard error, fed from the meter until dropped.
struct Display {
    feeding: tokio::task::JoinHandle<()>,
    bar: ProgressBar,
}

impl Display {
    fn start(meter: Arc<Meter>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("verifying {bar:30} {pos}/{len} packs  {msg}  {elapsed}")
        {
            bar.set_style(style);
        }
        let fed = bar.clone();
        let feeding = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                fed.set_length(meter.packs.load(Relaxed));
                fed.set_position(meter.packs_read.load(Relaxed));
                fed.set_message(bytes(meter.bytes_read.load(Relaxed)));
            }
        });
        Self { feeding, bar }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.feeding.abort();
        self.bar.finish_and_clear();
    }
}
