//! The servers that a fleet shares: RabbitMQ, Redis, and a bucket of SeaweedFS. Each installation on them has a store and a
//! virtual host of its own.

use lakehold_sim::Sim;
use reqwest::Method;
use serde_json::{Value, json};

use crate::component::rabbitmq::Rabbit;
use crate::component::redis::Redis;
use crate::component::seaweed::{BUCKET, Seaweed, WRITER};
use crate::program::Program;

/// See the module.
pub struct Servers {
    pub rabbit: Rabbit,
    pub redis: Redis,
    pub weed: Seaweed,
}

/// Where an installation finds them: the servers themselves, or a line to one of them.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// With the virtual host.
    pub rabbit: String,
    pub redis: String,
    pub s3: String,
}

impl Servers {
    /// Starts all three.
    pub async fn start() -> Self {
        let (rabbit, redis, weed) = tokio::join!(Rabbit::start(), Redis::start(&[]), Seaweed::start());
        Self { rabbit, redis, weed }
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        Addresses { rabbit: self.rabbit.url(), redis: self.redis.url(), s3: self.weed.endpoint.clone() }
    }

    /// An installation named `name` that backs up the workspaces of `sim`, `prod`, `prod1` and so on, as fast as it can.
    pub async fn install(&self, name: &str, sim: &Sim) -> Program {
        self.install_at(name, sim, self.addresses()).await
    }

    /// The same with the servers at other addresses.
    pub async fn install_at(&self, name: &str, sim: &Sim, mut addresses: Addresses) -> Program {
        self.rabbit.api(Method::PUT, &format!("vhosts/{name}"), Value::Null).await;
        let rights = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.rabbit.api(Method::PUT, &format!("permissions/{name}/guest"), rights).await;
        addresses.rabbit += &format!("/{name}");
        let program = install(name, sim, &addresses).await;
        let path = program.path("lakehold.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        program.configure(&text.replace("    databricks:", "    limits: {factor: 1000}\n    databricks:"));
        program
    }

    /// Forgets the locks of an installation's processes that were killed, as their expiry would half a minute later:
    /// `task/` are a worker's, `backup/` a coordinator's.
    pub fn forget_locks(&self, program: &Program, whose: &str) {
        let store = std::fs::read_to_string(program.path("store-id")).unwrap();
        let pattern = format!("lakehold:*{store}*:lock:{whose}*");
        let found = self.redis.cli(&["--scan", "--pattern", &pattern]);
        found.lines().for_each(|key| _ = self.redis.cli(&["del", key]));
    }
}

/// An installation as it stands, within the limits that are documented.
pub async fn install(name: &str, sim: &Sim, addresses: &Addresses) -> Program {
    let urls = sim.urls();
    let name_of = |i: usize| if i == 0 { "prod".to_owned() } else { format!("prod{i}") };
    let names: Vec<_> = (0..urls.len()).map(name_of).collect();
    let environments: Vec<_> =
        names.iter().zip(&urls).map(|(name, url)| (name.as_str(), url.as_str())).collect();
    let program = Program::new(&environments, sim.token());
    std::fs::write(program.path("queue"), &addresses.rabbit).unwrap();
    program.configure_more(&format!(
        "queue: \"file:{}\"\nredis: {}\ns3: {{endpoint: '{}', path_style: true, region: us-east-1}}\n",
        program.path("queue").display(),
        addresses.redis,
        addresses.s3,
    ));
    program.variable("LAKEHOLD_STORE", &format!("s3://{BUCKET}/{name}"));
    program.variable("AWS_ACCESS_KEY_ID", WRITER.0);
    program.variable("AWS_SECRET_ACCESS_KEY", WRITER.1);
    let made = program.run("init -o name").await;
    assert_eq!(made.code, Some(0), "{made:#?}");
    std::fs::write(program.path("store-id"), made.out.trim()).unwrap();
    program
}

/// Lets the environments from this one on sign in with tokens that expire.
pub fn sign_in_with_oauth(program: &Program, from: &str) {
    program.variable("SIM", "sim");
    let text = std::fs::read_to_string(program.path("lakehold.yaml")).unwrap();
    let token = format!("      token: \"file:{}\"\n", program.path("token").display());
    let client = "      client_id: \"env:SIM\"\n      client_secret: \"env:SIM\"\n";
    let (before, behind) = text.split_once(&format!("  {from}:")).unwrap();
    program.configure(&format!("{before}  {from}:{}", behind.replace(&token, client)));
}

/// The content root of what was committed.
#[track_caller]
pub fn root(ended: &Value) -> String {
    ended["content_root"].as_str().unwrap_or_else(|| panic!("nothing was committed: {ended:#}")).to_owned()
}
