//! `lakehold restore` and `lakehold activate`: what may be typed, and what is done then.

mod plan;
mod report;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lakehold_proto::address::Address;
use lakehold_proto::config::{Protection, parse_strictly};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{EnvName, Kind};
use lakehold_proto::manifest::{Manifest, SnapshotState};
use lakehold_proto::restore::{Crossing, Mapping};
use lakehold_proto::store::{Key, identity};

use super::attend::{Attended, attend};
use super::confirm::Confirmation;
use super::{Context, exit};
use crate::output::{Format, document, print, say};
use crate::restore::document::Document;
use crate::restore::planner::Ask;
use crate::restore::select::Wanted;
use crate::restore::{Prepared, Request, Restore};
use crate::running::Running;
use crate::snapshot::find::Found;
use crate::snapshot::{read_at, records};
use plan::{moved, print_names, render, save, summary_line};
use report::{Report, tell};

const EXAMPLES: &str = "\
Examples:
  lakehold restore prod --to dr                        what it would take; changes nothing
  lakehold restore prod@2026-08-01 --to prod --item 'job/nightly-*' --with-dependencies --apply
  lakehold restore prod --to dr --map map.yaml --out plan.json
  lakehold restore apply plan.json                     carries out what was saved, unless dr has moved since
  lakehold restore undo dr                             takes the latest restore into dr back
  lakehold restore prod --to dr --apply --resume       goes on with one that was interrupted
  lakehold restore shop --to shop --item database/orders --as orders_copy --apply

A mapping says what is called otherwise in the target:
  principals: {ada@old.example: ada@new.example, etl-team: data-team}
  email_domains: {old.example: new.example}
  node_types: {i3.xlarge: Standard_DS3_v2}
  instance_profiles: {'arn:aws:iam::1:instance-profile/a': 'arn:aws:iam::2:instance-profile/a'}
  storage: {'s3://lake': 'abfss://lake@account.dfs.core.windows.net'}
  names: {database/orders: orders_copy}

Exit codes: 0 done, or a plan without shortcomings; 3 some items failed; 4 the plan has degraded or blocked items;
8 a plan would change something (--exit-code)";

/// Items of one sort that are told; the rest is counted.
const TOLD: usize = 40;

/// What may be typed behind `restore`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RestoreArgs {
    /// Carry out a saved plan, or take a restore back
    #[command(subcommand)]
    pub command: Option<RestoreCommand>,
    /// The snapshot to bring back: ENV, ENV@WHEN
    #[arg(required = true)]
    pub from: Option<Address>,
    /// The environment to bring it back into
    #[arg(long, value_name = "ENV", required = true)]
    pub to: Option<EnvName>,
    /// Only these items: KIND/NAME, KIND/PATTERN with * and ?, KIND/#KEY; may be given several times
    #[arg(long = "item", value_name = "ITEM")]
    pub items: Vec<String>,
    /// Only this kind; may be given several times
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    pub kinds: Vec<String>,
    /// Only what lies here in the workspace tree; may be given several times
    #[arg(long = "path", value_name = "GLOB")]
    pub paths: Vec<String>,
    /// What these items refer to, too
    #[arg(long)]
    pub with_dependencies: bool,
    /// What is called otherwise in the target (YAML)
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// What the one database or table that --item names is to be called there
    #[arg(long = "as", value_name = "NAME", requires = "items")]
    pub called: Option<String>,
    /// Everything belongs to who restores it, and nothing is granted to anybody (databases)
    #[arg(long)]
    pub no_owner: bool,
    /// Leave schedules, triggers and idle machines as they were, where otherwise nothing starts by itself in another workspace
    #[arg(long)]
    pub active: bool,
    /// Leave out what can only be made running: clusters and warehouses
    #[arg(long)]
    pub no_compute: bool,
    /// Change also what source and target share, where --item names it
    #[arg(long, requires = "items")]
    pub shared: bool,
    /// Take away what the snapshot does not have, of what was asked for
    #[arg(long)]
    pub delete_extra: bool,
    /// Save the plan here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// End with exit code 8 when the plan would change something
    #[arg(long, conflicts_with = "apply")]
    pub exit_code: bool,
    /// How it is carried out.
    #[command(flatten)]
    pub applying: Applying,
}

