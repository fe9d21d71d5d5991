//! Whole commands against a store, and their exit codes.

use clap::{CommandFactory as _, Parser as _};
use lakehold_proto::manifest::Manifest;
use lakehold_proto::store::Key;

use super::{Cli, run};
use crate::snapshot::fixture::{Made, Seed, Site};
use lakehold_proto::store::identity;

/// A store with two snapshots of `prod`: a job changed, a notebook lost its content.
pub(super) struct Written {
    pub(super) manifest: Manifest,
    site: Site,
}

pub(super) async fn written() -> Written {
    let site = Site::new();
    identity::create(&*site.store, jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    let job = |timeout| Seed::new("job", "1", "nightly/etl: #1", &format!("{{\"timeout\":{timeout}}}"));
    let notebook = || Seed::new("notebook", "/n", "/n", "{}");
    let first = site.snapshot(2, vec![job(1), notebook().content(&[b"print(1)\n"])], Made::default()).await;
    let made = Made { base: Some(&first), ..Made::default() };
    let manifest = site.snapshot(4, vec![job(2), notebook().gap()], made).await.manifest;
    Written { manifest, site }
}

impl Written {
    /// The exit code of a command; `|` separates its words.
    async fn code(&self, typed: &str) -> u8 {
        let store = self.site.dir.path().display().to_string();
        let words = ["lakehold", "-q", "--store", &store].into_iter().chain(typed.split('|'));
        let cli = Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{typed}: {e}"));
        run(cli).await.unwrap_or_else(|fault| fault.exit_code())
    }
}

#[tokio::test]
async fn commands_end_with_the_exit_codes_of_the_design() {
    let site = written().await;
    for (typed, code) in [
        ("snapshots", 0),
        ("snapshots|-o|json", 0),
        ("snapshots|--env|nobody", 2),
        ("ls|prod", 0),
        ("ls|prod|--long|--kind|job", 0),
        ("ls|prod:job/nightly/etl: #1|-o|name", 0),
        ("ls|prod:job/none", 1),
        ("ls|prod:jobs", 2),
        ("show|prod:job/nightly/etl: #1", 0),
        ("show|prod:job/#1|-o|yaml", 0),
        ("show|prod:job/#1|--raw", 0),
        ("show|prod", 2),
        ("show|prod:notebook//n", 0),
        ("show|prod:notebook//n|--content", 1),
        ("show|prod@2026-08-01T03:00Z:notebook//n|--content", 0),
        ("diff|prod@2026-08-01T03:00Z|prod", 0),
        ("diff|prod@2026-08-01T03:00Z|prod|--exit-code", 8),
        ("diff|prod|prod|--exit-code", 0),
        ("diff|prod@2026-08-01T03:00Z|prod:notebook|--exit-code", 0),
        ("verify|prod", 0),
        ("verify|--all|--read-data|5%", 0),
        ("verify|prod@latest|-o|json", 0),
        ("status|--strict", 0),
        ("runs", 0),
        ("init", 0),
        ("completions|bash", 0),
    ] {
        assert_eq!(site.code(typed).await, code, "{typed}");
    }
    let nowhere = Cli::try_parse_from("lakehold --store /nowhere/at/all snapshots".split(' ')).unwrap();
    assert_eq!(run(nowhere).await.unwrap_err().exit_code(), 10);
    site.site.hurt("packs", 1);
    assert_eq!(site.code("verify|prod").await, 5);
    assert_eq!(site.code("show|prod:job/#1").await, 5);
    for file in site.site.files("snapshots") {
        std::fs::write(file, "{").unwrap();
    }
    assert_eq!(site.code("snapshots").await, 5);
    let path = site.site.dir.path().join(Key::identity().as_str());
    std::fs::write(path, r#"{"version": 99}"#).unwrap();
    assert_eq!(site.code("snapshots").await, 1, "a store of a newer version");
}

#[test]
fn the_command_line_is_sound_and_every_verb_has_examples() {
    Cli::command().debug_assert();
    // What is hidden is typed by nobody.
    for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let groups = verb.get_subcommands().count() > 0;
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(groups || help.contains("lakehold "), "{} has no example", verb.get_name());
    }
}
