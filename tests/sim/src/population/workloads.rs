//! What refers to everything else: repos, pipelines, jobs.

use serde_json::{Map, Value, json};

use super::compute::{cluster_spec, share, somebody};
use super::names;
use super::{Kind, Maker};
use crate::api::clusters::CLUSTER;
use crate::api::jobs::{self, JOB};
use crate::api::permissions;
use crate::api::pipelines::{self, PIPELINE};
use crate::api::repos::REPO;
use crate::api::workspace;
use crate::content::Body;
use crate::rng::Rng;
use crate::tree::{Language, NewNode, NodeKind};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: REPO,
        share: 30,
        least: 1,
        hostile: 0,
        create: repo,
        edit: edit_repo,
        delete: delete_repo,
        ids: |ws| ws.store().ids(REPO),
    },
    Kind {
        name: PIPELINE,
        share: 40,
        least: 1,
        hostile: names::HOSTILE,
        create: pipeline,
        edit: edit_pipeline,
        delete: |m, id| delete(m, PIPELINE, "pipelines", id),
        ids: |ws| ws.store().ids(PIPELINE),
    },
    Kind {
        name: JOB,
        share: 300,
        least: 5,
        hostile: 2 * names::HOSTILE,
        create: job,
        edit: edit_job,
        delete: |m, id| delete(m, JOB, "jobs", id),
        ids: |ws| ws.store().ids(JOB),
    },
];

/// One job in so many has more than a hundred tasks, so that pages of arrays are seen.
const MANY_TASKS_EVERY: u64 = 100;

fn delete(m: &Maker<'_>, kind: &str, url: &str, id: &str) -> bool {
    let mut store = m.ws.store();
    permissions::forget(&mut store, url, id);
    store.remove(kind, id).is_some()
}

fn repo(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(REPO, n);
    let user = somebody(m, &mut rng);
    let name = format!("{}-{n}", names::slug(&mut rng));
    // Section 3.3: git folders also live outside /Repos.
    let parent = if n % 3 == 2 { format!("/Users/{user}") } else { format!("/Repos/{user}") };
    let path = format!("{parent}/{name}");
    let fresh = || m.ws.fresh_number();
    let id = fresh();
    {
        let mut tree = m.ws.tree();
        let _ = tree.mkdirs(&parent, m.now_ms, fresh);
        let folder = NewNode { kind: NodeKind::Repo, ..NewNode::directory(id, m.now_ms) };
        if tree.add(&path, folder).is_err() {
            return String::new();
        }
        // Section 3.3: what a git folder holds is in the tree too.
        let body = Body::Seeded { seed: rng.next(), size: 900 };
        let readme = NewNode {
            id: fresh(),
            kind: NodeKind::File,
            language: None,
            now_ms: m.now_ms,
            body: body.clone(),
            resource: None,
        };
        let code = NewNode {
            id: fresh(),
            kind: NodeKind::Notebook,
            language: Some(Language::Python),
            body,
            ..readme.clone()
        };
        let _ = tree.add_under(id, "README.md", readme);
        let _ = tree.add_under(id, "main", code);
    }
    let mut repo = json!({
        "id": id, "path": path, "url": format!("https://github.com/example/{name}.git"), "provider": "gitHub",
        "branch": rng.pick(&["main", "develop"]), "head_commit_id": rng.hex(40),
    });
    // Section 3.3: local-only ones have no remote, and no other copy of what they hold.
    if n % 8 == 5 {
        repo["url"] = json!("");
        repo["provider"] = json!("");
    }
    if rng.chance(15) {
        repo["sparse_checkout"] = json!({"patterns": ["src", "conf"]});
    }
    m.ws.store().put(REPO, &id.to_string(), &repo);
    share(m, "repos", &id.to_string(), "CAN_READ", &mut rng);
    id.to_string()
}

fn edit_repo(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let (branch, commit) = (format!("feature-{}", rng.hex(4)), rng.hex(40));
    let change = |r: &mut Value| {
        r["branch"] = json!(branch);
        r["head_commit_id"] = json!(commit);
    };
    m.ws.store().edit(REPO, id, change).is_some()
}

fn delete_repo(m: &Maker<'_>, id: &str) -> bool {
    let gone = id.parse().map(|id| m.ws.tree().remove_id(id)).unwrap_or_default();
    workspace::forget(m.ws, &gone);
    !gone.is_empty()
}

/// A notebook somebody wrote.
fn notebook(m: &Maker<'_>, rng: &mut Rng) -> String {
    let tree = m.ws.tree();
    let path = tree.draw(NodeKind::Notebook, rng.next()).map(|n| tree.path(n));
    path.unwrap_or_else(|| "/Shared/missing".to_owned())
}

