//! The checker of plans: a command for operators (`--dry-run`) and an assertion of every test.

use std::collections::{BTreeSet, HashSet};

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::{Kind, TaskId};
use lakehold_proto::plan::{EnvPlan, Plan};
use lakehold_proto::task::Task;

/// Checks what every plan promises: each environment and snapshot once, no task twice, and each kind of the source either
/// yielded by some root task or excluded by a rule that is written down.
///
/// # Errors
/// `Bug`, naming the first broken promise.
pub fn check(plan: &Plan, kinds_of: impl Fn(&EnvPlan) -> Vec<Kind>) -> Result<()> {
    let broken = |detail: String| Err(Fault::new(Class::Bug, "plan.broken", "check the plan", detail));
    let mut seen = HashSet::new();
    for environment in &plan.environments {
        let name = &environment.environment;
        if !seen.insert(name.to_string()) || !seen.insert(environment.snapshot.to_string()) {
            return broken(format!("{name} or its snapshot is there twice"));
        }
        let ids: HashSet<TaskId> =
            environment.roots.iter().map(|root| root_id(plan, environment, root)).collect();
        if ids.len() != environment.roots.len() {
            return broken(format!("{name} begins with the same task twice"));
        }
        let yielded: BTreeSet<&Kind> = environment.roots.iter().flat_map(|root| root.yields.iter()).collect();
        for kind in kinds_of(environment) {
            if yielded.contains(&kind) == environment.excluded.contains_key(&kind) {
                return broken(format!("kind {kind} of {name} is neither captured nor excluded, or both"));
            }
        }
    }
    Ok(())
}

fn root_id(plan: &Plan, environment: &EnvPlan, root: &lakehold_proto::task::TaskSpec) -> TaskId {
    let task = Task {
        run: plan.run,
        verb: plan.verb,
        environment: environment.environment.clone(),
        kind: root.kind.clone(),
        shard: root.shard.clone(),
        stage: root.stage,
        epoch: None,
    };
    task.id()
}
