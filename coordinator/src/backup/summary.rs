//! What a backup came to: the table for people, the document for programs, and the exit code.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use lakehold_proto::fault::{Fault, FaultRecord, Result};
use lakehold_proto::ids::{EnvName, Hash, RunId, SnapshotId, TraceId};
use lakehold_proto::manifest::{Counts, KindReport, Manifest};
use lakehold_proto::outcome::{Figures, Standing};
use lakehold_proto::plan::{EnvPlan, Plan};
use lakehold_proto::store::Store;
use serde::{Deserialize, Serialize};

use super::Ended;
use super::report::{EndState, EnvReport, RunReport};
use crate::engine::drive::EnvEnd;
use crate::output::{Align, Table, age, bytes, count, escaped, hinted, shown};
use crate::snapshot::read_at;

/// The schema name of a [`Summary`].
pub const SUMMARY_SCHEMA: &str = "lakehold.backup/v1";

/// What a backup came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// `lakehold.backup/v1`.
    pub schema: String,
    /// The run; absent when no environment could take part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// What it came to for each environment.
    pub environments: BTreeMap<EnvName, EnvSummary>,
}

/// What a backup came to for one environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvSummary {
    /// How it ended.
    pub state: EndState,
    /// What was committed.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotSummary>,
    /// Why nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultRecord>,
}

/// What was committed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its time.
    pub time: String,
    /// The snapshot it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<SnapshotId>,
    /// Its content root.
    pub content_root: Hash,
    /// Its counts.
    pub totals: Counts,
    /// Its kinds.
    pub kinds: Vec<KindReport>,
    /// What it took.
    pub figures: Figures,
    /// Seconds from the plan to the commit.
    pub seconds: f64,
    /// What a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Summary {
    /// Sums up how a backup ended.
    pub fn of(ended: &Ended) -> Self {
        Self {
            schema: SUMMARY_SCHEMA.into(),
            run: ended.plan.as_ref().map(|plan| plan.run),
            trace: ended.plan.as_ref().map(|plan| plan.trace),
            environments: ended
                .environments
                .iter()
                .map(|(name, end)| (name.clone(), EnvSummary::of(end)))
                .collect(),
        }
    }

    /// Sums up a run that has ended, from what the store has of it.
    ///
    /// # Errors
    /// The store's; `Integrity` when a manifest is damaged.
    pub async fn of_ended(store: &dyn Store, plan: &Plan, report: &RunReport) -> Result<Self> {
        let mut environments = BTreeMap::new();
        for (name, ended) in &report.environments {
            let planned = plan.environments.iter().find(|planned| planned.environment == *name);
            let snapshot = match planned.filter(|_| ended.snapshot.is_some()) {
                Some(planned) => {
                    let (manifest, _) = read_at(store, &planned.manifest()).await?;
                    Some(SnapshotSummary::of(&manifest))
                }
                None => None,
            };
            let EnvReport { state, fault, .. } = ended.clone();
            environments.insert(name.clone(), EnvSummary { state, snapshot, fault });
        }
        let (run, trace) = (Some(plan.run), Some(plan.trace));
        Ok(Self { schema: SUMMARY_SCHEMA.into(), run, trace, environments })
    }

    /// 0 if all are complete, 130 if one was cancelled, 1 if none is usable, else 3; of one environment that failed, its
    /// fault's own.
    pub fn exit_code(&self) -> u8 {
        let states: Vec<_> = self.environments.values().map(|environment| environment.state).collect();
        let usable = |state: &EndState| matches!(state, EndState::Complete | EndState::Partial);
        match states.as_slice() {
            all if all.iter().all(|state| *state == EndState::Complete) => 0,
            all if all.contains(&EndState::Cancelled) => 130,
            all if all.iter().any(usable) => 3,
            [_] => self.environments.values().map(EnvSummary::exit_code).next().unwrap_or(1),
            _ => 1,
        }
    }

    /// The addresses of what was committed, one a line.
    pub fn addresses(&self) -> String {
        let of = |(name, environment): (&EnvName, &EnvSummary)| {
            environment.snapshot.as_ref().map(|snapshot| format!("{name}@{}\n", snapshot.snapshot.short()))
        };
        self.environments.iter().filter_map(of).collect()
    }

    /// The table, and below it what a person should know.
    pub fn render(&self) -> String {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("ENVIRONMENT", Left),
            ("STATE", Left),
            ("ITEMS", Right),
            ("NEW", Right),
            ("CHANGED", Right),
            ("GONE", Right),
            ("GAPS", Right),
            ("READ", Right),
            ("STORED", Right),
            ("CALLS", Right),
            ("429S", Right),
            ("TIME", Right),
            ("SNAPSHOT", Left),
        ]);
        for (name, environment) in &self.environments {
            table.row(environment.cells(name));
        }
        let mut text = table.render();
        for (name, environment) in &self.environments {
            environment.remarks(name, &mut text);
        }
        if let (Some(run), Some(trace)) = (self.run, self.trace) {
            text += &format!("\n{run}  trace {trace}\n");
        }
        text
    }
}

impl EnvSummary {
    fn of(end: &EnvEnd) -> Self {
        let failed = |state, fault: &Fault| Self { state, snapshot: None, fault: Some(fault.record()) };
        match end {
            EnvEnd::Committed(manifest) => Self {
                state: manifest.state.into(),
                snapshot: Some(SnapshotSummary::of(manifest)),
                fault: None,
            },
            EnvEnd::Nothing(fault) => failed(EndState::Failed, fault),
            EnvEnd::Unfinished(fault) => failed(EndState::Unfinished, fault),
            EnvEnd::Cancelled(fault) => failed(EndState::Cancelled, fault),
        }
    }