fn pipeline(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(PIPELINE, n);
    let id = rng.uuid();
    let name = if m.hostile && n < 12 {
        names::hostile(n)
    } else {
        format!("{}-pipeline-{n}", names::slug(&mut rng))
    };
    let mut spec: Map<String, Value> = Map::new();
    spec.insert("name".to_owned(), json!(name));
    spec.insert(
        "libraries".to_owned(),
        json!([{"notebook": {"path": notebook(m, &mut rng)}}, {"glob": {"include": "/Shared/pipelines/**"}}]),
    );
    if rng.chance(80) {
        spec.insert("catalog".to_owned(), json!("main"));
        spec.insert("schema".to_owned(), json!("default"));
        spec.insert("serverless".to_owned(), json!(true));
    } else {
        let mut cluster = cluster_spec(m, &mut rng);
        cluster.shift_remove("spark_version");
        cluster.insert("label".to_owned(), json!("default"));
        spec.insert("target".to_owned(), json!(rng.pick(names::STAGES)));
        spec.insert("clusters".to_owned(), json!([cluster]));
    }
    spec.insert("configuration".to_owned(), json!({"team": rng.pick(names::TEAMS)}));
    spec.insert("continuous".to_owned(), json!(rng.chance(10)));
    let creator = somebody(m, &mut rng);
    spec.insert("run_as".to_owned(), json!({"user_name": creator}));
    m.ws.store().put(PIPELINE, &id, &pipelines::build(spec, &id, &creator, m.now_ms));
    share(m, "pipelines", &id, "CAN_RUN", &mut rng);
    id
}

fn edit_pipeline(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let (value, now) = (rng.hex(8), m.now_ms);
    let change = |p: &mut Value| {
        p["spec"]["configuration"]["edited"] = json!(value);
        p["last_modified"] = json!(now);
    };
    m.ws.store().edit(PIPELINE, id, change).is_some()
}

fn job(m: &Maker<'_>, n: u64) -> String {
    let mut rng = m.rng(JOB, n);
    // Ids can exceed 2^53 (head of the reference): no client may read them as floats.
    let least = if m.hostile && n.is_multiple_of(5) { (1 << 53) + 1 } else { 100_000_000_000_000 };
    let number = least + rng.below(900_000_000_000_000);
    let mut settings: Map<String, Value> = Map::new();
    let mut set = |field: &str, value: Value| drop(settings.insert(field.to_owned(), value));
    // Section 3.4: names are not unique, and may be missing.
    let name = match n {
        n if m.hostile && n < 24 => names::hostile(n),
        n if n % 40 == 7 => "nightly".to_owned(),
        _ => format!("{}-{n}", names::slug(&mut rng)),
    };
    set("name", json!(name));
    let many = n == 3 || n % MANY_TASKS_EVERY == MANY_TASKS_EVERY - 1;
    let count = if many { 101 + rng.below(80) } else { 1 + rng.below(6) };
    let tasks: Vec<Value> = (0..count).map(|t| task(m, t, many, &mut rng)).collect();
    if tasks.iter().any(|t| t.get("job_cluster_key").is_some()) {
        set("job_clusters", json!([{"job_cluster_key": "shared", "new_cluster": cluster_spec(m, &mut rng)}]));
    }
    set("tasks", json!(tasks));
    if rng.chance(60) {
        let paused = if rng.chance(30) { "PAUSED" } else { "UNPAUSED" };
        set(
            "schedule",
            json!({"quartz_cron_expression": format!("0 {} {} * * ?", rng.below(60), rng.below(24)), "timezone_id": "UTC", "pause_status": paused}),
        );
    }
    if rng.chance(25) {
        set(
            "parameters",
            json!([{"name": "day", "default": "today"}, {"name": "path", "default": format!("/Volumes/main/default/{}", rng.pick(names::STAGES))}]),
        );
    }
    if rng.chance(20) {
        set("tags", json!({"team": rng.pick(names::TEAMS)}));
    }
    let creator = somebody(m, &mut rng);
    if rng.chance(30) {
        set("email_notifications", json!({"on_failure": [creator]}));
        set("run_as", json!({"user_name": creator}));
    }
    if m.hostile && n == 1 {
        // Huge, and JSON within JSON within JSON.
        let inner = json!({"deep": json!({"deeper": json!({"quote": "\"\\\u{0}"}).to_string()}).to_string()})
            .to_string();
        set("description", json!("x".repeat(3 << 20)));
        set("parameters", json!([{"name": "nested", "default": inner}]));
    }
    m.ws.store().put(JOB, &number.to_string(), &jobs::build(settings, number, &creator, m.now_ms));
    share(m, "jobs", &number.to_string(), "CAN_MANAGE_RUN", &mut rng);
    number.to_string()
}