/// How a plan is carried out.
#[derive(Clone, Debug, Args)]
pub struct Applying {
    /// Carry the plan out
    #[arg(long)]
    pub apply: bool,
    /// Carry it out although some items come back as less, and without what is blocked
    #[arg(long)]
    pub allow_degraded: bool,
    /// Go on with the unfinished restore into that environment
    #[arg(long)]
    pub resume: bool,
    /// Answers given beforehand.
    #[command(flatten)]
    pub confirmation: Confirmation,
}

/// What else there is.
#[derive(Clone, Debug, Subcommand)]
pub enum RestoreCommand {
    /// Carry out a saved plan; refused when the target has moved since
    Apply {
        /// What `--out` saved
        plan: PathBuf,
        /// How it is carried out.
        #[command(flatten)]
        applying: Applying,
    },
    /// Take a restore back: what it made goes, what it changed becomes what it was
    Undo {
        /// The environment: the latest restore into it
        environment: EnvName,
        /// That restore, by the first digits of its id, instead of the latest
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        /// How it is carried out.
        #[command(flatten)]
        applying: Applying,
    },
}

/// What may be typed behind `activate`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  lakehold activate dr             what would start\n  lakehold activate dr --apply"
)]
pub struct ActivateArgs {
    /// The environment: what the latest passive restore into it held
    pub environment: EnvName,
    /// That restore, by the first digits of its id, instead of the latest
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// How it is carried out.
    #[command(flatten)]
    pub applying: Applying,
}

pub(super) async fn activate(args: &ActivateArgs, context: &Context) -> Result<u8> {
    let store = identity::open(&*context.store).await?.store;
    let running = context.running(Some(&store)).await?;
    let environment = &args.environment;
    let (_, share) = of_target(context, environment)?;
    let restore = Restore { backup: &running.backup };
    let ended = async {
        if args.applying.resume {
            return resume(environment, &running, context).await;
        }
        let passive =
            |record: &Manifest| record.restore.as_ref().is_some_and(|restored| restored.crossing.passive);
        let record = find_record(context, environment, args.id.as_deref(), passive).await?;
        attend(&running, context, "activate what a restore held", async |attended| {
            let prepared = attended
                .watch(vec![(environment.clone(), None)], async |view, stop| {
                    restore.plan_activation(&record, share, view, stop).await
                })
                .await?;
            finish(&attended, &restore, prepared, &args.applying, false, context).await
        })
        .await
    };
    let ended = ended.await;
    running.close().await;
    ended
}

pub(super) async fn run(args: RestoreArgs, context: &Context) -> Result<u8> {
    let store = identity::open(&*context.store).await?.store;
    let running = context.running(Some(&store)).await?;
    let ended = match args.command.clone() {
        None => plan_and_apply(&args, &running, context).await,
        Some(RestoreCommand::Apply { plan, applying }) => {
            apply_saved(&plan, &applying, &running, context).await
        }
        Some(RestoreCommand::Undo { environment, id, applying }) => {
            undo(&environment, id.as_deref(), &applying, &running, context).await
        }
    };
    running.close().await;
    ended
}

async fn plan_and_apply(args: &RestoreArgs, running: &Running, context: &Context) -> Result<u8> {
    let (Some(from), Some(target)) = (&args.from, &args.to) else {
        return Err(Fault::new(
            Class::Config,
            "restore.what",
            "restore",
            "it names no snapshot and no environment",
        ));
    };
    let restore = Restore { backup: &running.backup };
    if args.applying.resume {
        return resume(target, running, context).await;
    }
    let ask = ask_of(args, target, context)?;
    let request = request(context.snapshot(from).await?, target, ask, context)?;
    attend(running, context, "restore", async |attended| {
        let prepared = looked_at(&attended, &restore, &request).await?;
        if let Some(out) = &args.out {
            save(out, &prepared.document)?;
        }
        finish(&attended, &restore, prepared, &args.applying, args.exit_code, context).await
    })
    .await
}

