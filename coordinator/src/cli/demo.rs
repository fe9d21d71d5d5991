//! `lakehold demo`: a simulated workspace in this process, and the commands that a person would type against it. Nothing
//! here is special to the demo: each step goes through the same command line.

use std::path::{Path, PathBuf};

use clap::Args;
use lakehold_proto::fault::{Class, Fault, Result};

use super::Global;

const EXAMPLES: &str = "\
Examples:
  lakehold demo
  lakehold demo --dir /tmp/demo && lakehold -c /tmp/demo/lakehold.yaml snapshots";

/// What may be typed behind `demo`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Where to leave configuration and store
    #[arg(long, value_name = "DIR", default_value = "lakehold-demo")]
    pub dir: PathBuf,
}

#[cfg(not(feature = "demo"))]
pub(super) async fn run(args: DemoArgs, _global: &Global) -> Result<u8> {
    let detail = format!("this build has no simulated workspace to fill {} from", args.dir.display());
    Err(Fault::new(Class::Unsupported, "demo.absent", "run the demo", detail)
        .hint("build lakehold with its default features"))
}

#[cfg(feature = "demo")]
pub(super) async fn run(args: DemoArgs, _global: &Global) -> Result<u8> {
    simulated::run(&args.dir).await
}

/// The first line of the demo's configuration, by which a later demo knows the directory as its own.
#[cfg(feature = "demo")]
const MARK: &str = "# Written by `lakehold demo`: a simulated workspace that ended with it.";

#[cfg(feature = "demo")]
mod simulated {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::time::Duration;

    use clap::Parser as _;
    use lakehold_proto::address::When;
    use lakehold_proto::store::DirectoryStore;
    use lakehold_sim::{Mutation, Population, Sim, SimConfig};

    use super::super::{Cli, exit, run as carry_out};
    use super::{Class, Fault, MARK, Path, Result};
    use crate::output::say;
    use crate::snapshot::find::find_in;
    use crate::snapshot::items::each_index;
    use crate::snapshot::list;

    /// Items in the simulated workspace: enough to see the fan-out, few enough to be done in seconds at the real limits.
    const ITEMS: usize = 250;

    pub(super) async fn run(dir: &Path) -> Result<u8> {
        let config = dir.join("lakehold.yaml");
        claim(dir, &config)?;
        let simulated = SimConfig {
            population: Population::Items(ITEMS),
            latency: Duration::from_millis(5),
            ..SimConfig::default()
        };
        let spare = SimConfig { population: Population::Empty, seed: 2, ..simulated.clone() };
        let start =
            async |config| Sim::start(config).await.map_err(|e| fault("start a simulated workspace", &e));
        let (sim, spare) = (start(simulated).await?, start(spare).await?);
        write_secret(&dir.join("token"), sim.token())?;
        write(&config, &configuration([&sim.url(0), &spare.url(0)], None, dir))?;
        say(&format!("A simulated Databricks workspace with about {ITEMS} items listens at {}.", sim.url(0)));
        let at = |typed: &str| step(&config, typed.to_owned());
        worst([at("backup --env sandbox --tag before").await?])?;
        say("\nSomebody works in it: 4 notebooks edited, 2 deleted, 3 jobs created.");
        for (kind, create, edit, delete) in [("notebook", 0, 4, 2), ("job", 3, 0, 0)] {
            let mutation = Mutation { kind: kind.into(), create, edit, delete, seed: 7 };
            sim.mutate(0, &mutation).map_err(|e| fault("change the simulated workspace", &e))?;
        }
        worst([
            at("backup --env sandbox --tag after").await?,
            at("snapshots").await?,
            at(&format!("diff {} sandbox", before(dir).await?)).await?,
            at("ls sandbox --kind job").await?,
        ])?;
        say("\nThe workspace is lost. There is an empty one, of another account:");
        worst([at("backup --env spare").await?])?;
        let warehouse = warehouse(dir).await?;
        write(&config, &configuration([&sim.url(0), &spare.url(0)], Some(&warehouse), dir))?;
        worst([
            at("restore sandbox --to spare --apply --yes").await?,
            at("diff sandbox live:spare").await?,
            at("activate spare --apply --yes").await?,
            at("verify --all").await?,
        ])?;
        let config = config.display();
        say(&format!(
            "\nThe workspaces end with this process; the snapshots stay. Look at them:\n  \
             lakehold -c {config} snapshots\n  lakehold -c {config} ls sandbox --kind notebook\n  \
             lakehold -c {config} show sandbox:job/NAME"
        ));
        Ok(exit::COMPLETE)
    }

