//! `lakehold verify`.

use std::sync::Arc;

use clap::{ArgGroup, Args};
use lakehold_proto::address::Address;
use lakehold_proto::fault::Result;
use lakehold_proto::store::{AsideStore, SharedStore, identity};

use super::attend::attend;
use super::{Context, exit};
use crate::output::{Format, bytes, count, document, escaped, print, say, shown};
use crate::running::{Place, Running};
use crate::snapshot::{ListedSnapshot, list};
use crate::verify::{Request, Verified, Verify};

const EXAMPLES: &str = "\
Examples:
  lakehold verify prod                     all snapshots of prod, all bytes
  lakehold verify prod@latest
  lakehold verify --all --read-data 5      every table of contents, and a random 5 % of the packs
  lakehold verify prod --no-record         where the store may only be read, or the fleet is away

A verify that was interrupted is gone on with by the same command within six hours, by --resume at any time.

Exit codes: 0 sound; 1 something could not be read, so nothing is known of it; 5 something is damaged";

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
    /// Go on with the unfinished verify of these environments, whatever its age
    #[arg(long)]
    pub resume: bool,
    /// Write nothing into the store, and read everything in this process: it cannot be resumed
    #[arg(long, conflicts_with = "resume")]
    pub no_record: bool,
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
    let running = start(args, context).await?;
    let found = attend(&running, context, "verify", async |attended| {
        let verify = Verify { backup: &running.backup };
        if !context.quiet && !request.snapshots.is_empty() {
            say(&format!("reading the tables of contents of {} snapshots", request.snapshots.len()));
        }
        let prepared = verify.prepare(&request).await?;
        if prepared.resumed {
            say("going on with a verify that was interrupted");
        }
        attended
            .watch(prepared.packs(), async |view, stop| verify.carry_out(prepared, view, stop).await)
            .await
    })
    .await;
    running.close().await;
    let found = found.map_err(|fault| match fault.code {
        "store.denied" => fault.hint("where the store may only be read: lakehold verify --no-record"),
        _ => fault,
    })?;
    match context.output {
        Format::Table => print(&text(&found, args.read_data))?,
        Format::Name => {
            let hurt = found.snapshots.iter().filter(|one| !one.sound);
            hurt.map(|one| format!("{}@{}\n", one.environment, one.snapshot.digits()))
                .try_for_each(|line| print(&line))?;
        }
        format => document(format, &found)?,
    }
    Ok(match () {
        () if found.sound => exit::COMPLETE,
        () if found.damage.is_empty() => exit::FAILED,
        () => exit::INTEGRITY,
    })
}

/// What carries it out: the fleet, where one is configured; else, and without a record, this process.
async fn start(args: &VerifyArgs, context: &Context) -> Result<Running> {
    if args.no_record {
        let store: SharedStore = Arc::new(AsideStore::over(Arc::clone(&context.store))?);
        return Ok(Running::reading(Place { store, ..context.place() }));
    }
    let id = identity::open(&*context.store).await?.store;
    context.running(Some(&id)).await
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
    Ok(Request { snapshots, percent: args.read_data, whole_store: args.all, resume: args.resume })
}

fn text(found: &Verified, percent: f64) -> String {
    let mut text = String::new();
    for one in &found.snapshots {
        let verdict = match one.sound {
            true => "sound",
            false if found.damage.is_empty() => "NOT READ",
            false => "DAMAGED",
        };
        text.push_str(&format!(
            "{}@{}  {}  {} items  {verdict}\n",
            one.environment,
            one.snapshot.short(),
            one.time,
            count(one.items)
        ));
    }
    for damage in &found.damage {
        text.push_str(&format!(
            "damaged: {} [{}]: {}\n",
            damage.object,
            damage.code,
            escaped(&damage.detail)
        ));
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
    for unread in &found.unread {
        text.push_str(&format!("NOT READ: {}\n", escaped(unread)));
    }
    for note in &found.notes {
        text.push_str(&format!("note: {}\n", escaped(note)));
    }
    let share = if percent < 100.0 { format!(" ({percent} % of the packs)") } else { String::new() };
    text.push_str(&format!(
        "{} snapshots, {} packs, {} frames, {} read{share}: {}\n",
        found.snapshots.len(),
        count(found.packs_read),
        count(found.frames),
        bytes(found.bytes_read),
        match found.damage.len() {
            0 if !found.sound => "not all could be read, and of that nothing is known".into(),
            0 if percent < 100.0 => "sound, as far as it was read".into(),
            0 => "all sound".into(),
            n => format!("{n} objects damaged, {} items hurt", count(found.items_hurt)),
        }
    ));
    text
}
