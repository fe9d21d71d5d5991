//! The simulator over HTTP: what a client sees of limits, faults, pages and identities.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{CallReport, Fault, IdentitySpec, Limit, Limits, Mutation, Population, Sim, SimConfig};

/// A started simulator and a client of its first workspace.
struct Site {
    sim: Sim,
    client: Client,
}

impl Site {
    async fn new(config: SimConfig) -> Self {
        Self { sim: Sim::start(config).await.expect("starts"), client: Client::new() }
    }

    async fn small() -> Self {
        Self::new(SimConfig::default()).await
    }

    fn fault(self, fault: Value) -> Self {
        self.sim.add_fault(serde_json::from_value(fault).expect("a fault")).expect("a glob");
        self
    }

    async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        token: &str,
    ) -> reqwest::Result<Response> {
        let mut request =
            self.client.request(method, format!("{}{path}", self.sim.url(0))).bearer_auth(token);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        self.try_call(method, path, body, "sim").await.expect("an answer")
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.call(Method::GET, path, None).await;
        let status = response.status();
        (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.call(Method::POST, path, Some(body)).await;
        let status = response.status();
        (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or(Value::Null))
    }

    /// All ids of a paged list.
    async fn pages(&self, path: &str, items: &str, id: &str) -> Vec<String> {
        let mut token = String::new();
        let mut all = Vec::new();
        loop {
            let (_, body) = self.get(&format!("{path}&page_token={token}")).await;
            all.extend(body[items].as_array().into_iter().flatten().map(|i| i[id].to_string()));
            match body["next_page_token"].as_str() {
                Some(next) => token = next.to_owned(),
                None => return all,
            }
        }
    }
}

fn jobs(n: usize) -> SimConfig {
    SimConfig { population: Population::Counts([("job".to_owned(), n)].into()), ..SimConfig::default() }
}

#[tokio::test]
async fn limits_throttle_with_retry_after_and_are_counted() {
    let limit = Limit {
        family: "jobs".into(),
        methods: vec!["GET".into()],
        per_second: Some(0.01),
        burst: Some(3.0),
        concurrent: None,
        ban_seconds: None,
    };
    let site = Site::new(SimConfig { limits: Limits(vec![limit]), ..jobs(1) }).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let response = site.call(Method::GET, "/api/2.2/jobs/list", None).await;
        statuses.push(response.status().as_u16());
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let after: u64 =
                response.headers()["retry-after"].to_str().expect("text").parse().expect("whole seconds");
            assert!((1..=100).contains(&after));
        }
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let (_, report) = site.get("/__sim/calls").await;
    let report: CallReport = serde_json::from_value(report).expect("a report");
    assert_eq!((report.total, report.throttled), (5, 2));
    assert_eq!(report.count(|c| c.path == "/api/2.2/jobs/list" && c.status == 429), 2);
    assert_eq!(
        report.seconds.iter().map(|s| (s.admitted, s.throttled)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (3, 2)
    );
    site.sim.reset_calls();
    assert_eq!(site.sim.calls().total, 0);
}

#[tokio::test]
async fn pages_neither_repeat_nor_lose_what_stayed() {
    let site = Site::new(jobs(60)).await.fault(json!({
        "path": "/api/2.2/jobs/list", "times": 3,
        "effect": {"type": "mutate", "kind": "job", "create": 4, "delete": 3, "seed": 9},
    }));
    let before = site.pages("/api/2.2/jobs/list?limit=10", "jobs", "job_id").await;
    let after: HashSet<String> =
        site.pages("/api/2.2/jobs/list?limit=100", "jobs", "job_id").await.into_iter().collect();
    let unique: HashSet<&String> = before.iter().collect();
    assert_eq!(unique.len(), before.len(), "nothing twice");
    assert!(before.len() >= 51 && after.len() == 60 + 3 * 4 - 3 * 3, "{} {}", before.len(), after.len());
    assert!(after.iter().all(|id| unique.contains(id)), "all that stayed was seen");
}

#[tokio::test]
async fn a_fault_after_the_effect_loses_only_the_answer() {
    let site = Site::small().await.fault(json!({
        "method": "POST", "path": "/api/2.0/instance-pools/create", "when": "after",
        "effect": {"type": "error", "status": 500, "error_code": "INTERNAL_ERROR", "message": "lost"},
    }));
    let pool = json!({"instance_pool_name": "p", "node_type_id": "i3.xlarge"});
    let (status, body) = site.post("/api/2.0/instance-pools/create", pool.clone()).await;
    assert_eq!((status.as_u16(), &body["error_code"]), (500, &json!("INTERNAL_ERROR")));
    let (status, body) = site.post("/api/2.0/instance-pools/create", pool).await;
    assert_eq!(status.as_u16(), 400, "the first one was made: {body}");
}

