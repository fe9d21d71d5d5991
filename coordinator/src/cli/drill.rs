//! `lakehold drill`.

use clap::Args;
use jiff::SignedDuration;
use lakehold_proto::address::Address;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::EnvName;
use lakehold_proto::restore::Crossing;
use lakehold_proto::store::identity;

use super::attend::attend;
use super::confirm::Confirmation;
use super::private::{PrivateArgs, close, running};
use super::restore::{of_target, read_mapping_of};
use super::{Context, exit};
use crate::output::{Format, age, count, document, escaped, print, shown};
use crate::restore::drill::{Drill, Objectives, can_be_beside};
use crate::restore::planner::Ask;
use crate::restore::private::Private;
use crate::restore::select::Wanted;
use crate::restore::{Request, Restore};

const EXAMPLES: &str = "\
Examples:
  lakehold drill prod --to sandbox
  lakehold drill prod --to sandbox --yes -o json        for a timer; the report is kept in the store
  lakehold drill prod --to sandbox --map map.yaml
  lakehold drill shop                                   databases: restored beside, checked, dropped again
  lakehold drill shop --private                         the same, and the roles, on a server of its own that is deleted again
  lakehold drill shop --private --scratch-dir /var/big  where $TMPDIR has not room for all of it

Exit codes: 0 proved; 1 something did not come back as it was, or could not be tried; 6 it did, and an objective
(rto, rpo) is breached";

/// Differences that are told.
const TOLD: usize = 20;

/// What may be typed behind `drill`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DrillArgs {
    /// The snapshot to try: ENV, ENV@WHEN
    pub from: Address,
    /// The environment to try it in: things are made there, and taken away again. Databases may be tried beside those that they
    /// are copies of, which is what is done where none is named
    #[arg(long, value_name = "ENV")]
    pub to: Option<EnvName>,
    /// A server of its own.
    #[command(flatten)]
    pub private: PrivateArgs,
    /// What is called otherwise in the sandbox (YAML)
    #[arg(long, value_name = "FILE")]
    pub map: Option<std::path::PathBuf>,
    /// Leave out what can only be made running: clusters and warehouses
    #[arg(long)]
    pub no_compute: bool,
    /// Answers given beforehand.
    #[command(flatten)]
    pub confirmation: Confirmation,
}

pub(super) async fn run(args: &DrillArgs, context: &Context) -> Result<u8> {
    let store = identity::open(&*context.store).await?.store;
    let from = context.snapshot(&args.from).await?;
    let mut private = args.private.start(&from.manifest, context).await?;
    let to = &match (&args.to, &private) {
        (Some(to), _) => to.clone(),
        (None, Some(private)) => private.environment.clone(),
        (None, None) if can_be_beside(&from.manifest) => from.manifest.environment.clone(),
        (None, None) => {
            let detail = "a workspace is tried in another one, and none is named";
            return Err(Fault::new(Class::Config, "drill.where", "drill", detail)
                .hint("name a workspace in which things may be made and taken away again: --to ENV"));
        }
    };
    let mapping = read_mapping_of(args.map.as_deref())?;
    let configured = &context.settings.config.environments;
    let (kinds, (warehouse, share)) = match &private {
        Some(_) => (Private::kinds(&from.manifest, false), (None, 1.0)),
        None => {
            let limits = of_target(context, to)?;
            let protection = configured.get(to).map_or_else(Default::default, |given| given.protection);
            let what = format!("A drill makes things in {to}, and takes them away again.");
            args.confirmation.ask(to, protection, &what)?;
            (Vec::new(), limits)
        }
    };
    let asked = configured.get(&from.manifest.environment);
    let length = |given: Option<lakehold_proto::config::HumanDuration>| {
        given.and_then(|given| SignedDuration::try_from(given.0).ok())
    };
    let objectives = Objectives {
        rto: length(asked.and_then(|asked| asked.rto)),
        rpo: length(asked.and_then(|asked| asked.rpo)),
    };
    let ask = Ask {
        wanted: Wanted { kinds, ..Wanted::default() },
        crossing: Crossing { passive: true, mapping, ..Crossing::default() },
        no_compute: args.no_compute,
        warehouse,
        ..Ask::default()
    };
    let request = Request { from, target: to.clone(), ask, share };
    let running = running(private.as_ref(), context, &store).await?;
    let report = attend(&running, context, "drill", async |attended| {
        let restore = Restore { backup: &running.backup };
        attended
            .watch(vec![(to.clone(), None)], async |view, stop| {
                restore.drill(&request, objectives, private.as_mut(), view, stop).await
            })
            .await
    })
    .await;
    close(running, &mut private, &report).await;
    let report = report?;
    match context.output {
        Format::Table => print(&render(&report))?,
        Format::Name => print(&format!("{}\n", report.run))?,
        format => document(format, &report)?,
    }
    Ok(match () {
        () if !report.is_proof() || !report.cleaned => exit::FAILED,
        () if report.is_breach() => exit::OBJECTIVE,
        () => exit::COMPLETE,
    })
}

fn render(report: &Drill) -> String {
    let length = |seconds: i64| age(SignedDuration::from_secs(seconds));
    let against = |is: i64, wanted: Option<i64>| match wanted {
        None => format!("{} (no objective)", length(is)),
        Some(wanted) if is > wanted => format!("{}, BREACHES {}", length(is), length(wanted)),
        Some(wanted) => format!("{}, within {}", length(is), length(wanted)),
    };
    let planned = &report.planned;
    let sandbox = match &report.private {
        Some(private) => format!("a private server of PostgreSQL {}", shown(&private.version)),
        None => report.sandbox.to_string(),
    };
    let mut text = format!(
        "{}@{} in {sandbox}: {}\n",
        report.environment,
        report.snapshot.short(),
        if report.is_proof() { "proved" } else { "NOT PROVED" }
    );
    text +=
        &format!("  restored    {} items, {} steps failed\n", count(planned.changes()), count(report.failed));
    text += &format!("  compared    {} differ\n", count(report.differing));
    if report.planned.create > 0 && report.checked > 0 {
        text += &format!("  checked     {} where they were made\n", count(report.checked));
    }
    for failure in report.failures.iter().take(TOLD) {
        text += &format!("    ! {}\n", escaped(failure));
    }
    for difference in report.differences.iter().take(TOLD) {
        text += &format!("    ~ {}\n", escaped(difference));
    }
    if planned.blocked + planned.degraded > 0 {
        text += &format!(
            "  not tried   {} blocked, {} degraded",
            count(planned.blocked),
            count(planned.degraded)
        );
        text += &match &report.private {
            Some(_) => "\n".to_owned(),
            None => format!(" (see: lakehold restore {} --to {})\n", report.environment, report.sandbox),
        };
    }
    for untried in report.private.iter().flat_map(|private| &private.untried) {
        text += &format!("  not tried   {}\n", escaped(untried));
    }
    text += &format!("  took        {}\n", against(report.seconds.ceil() as i64, report.rto_seconds));
    text += &format!("  would lose  {}\n", against(report.age_seconds, report.rpo_seconds));
    match &report.left_behind {
        None => text += "  cleaned up\n",
        Some(why) => {
            text += &format!("  NOT CLEANED UP: {}\n", escaped(why));
            if report.private.is_none() {
                text += &format!("    try: lakehold restore undo {} --apply\n", report.sandbox);
            }
        }
    }
    text
}