    fn exit_code(&self) -> u8 {
        match self.state {
            EndState::Complete => 0,
            EndState::Partial => 3,
            _ => self.fault.as_ref().map_or(1, FaultRecord::exit_code),
        }
    }

    fn cells(&self, name: &EnvName) -> Vec<String> {
        let mut cells = vec![name.to_string(), self.state.word().to_owned()];
        let Some(snapshot) = &self.snapshot else {
            cells.extend(std::iter::repeat_n("-".to_owned(), 11));
            return cells;
        };
        let totals = &snapshot.totals;
        let counted = [totals.items, totals.new, totals.changed, totals.gone, totals.gaps + totals.unlisted];
        cells.extend(counted.map(count));
        cells.extend([snapshot.figures.bytes_read, snapshot.figures.bytes_stored].map(bytes));
        cells.extend([snapshot.figures.calls_made(), snapshot.figures.throttled()].map(count));
        cells.push(age(SignedDuration::from_secs(snapshot.seconds.round() as i64)));
        cells.push(snapshot.snapshot.short());
        cells
    }

    fn remarks(&self, name: &EnvName, text: &mut String) {
        if let Some(fault) = &self.fault {
            *text += &format!("\n{name}: error[{}]: {}\n", fault.code, escaped(&fault.message));
            *text += &hinted("  ", fault.hint.as_deref());
        }
        let Some(snapshot) = &self.snapshot else { return };
        for warning in &snapshot.warnings {
            *text += &format!("\n{name}: warning: {}\n", escaped(warning));
        }
        for kind in snapshot.kinds.iter().filter(|kind| kind.counts.gaps + kind.counts.unlisted > 0) {
            let why =
                kind.fault.as_ref().map_or(String::new(), |fault| format!(": {}", escaped(&fault.message)));
            let needs =
                kind.permission.as_ref().map_or(String::new(), |permission| format!(" (needs {permission})"));
            let gaps = kind.counts.gaps + kind.counts.unlisted;
            let noun = if gaps == 1 { "gap" } else { "gaps" };
            *text += &format!("{name}: {} {noun} of kind {}{needs}{why}\n", count(gaps), kind.kind);
            *text += &hinted("  ", kind.fault.as_ref().and_then(|fault| fault.hint.as_deref()));
        }
        let left_out: u64 = snapshot.kinds.iter().flat_map(|kind| kind.left_out.values()).sum();
        if left_out > 0 {
            let what = "items are left out by rules (show them: -o json)";
            *text += &format!("{name}: {} {what}\n", count(left_out));
        }
        for standing in [Standing::NotEnabled, Standing::Unsupported, Standing::Excluded] {
            let kinds = snapshot.kinds.iter().filter(|kind| kind.standing == standing);
            let names: Vec<_> = kinds.map(|kind| kind.kind.as_str()).collect();
            if !names.is_empty() {
                *text += &format!("{name}: {}: {}\n", standing.word(), names.join(", "));
            }
        }
        if self.state == EndState::Partial {
            *text += &format!("{name}: every gap: lakehold ls {name}@{} --gaps\n", snapshot.snapshot.short());
        }
    }
}

impl SnapshotSummary {
    fn of(manifest: &Manifest) -> Self {
        let took = manifest.run.committed.duration_since(manifest.run.planned);
        Self {
            snapshot: manifest.snapshot,
            time: manifest.time.clone(),
            base: manifest.base.as_ref().map(|base| base.snapshot),
            content_root: manifest.content_root,
            totals: manifest.totals(),
            kinds: manifest.kinds.clone(),
            figures: manifest.run.figures.clone(),
            seconds: took.as_secs_f64().max(0.0),
            warnings: manifest.probe.warnings.clone(),
        }
    }
}

/// A plan as `--dry-run` prints it.
pub fn render_plan(plan: &Plan) -> String {
    plan.environments.iter().map(render_environment).collect()
}

fn render_environment(planned: &EnvPlan) -> String {
    let mut text = format!("{}: a {} snapshot, {}\n", planned.environment, extent(planned), base(planned));
    let who = &planned.probe.identity;
    let admin = match who.admin {
        Some(true) => "an admin",
        Some(false) => "not an admin",
        None => "admin or not is unknown",
    };
    text += &format!("  asks as {} ({admin})\n", shown(&who.name));
    for (kind, rule) in &planned.excluded {
        text += &format!("  without {kind}: {rule}\n");
    }
    let estimate = &planned.estimate;
    match (estimate.items, estimate.seconds) {
        (Some(items), seconds) => {
            let calls: u64 = estimate.calls.values().sum();
            let time = seconds.map_or(String::new(), |s| {
                format!(", about {}", age(SignedDuration::from_secs(s.ceil() as i64)))
            });
            text += &format!("  about {} items, {} calls{time}\n", count(items), count(calls));
        }
        (None, _) => text += "  never backed up before: how many items and calls it takes is not known yet\n",
    }
    for (family, calls) in &estimate.calls {
        text += &format!("    {family}: {} calls\n", count(*calls));
    }
    text += &format!("  begins with {} tasks\n", planned.roots.len());
    for warning in &planned.probe.warnings {
        text += &format!("  warning: {}\n", escaped(warning));
    }
    text
}

fn extent(planned: &EnvPlan) -> &'static str {
    match (planned.is_scoped(), planned.selection.full) {
        (true, _) => "scoped",
        (false, true) => "full (fetching everything again)",
        (false, false) => "full",
    }
}

fn base(planned: &EnvPlan) -> String {
    match &planned.base {
        Some(base) => format!("compared with {} of {}", base.snapshot.short(), base.time),
        None => "the first".into(),
    }
}