#[tokio::test]
async fn spoiled_bodies_reach_the_client_as_described() {
    let site = Site::small().await;
    let path = "/api/2.0/instance-pools/list";
    let arm = |effect: Value| {
        let fault = serde_json::from_value(json!({"path": path, "effect": effect})).expect("a fault");
        site.sim.add_fault(fault).expect("a glob");
    };
    arm(json!({"type": "truncate", "keep": 20}));
    let broken = site.call(Method::GET, path, None).await;
    assert!(broken.bytes().await.is_err(), "the length was a lie");
    arm(json!({"type": "truncate", "keep": 20, "honest_length": true}));
    assert_eq!(site.call(Method::GET, path, None).await.bytes().await.expect("whole").len(), 20);
    arm(json!({"type": "reset"}));
    assert!(site.try_call(Method::GET, path, None, "sim").await.is_err());
    arm(json!({"type": "huge", "bytes": 3_000_000}));
    assert_eq!(site.call(Method::GET, path, None).await.bytes().await.expect("whole").len(), 3_000_000);
    arm(json!({"type": "error", "status": 401, "shape": "login"}));
    let login = site.call(Method::GET, path, None).await;
    assert_eq!(login.status(), StatusCode::OK);
    assert!(login.headers()["content-type"].to_str().expect("text").starts_with("text/html"));
    arm(json!({"type": "slow", "chunk": 64, "every_ms": 1}));
    assert!(site.get(path).await.1["instance_pools"].is_array());
    let wrong = site.post("/__sim/faults", json!({"path": path, "effect": {"type": "explode"}})).await;
    assert_eq!(wrong.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_first_read_after_a_write_can_be_stale() {
    let site =
        Site::new(jobs(1)).await.fault(json!({"path": "/api/2.2/jobs/get", "effect": {"type": "stale"}}));
    let id = site.pages("/api/2.2/jobs/list?limit=5", "jobs", "job_id").await.remove(0);
    let read =
        || async { site.get(&format!("/api/2.2/jobs/get?job_id={id}")).await.1["settings"]["name"].clone() };
    let old = read().await;
    let number: u64 = id.parse().expect("a number");
    site.post("/api/2.2/jobs/update", json!({"job_id": number, "new_settings": {"name": "renamed"}})).await;
    assert_eq!(read().await, old);
    assert_eq!(read().await, json!("renamed"));
}

#[tokio::test]
async fn tokens_expire_are_revoked_and_lose_rights() {
    let site = Site::new(jobs(40)).await;
    let mut spec = IdentitySpec { admin: false, ..IdentitySpec::admin("limited", "somebody@example.com") };
    spec.visible_percent = 50;
    site.sim.identity(&spec);
    let status = |response: Response| response.status().as_u16();
    let list = || async {
        site.try_call(Method::GET, "/api/2.2/jobs/list?limit=100", None, "limited").await.expect("an answer")
    };
    let seen: Value = serde_json::from_str(&list().await.text().await.expect("text")).expect("JSON");
    let count = seen["jobs"].as_array().map_or(0, Vec::len);
    assert!((1..40).contains(&count), "a list as a non-admin silently returns less: {count}");
    spec.denied = vec!["jobs".to_owned()];
    site.sim.identity(&spec);
    assert_eq!(status(list().await), 403);
    spec.denied.clear();
    spec.expires_at_ms = Some(site.sim.clock().now_ms() + 60_000);
    site.sim.identity(&spec);
    assert_eq!(status(list().await), 200);
    site.sim.clock().advance(61_000);
    assert_eq!(status(list().await), 401);
    assert_eq!(
        status(site.try_call(Method::GET, "/api/2.2/jobs/list", None, "wrong").await.expect("an answer")),
        401
    );
}

#[tokio::test]
async fn a_minted_token_is_bound_to_its_workspace() {
    let site = Site::new(SimConfig { workspaces: 2, ..SimConfig::default() }).await;
    let (_, discovery) = site.get("/oidc/.well-known/oauth-authorization-server").await;
    let endpoint = discovery["token_endpoint"].as_str().expect("a URL");
    let form = "grant_type=client_credentials&scope=all-apis";
    let mint =
        |secret: &'static str| site.client.post(endpoint).basic_auth("sim", Some(secret)).body(form).send();
    let refused = mint("wrong").await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let minted: Value =
        serde_json::from_str(&mint("sim").await.expect("an answer").text().await.expect("text"))
            .expect("JSON");
    let token = minted["access_token"].as_str().expect("a token");
    let me = |i: usize| {
        site.client.get(format!("{}/api/2.0/preview/scim/v2/Me", site.sim.url(i))).bearer_auth(token).send()
    };
    let here = me(0).await.expect("an answer");
    assert!(here.headers().contains_key("x-databricks-org-id"));
    assert_eq!((here.status().as_u16(), me(1).await.expect("an answer").status().as_u16()), (200, 401));
}

#[tokio::test]
async fn a_job_of_250_tasks_comes_in_pages_and_2_1_refuses_it() {
    let site = Site::small().await;
    let tasks: Vec<Value> = (0..250).map(|i| json!({"task_key": format!("t{i}")})).collect();
    let (status, _) = site.post("/api/2.1/jobs/create", json!({"name": "big", "tasks": tasks})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (_, made) = site
        .post("/api/2.2/jobs/create", json!({"name": "big", "tasks": tasks, "parameters": [{"name": "p"}]}))
        .await;
    let path = format!("/api/2.2/jobs/get?job_id={}", made["job_id"]);
    let (mut token, mut sizes) = (String::new(), Vec::new());
    loop {
        let (_, page) = site.get(&format!("{path}&page_token={token}")).await;
        let len = |f: &str| page["settings"][f].as_array().map(Vec::len);
        sizes.push((len("tasks"), len("parameters")));
        match page["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(sizes, [(Some(100), Some(1)), (Some(100), Some(0)), (Some(50), Some(0))]);
    let (status, error) = site.get("/api/2.2/jobs/get?job_id=1").await;
    assert_eq!(
        (status.as_u16(), error),
        (400, json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "Job 1 does not exist."}))
    );
}

#[tokio::test]
async fn the_tree_keeps_its_quirks() {
    let site = Site::new(SimConfig { hostile: true, ..SimConfig::default() }).await;
    let (_, listed) = site.get("/api/2.0/workspace/list?path=/Workspace/Shared").await;
    assert!(listed["objects"].as_array().is_some_and(|o| {
        o.iter().all(|e| e["path"].as_str().is_some_and(|p| p.starts_with("/Workspace/Shared/")))
    }));
    site.post("/api/2.0/workspace/mkdirs", json!({"path": "/Shared/new/empty"})).await;
    assert_eq!(site.get("/api/2.0/workspace/list?path=/Shared/new/empty").await, (StatusCode::OK, json!({})));
    let (status, missing) = site.get("/api/2.0/workspace/list?path=/nowhere").await;
    assert_eq!((status.as_u16(), &missing["error_code"]), (404, &json!("RESOURCE_DOES_NOT_EXIST")));
    let export = |name: &str, format: &str| {
        format!("/api/2.0/workspace/export?path=/Shared/hostile/{name}&format={format}")
    };
    let (_, heavy) = site.get(&export("outputs-of-11-MB", "JUPYTER")).await;
    assert_eq!(heavy["error_code"], "MAX_NOTEBOOK_SIZE_EXCEEDED");
    assert_eq!(site.get(&export("outputs-of-11-MB", "SOURCE")).await.0, StatusCode::OK);
    let (_, large) = site.get(&export("100-MB.bin", "AUTO")).await;
    assert_eq!(large["details"][0]["reason"], "MAX_READ_SIZE_EXCEEDED");
    let streamed =
        site.call(Method::GET, &format!("{}&direct_download=true", export("100-MB.bin", "AUTO")), None).await;
    assert_eq!(streamed.content_length(), Some(100 << 20));
    // A file that looks like a notebook becomes one on AUTO import, and stays a file with RAW.
    let content = "IyBEYXRhYnJpY2tzIG5vdGVib29rIHNvdXJjZQpwcmludCgxKQo=";
    for (format, kind) in [("AUTO", "NOTEBOOK"), ("RAW", "FILE")] {
        let path = format!("/Shared/new/{format}.py");
        let (status, _) = site
            .post("/api/2.0/workspace/import", json!({"path": path, "format": format, "content": content}))
            .await;
        assert_eq!(status, StatusCode::OK);
        let found = if format == "AUTO" { "/Shared/new/AUTO" } else { "/Shared/new/RAW.py" };
        assert_eq!(
            site.get(&format!("/api/2.0/workspace/get-status?path={found}")).await.1["object_type"],
            kind
        );
    }
    let orphan = json!({"path": "/no/parent", "format": "RAW", "content": ""});
    assert_eq!(site.post("/api/2.0/workspace/import", orphan).await.0, StatusCode::NOT_FOUND);
    let twist = json!({"path": "/Shared/new/AUTO", "format": "RAW", "content": "", "overwrite": true});
    assert_eq!(
        site.post("/api/2.0/workspace/import", twist).await.0,
        StatusCode::BAD_REQUEST,
        "overwriting never changes the type"
    );
    let response = site
        .call(
            Method::POST,
            "/api/2.0/workspace-files/import-file/Shared/new/AUTO?overwrite=true",
            Some(json!(1)),
        )
        .await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.text().await.expect("text").split("already exists.").count(), 2);
}

#[tokio::test]
async fn permissions_of_a_notebook_show_where_they_come_from() {
    let site = Site::small().await;
    site.post("/api/2.0/workspace/mkdirs", json!({"path": "/Shared/team"})).await;
    let import =
        json!({"path": "/Shared/team/nb", "format": "SOURCE", "language": "PYTHON", "content": "eCA9IDE="});
    site.post("/api/2.0/workspace/import", import).await;
    let status = |path: &'static str| site.get(path);
    let (_, dir) = status("/api/2.0/workspace/get-status?path=/Shared/team").await;
    let (_, nb) = status("/api/2.0/workspace/get-status?path=/Shared/team/nb").await;
    let acl = json!({"access_control_list": [{"group_name": "users", "permission_level": "CAN_EDIT"}]});
    let put = site
        .call(Method::PUT, &format!("/api/2.0/permissions/directories/{}", dir["object_id"]), Some(acl))
        .await;
    assert_eq!(put.status(), StatusCode::OK);
    let (_, of) = site.get(&format!("/api/2.0/permissions/notebooks/{}", nb["object_id"])).await;
    let users = of["access_control_list"]
        .as_array()
        .and_then(|a| a.iter().find(|e| e["group_name"] == "users"))
        .cloned()
        .expect("users");
    let from: Vec<Value> = users["all_permissions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| p["inherited_from_object"][0].clone())
        .collect();
    assert!(from.contains(&json!(format!("/directories/{}", dir["object_id"]))), "{users}");
    assert_eq!(of["object_type"], "notebook");
}

#[tokio::test]
async fn concurrency_caps_count_calls_in_flight() {
    let cap = Limit {
        family: "jobs".into(),
        methods: Vec::new(),
        per_second: None,
        burst: None,
        concurrent: Some(2),
        ban_seconds: None,
    };
    let site =
        Site::new(SimConfig { limits: Limits(vec![cap]), latency: Duration::from_millis(300), ..jobs(1) })
            .await;
    let calls = (0..6).map(|_| site.call(Method::GET, "/api/2.2/jobs/list", None));
    let statuses: Vec<u16> =
        futures::future::join_all(calls).await.iter().map(|r| r.status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 2, "{statuses:?}");
    assert_eq!(site.get("/api/2.2/jobs/list").await.0, StatusCode::OK, "places are given back");
}

#[tokio::test]
async fn every_workspace_has_what_a_new_one_has_and_mutations_are_seeded() {
    let site =
        Site::new(SimConfig { workspaces: 2, population: Population::Empty, ..SimConfig::default() }).await;
    let (_, groups) = site.get("/api/2.0/preview/scim/v2/Groups").await;
    let names: Vec<&str> = groups["Resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|g| g["displayName"].as_str())
        .collect();
    assert_eq!(names, ["admins", "users"]);
    let mutation = Mutation { kind: "notebook".into(), create: 3, edit: 0, delete: 0, seed: 1 };
    let made = site.sim.mutate(0, &mutation).expect("known");
    assert_eq!(made.created.len(), 3);
    assert!(site.sim.mutate(0, &Mutation { kind: "nonsense".into(), ..mutation }).is_err());
    let fault: Fault =
        serde_json::from_value(json!({"path": "[", "effect": {"type": "reset"}})).expect("parses");
    assert!(site.sim.add_fault(fault).is_err(), "a broken glob is refused");
}

#[tokio::test]
async fn dropping_the_simulator_closes_its_port() {
    let site = Site::small().await;
    let url = format!("{}/__sim/info", site.sim.url(0));
    assert!(site.client.get(&url).send().await.is_ok());
    let Site { sim, client } = site;
    drop(sim);
    // The listener goes with its task, which the runtime drops at its next turn.
    let mut closed = false;
    for _ in 0..1000 {
        closed = client.get(&url).send().await.is_err();
        if closed {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(closed);
}

#[tokio::test]
async fn singletons_keep_their_admins_and_take_others() {
    let site = Site::small().await;
    let path = "/api/2.0/permissions/authorization/passwords";
    let acl = |groups: &[&str]| {
        let all: Vec<Value> =
            groups.iter().map(|g| json!({"group_name": g, "permission_level": "CAN_USE"})).collect();
        Some(json!({"access_control_list": all}))
    };
    assert_eq!(site.call(Method::PUT, path, acl(&["admins", "users"])).await.status(), StatusCode::OK);
    let (_, now) = site.get(path).await;
    assert_eq!(now["access_control_list"].as_array().map(Vec::len), Some(2));
    let tokens = "/api/2.0/permissions/authorization/tokens";
    assert_eq!(site.call(Method::PUT, tokens, acl(&["users"])).await.status(), StatusCode::BAD_REQUEST);
}
