//! A whole workspace through the whole engine: the simulated one, over HTTP.

use lakehold_proto::manifest::SnapshotState;
use lakehold_sim::{Population, SimConfig};
use lakehold_tests::workspace::Workspace;

#[tokio::test(flavor = "multi_thread")]
async fn a_default_population_leaves_no_gaps_and_the_second_backup_stores_nothing() {
    let workspace =
        Workspace::new(SimConfig { population: Population::Items(300), ..SimConfig::default() }).await;
    let first = workspace.site.backup().await;
    assert_eq!(first.state, SnapshotState::Complete);
    workspace.site.read_all(&first).await;
    let second = workspace.site.backup().await;
    assert_eq!(second.run.figures.packs, 0);
    assert_eq!(second.content_root, first.content_root);
}