/// Plans again, and carries out only what was saved.
async fn apply_saved(path: &Path, applying: &Applying, running: &Running, context: &Context) -> Result<u8> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|e| {
        Fault::new(Class::Config, "restore.plan", format!("read {shown}"), e)
            .hint("make it with `lakehold restore … --out FILE`")
    })?;
    let saved = Document::read(&shown, BufReader::new(file))?;
    let from = &saved.from;
    let key = Key::manifest(&from.environment, &from.time, from.snapshot);
    let (manifest, hash) = read_at(&*context.store, &key).await?;
    if hash != from.manifest {
        let detail = format!("{key} is not the snapshot that the plan was made of");
        return Err(Fault::new(Class::Integrity, "restore.other-snapshot", format!("read {shown}"), detail));
    }
    let restore = Restore { backup: &running.backup };
    let request = request(Found { manifest, hash }, &saved.target, saved.ask.clone(), context)?;
    attend(running, context, "restore", async |attended| {
        let prepared = looked_at(&attended, &restore, &request).await?;
        if prepared.document.digest != saved.digest {
            return Err(moved(&saved, &prepared.document)?);
        }
        let applying = Applying { apply: true, ..applying.clone() };
        finish(&attended, &restore, prepared, &applying, false, context).await
    })
    .await
}

async fn undo(
    environment: &EnvName,
    id: Option<&str>,
    applying: &Applying,
    running: &Running,
    context: &Context,
) -> Result<u8> {
    let restore = Restore { backup: &running.backup };
    if applying.resume {
        return resume(environment, running, context).await;
    }
    let record = find_record(context, environment, id, |_| true).await?;
    let (warehouse, share) = of_target(context, environment)?;
    attend(running, context, "undo a restore", async |attended| {
        let prepared = attended
            .watch(vec![(environment.clone(), None)], async |view, stop| {
                restore.plan_undo(&record, warehouse, share, view, stop).await
            })
            .await?;
        finish(&attended, &restore, prepared, applying, false, context).await
    })
    .await
}

async fn resume(target: &EnvName, running: &Running, context: &Context) -> Result<u8> {
    let restore = Restore { backup: &running.backup };
    attend(running, context, "restore", async |attended| {
        let ready = restore.resume(target).await?;
        if !context.quiet {
            say(&format!("resuming {} of {}", ready.plan.run, ready.plan.created));
        }
        let environments = crate::backup::progress::expected(&ready.plan);
        let record = attended
            .watch(environments, async |view, stop| restore.carry_out(ready, view, stop).await)
            .await?;
        tell(&Report::of(context, &record, None).await?, context.output)
    })
    .await
}

/// The record of a restore into an environment: the latest, or the one whose id begins so.
async fn find_record(
    context: &Context,
    environment: &EnvName,
    id: Option<&str>,
    fits: impl Fn(&Manifest) -> bool,
) -> Result<Manifest> {
    let absent = |detail: String| {
        Fault::new(Class::Absent, "restore.absent", format!("find a restore into {environment}"), detail)
            .hint("`lakehold runs` lists what was done")
    };
    let mut undone = BTreeSet::new();
    for key in records(&*context.store, &Key::restores(environment)).await?.into_iter().rev() {
        let (record, _) = read_at(&*context.store, &key).await?;
        // The latest is the latest that still stands, be it in part.
        if let Some(undoes) = record.restore.as_ref().and_then(|restored| restored.undoes) {
            if record.state == SnapshotState::Complete {
                undone.insert(undoes);
            }
            continue;
        }
        if id.is_none() && undone.contains(&record.snapshot) {
            continue;
        }
        if !fits(&record) {
            continue;
        }
        if id.is_none_or(|id| record.snapshot.starts_with(id) || record.run.id.starts_with(id)) {
            return Ok(record);
        }
    }
    Err(absent(
        id.map_or_else(|| "there was none".into(), |id| format!("none has an id that begins with {id}")),
    ))
}

async fn looked_at(attended: &Attended<'_>, restore: &Restore<'_>, request: &Request) -> Result<Prepared> {
    attended
        .watch(vec![(request.target.clone(), None)], async |view, stop| {
            restore.plan(request, view, stop).await
        })
        .await
}

