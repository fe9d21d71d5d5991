//! Disks of a server that are full.

use lakehold_tests::component::postgres::open;
use lakehold_tests::program::Ran;
use lakehold_tests::small::Small;

use super::restore::{does, program, unfinished};
use super::{awkward, digests};

/// Told where this process may mount nothing.
const UNTRIED: &str = "no file system can be mounted here: a full disk of a server is not tried";

fn told(ran: &Ran) -> String {
    format!("{}{}", ran.out, ran.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_for_which_there_is_no_room_takes_nobodys_place() {
    let server = awkward().await;
    let place = server.server.dir.path().join("tight");
    let Some(disk) = Small::at(place.clone(), 40 * 1024) else {
        eprintln!("{UNTRIED}");
        return;
    };
    open(&place);
    server.sql("postgres", &format!("create tablespace tight location '{}'", place.display()));
    server.sql(
        "shop",
        "create table noise tablespace tight as select i, gen_random_bytes(1000) from generate_series(1, 20000) i",
    );
    let program = program(&server, &server);
    let rows = digests(&server, "shop");
    does(&program, "backup --env shop").await;
    server.sql("shop", "update husband set age = 99");
    let changed = digests(&server, "shop");
    let typed = "restore shop --to shop --item database/shop --apply --yes";
    let ran = program.start(typed).end().await;
    assert!(!matches!(ran.code, Some(0)), "{ran:#?}");
    assert!(told(&ran).contains("No space left on device"), "{ran:#?}");
    assert_eq!(digests(&server, "shop"), changed);
    assert!(
        told(&ran).contains("hint: see why those failed; what was restored so far is the database"),
        "{ran:#?}"
    );
    // What was restored so far takes room until somebody looked at it.
    assert_eq!(unfinished(&server).len(), 1);
    does(&program, "restore undo shop --apply --yes").await;
    disk.grow(100 * 1024);
    does(&program, typed).await;
    assert_eq!(digests(&server, "shop"), rows);
    assert_eq!(unfinished(&server), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_server_whose_disk_is_full_is_none() {
    let server = awkward().await;
    // A snapshot that others are to see is a file.
    let place = server.server.dir.path().join("data/pg_snapshots");
    let Some(disk) = Small::at(place.clone(), 16) else {
        eprintln!("{UNTRIED}");
        return;
    };
    open(&place);
    // Its file system has no room for a byte more.
    let mut filled = 0;
    while std::fs::write(place.join(format!("fill-{filled}")), [0; 4096]).is_ok() {
        filled += 1;
    }
    let program = program(&server, &server);
    let ran = program.start("backup --env shop").end().await;
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.out.contains("gap"), "{ran:#?}");
    assert!(told(&ran).contains("No space left on device"), "{ran:#?}");
    disk.grow(1024);
    does(&program, "backup --env shop").await;
}