/// One task; those of a large job are small and form a chain.
fn task(m: &Maker<'_>, t: u64, small: bool, rng: &mut Rng) -> Value {
    let mut task = json!({"task_key": format!("task_{t:03}")});
    if t > 0 {
        let on: Vec<Value> = [t.checked_sub(1), t.checked_sub(3)]
            .into_iter()
            .flatten()
            .map(|d| json!({"task_key": format!("task_{d:03}")}))
            .collect();
        task["depends_on"] = json!(on);
    }
    let of = |kind: &str, rng: &mut Rng| m.ws.store().nth_id(kind, rng.next());
    let draw = if small { 0 } else { rng.below(100) };
    match draw {
        70..78 => {
            if let Some(id) = of(PIPELINE, rng) {
                task["pipeline_task"] = json!({"pipeline_id": id, "full_refresh": false});
                return task;
            }
        }
        78..84 => {
            // Of earlier jobs: no cycles.
            if let Some(id) = of(JOB, rng).and_then(|id| id.parse::<u64>().ok()) {
                task["run_job_task"] = json!({"job_id": id});
                return task;
            }
        }
        84..92 => {
            if let (Some(warehouse), Some(query)) = (of("warehouse", rng), of("query", rng)) {
                task["sql_task"] = json!({"warehouse_id": warehouse, "query": {"query_id": query}});
                return task;
            }
        }
        92..96 => {
            let file = {
                let tree = m.ws.tree();
                tree.draw(NodeKind::File, rng.next()).map(|n| tree.path(n))
            };
            if let Some(path) = file {
                task["spark_python_task"] = json!({"python_file": format!("/Workspace{path}"), "parameters": ["--day", "{{job.parameters.day}}"]});
                place(m, &mut task, rng);
                return task;
            }
        }
        96.. => {
            let inner = json!({"task_key": format!("task_{t:03}_each"), "notebook_task": {"notebook_path": notebook(m, rng), "source": "WORKSPACE"}});
            task["for_each_task"] = json!({"inputs": "[1, 2, 3]", "concurrency": 2, "task": inner});
            return task;
        }
        _ => {}
    }
    task["notebook_task"] = json!({"notebook_path": notebook(m, rng), "source": "WORKSPACE", "base_parameters": {"n": rng.below(100).to_string()}});
    if !small {
        place(m, &mut task, rng);
    }
    task
}

/// Where a task runs: serverless, a cluster of the job, one that exists.
fn place(m: &Maker<'_>, task: &mut Value, rng: &mut Rng) {
    match rng.below(3) {
        0 => {}
        1 => task["job_cluster_key"] = json!("shared"),
        _ => {
            let store = m.ws.store();
            let all: Vec<String> = store
                .scan(CLUSTER, None, 0)
                .filter(|d| d.value["cluster_source"] != "JOB")
                .take(20)
                .map(|d| d.id)
                .collect();
            if let Some(id) = all.get(usize::try_from(rng.below(all.len() as u64)).unwrap_or(0)) {
                task["existing_cluster_id"] = json!(id);
            }
        }
    }
}

fn edit_job(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let retries = 1000 + rng.below(1_000_000);
    m.ws.store().edit(JOB, id, |j| j["settings"]["timeout_seconds"] = json!(retries)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{SimConfig, make};
    use crate::state::Workspace;

    fn workspace(seed: u64, items: usize) -> Vec<String> {
        let config = SimConfig { seed, population: crate::Population::Items(items), ..SimConfig::default() };
        let world = make(config).expect("a world");
        let ws = &world.workspaces[0];
        super::super::kinds()
            .flat_map(|k| (k.ids)(ws).into_iter().map(move |id| format!("{}/{id}", k.name)))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_workspace() {
        assert_eq!(workspace(1, 800), workspace(1, 800));
        assert_ne!(workspace(1, 800), workspace(2, 800));
    }

    #[test]
    fn jobs_refer_to_things_that_exist() {
        let world = make(SimConfig { population: crate::Population::Items(3000), ..SimConfig::default() })
            .expect("a world");
        let ws: &Workspace = &world.workspaces[0];
        let jobs = ws.store().all(JOB);
        assert!(jobs.iter().any(|j| j["settings"]["tasks"].as_array().is_some_and(|t| t.len() > 100)));
        let mut seen = 0;
        for task in jobs.iter().flat_map(|j| j["settings"]["tasks"].as_array().cloned().unwrap_or_default()) {
            if let Some(path) = task["notebook_task"]["notebook_path"].as_str() {
                assert!(ws.tree().at(path).is_some(), "{path}");
                seen += 1;
            }
            if let Some(id) = task["existing_cluster_id"].as_str() {
                assert!(ws.store().contains(CLUSTER, id));
                seen += 1;
            }
        }
        assert!(seen > 100);
    }
}