/// Shows the plan, and carries it out where that is asked for, allowed and confirmed.
async fn finish(
    attended: &Attended<'_>,
    restore: &Restore<'_>,
    prepared: Prepared,
    applying: &Applying,
    exit_code: bool,
    context: &Context,
) -> Result<u8> {
    let plan = &prepared.document;
    if !applying.apply {
        match context.output {
            Format::Table => print(&render(plan, false)?)?,
            Format::Name => print_names(plan)?,
            format => document(format, plan)?,
        }
        return Ok(match plan.summary {
            summary if summary.is_short() && !applying.allow_degraded => exit::SHORT,
            summary if exit_code && summary.changes() > 0 => exit::DIFFERENCE,
            _ => exit::COMPLETE,
        });
    }
    if plan.summary.is_short() && !applying.allow_degraded {
        say(&render(plan, true)?);
        let detail = format!("{} degraded and {} blocked items", plan.summary.degraded, plan.summary.blocked);
        say(&format!(
            "not carried out: the plan has {detail}; add --allow-degraded to carry it out without what is blocked"
        ));
        return Ok(exit::SHORT);
    }
    if plan.summary.changes() == 0 {
        if context.output == Format::Table {
            print(&format!("{}\n", summary_line(&plan.summary)))?;
        } else {
            document(context.output, plan)?;
        }
        return Ok(exit::COMPLETE);
    }
    if !context.quiet {
        say(&render(plan, true)?);
    }
    let given = context.settings.config.environments.get(&plan.target);
    let mut protection = given.map_or(Protection::Confirm, |given| given.protection);
    let what = format!("This changes {}.", plan.target);
    // Undo touches what the restore touched, and that was confirmed.
    if plan.ask.shared && prepared.undoes.is_none() {
        protection = Protection::TypedName;
    } else if plan.ask.delete_extra && protection == Protection::None {
        protection = Protection::Confirm;
    }
    applying.confirmation.ask(&plan.target, protection, &what)?;
    let (ready, planned) = restore.open(prepared).await?;
    let environments = crate::backup::progress::expected(&ready.plan);
    let record =
        attended.watch(environments, async |view, stop| restore.carry_out(ready, view, stop).await).await?;
    tell(&Report::of(context, &record, Some(planned)).await?, context.output)
}

fn ask_of(args: &RestoreArgs, target: &EnvName, context: &Context) -> Result<Ask> {
    let mut mapping = read_mapping_of(args.map.as_deref())?;
    if let Some(called) = &args.called {
        let [item] = args.items.as_slice() else {
            let detail = format!("{} items are named", args.items.len());
            return Err(Fault::new(Class::Config, "restore.as", "read --as", detail)
                .hint("name one with --item, or write more of them into a mapping's `names:`"));
        };
        mapping.names.insert(item.clone(), called.clone());
    }
    let (warehouse, _) = of_target(context, target)?;
    Ok(Ask {
        wanted: Wanted {
            items: args.items.clone(),
            kinds: args.kinds.iter().map(Kind::named).collect(),
            paths: args.paths.clone(),
            with_dependencies: args.with_dependencies,
        },
        crossing: Crossing { passive: !args.active, no_owner: args.no_owner, mapping, ..Crossing::default() },
        shared: args.shared,
        no_compute: args.no_compute,
        delete_extra: args.delete_extra,
        warehouse,
    })
}

/// The warehouse for SQL, and the share of the limits, of an environment.
pub(super) fn of_target(context: &Context, target: &EnvName) -> Result<(Option<String>, f64)> {
    let Some(given) = context.settings.config.environments.get(target) else {
        let detail = format!("{target} is not configured, so nothing can be brought back into it");
        let known: Vec<_> = context.settings.config.environments.keys().map(EnvName::as_str).collect();
        return Err(Fault::new(
            Class::Config,
            "environment.unknown",
            format!("find environment {target}"),
            detail,
        )
        .hint(format!("known: {}", known.join(", "))));
    };
    let warehouse = given.databricks.as_ref().and_then(|databricks| databricks.restore_warehouse.clone());
    Ok((warehouse, given.limits.share * given.limits.factor))
}

fn request(from: Found, target: &EnvName, ask: Ask, context: &Context) -> Result<Request> {
    let (_, share) = of_target(context, target)?;
    Ok(Request { from, target: target.clone(), ask, share })
}

/// The mapping of a file; without one, an empty one.
pub(super) fn read_mapping_of(path: Option<&Path>) -> Result<Mapping> {
    let Some(path) = path else { return Ok(Mapping::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Fault::new(Class::Config, "map.unreadable", format!("read {}", path.display()), e))?;
    let mapping: Mapping = parse_strictly(path, &text)?;
    mapping.check()?;
    Ok(mapping)
}