    /// The address of the last snapshot but one.
    async fn before(dir: &Path) -> Result<String> {
        let store = DirectoryStore::new(dir.join("lakehold-store"));
        let snapshots = list(&store, &"sandbox".parse()?).await?;
        let before = snapshots.iter().rev().nth(1);
        let before = before.ok_or_else(|| fault("find the first snapshot", &"it is not in the store"))?;
        Ok(format!("sandbox@{}", before.snapshot.short()))
    }

    /// Carries out one command as if it were typed.
    async fn step(config: &Path, typed: String) -> Result<u8> {
        say(&format!("\n$ lakehold -c {} {typed}", config.display()));
        let words = ["lakehold", "-c"].into_iter().map(std::ffi::OsString::from);
        let words = words.chain([config.as_os_str().to_owned()]).chain(typed.split(' ').map(Into::into));
        let cli = Cli::try_parse_from(words).map_err(|e| fault("read a command of the demo", &e))?;
        Box::pin(carry_out(cli)).await
    }

    /// A step that did not end well ends the demo: it must not look as if it worked.
    fn worst<const N: usize>(codes: [u8; N]) -> Result<()> {
        match codes.into_iter().find(|code| *code != exit::COMPLETE) {
            None => Ok(()),
            Some(code) => Err(fault("run the demo", &format!("a step ended with exit code {code}"))),
        }
    }

    /// Takes an empty or absent directory, or one that an earlier demo left.
    fn claim(dir: &Path, config: &Path) -> Result<()> {
        let cannot = |e: std::io::Error| {
            Fault::new(Class::Config, "demo.directory", format!("use {}", dir.display()), e)
                .hint("name a directory that you may write to with --dir")
        };
        std::fs::create_dir_all(dir).map_err(cannot)?;
        let ours = std::fs::read_to_string(config).is_ok_and(|text| text.starts_with(MARK));
        if ours || std::fs::read_dir(dir).map_err(cannot)?.next().is_none() {
            return Ok(());
        }
        Err(Fault::new(
            Class::Config,
            "demo.directory",
            format!("use {}", dir.display()),
            "it is not empty, and no demo's",
        )
        .hint("name another directory with --dir"))
    }

    /// The warehouse of the empty workspace that can run SQL.
    async fn warehouse(dir: &Path) -> Result<String> {
        let store = DirectoryStore::new(dir.join("lakehold-store"));
        let found = find_in(&store, &"spare".parse()?, &When::Latest).await?;
        let mut warehouse = String::new();
        each_index(&store, &found.manifest, &|named| named.kind.as_str() == "sql_warehouse", |_, index| {
            warehouse = index.entries.first().map(|entry| entry.key.clone()).unwrap_or_default();
            Ok(warehouse.is_empty())
        })
        .await?;
        Ok(warehouse)
    }

    fn configuration(urls: [&str; 2], warehouse: Option<&str>, dir: &Path) -> String {
        let token = dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).join("token");
        let [sandbox, spare] = urls;
        let host = |url: &str| format!("      host: {url}\n      token: \"file:{}\"\n", token.display());
        let warehouse = warehouse.map_or_else(String::new, |id| format!("      restore_warehouse: {id}\n"));
        format!(
            "{MARK}\nversion: 1\nstore: lakehold-store\nenvironments:\n  sandbox:\n    databricks:\n{}    rpo: 24h\n  \
             spare:\n    databricks:\n{}{warehouse}",
            host(sandbox),
            host(spare)
        )
    }

    fn write(path: &Path, text: &str) -> Result<()> {
        std::fs::write(path, text).map_err(|e| fault(&format!("write {}", path.display()), &e))
    }

    fn write_secret(path: &Path, secret: &str) -> Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(path).and_then(|mut file| file.write_all(secret.as_bytes()));
        written.map_err(|e| fault(&format!("write {}", path.display()), &e))
    }

    fn fault(context: &str, detail: &dyn std::fmt::Display) -> Fault {
        Fault::new(Class::Unavailable, "demo.failed", context, detail)
    }
}
