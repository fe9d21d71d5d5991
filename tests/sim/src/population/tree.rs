//! The workspace tree: most of a large population, in a shape like that of real ones: homes, shared
//! folders by team, a few levels of folders, more notebooks than files.

use crate::api::workspace;
use crate::content::Body;
use crate::identity::OPERATOR;
use crate::rng::Rng;
use crate::state::Workspace;
use crate::tree::{Language, NewNode, NodeKind, Tree};

use super::compute::share;
use super::names;
use super::{Kind, Maker};

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "directory",
        share: 900,
        least: 4,
        hostile: 0,
        create: directory,
        edit: |_, _, _| false,
        delete,
        ids: |ws| ids(ws, NodeKind::Directory),
    },
    Kind {
        name: "notebook",
        share: 4400,
        least: 12,
        hostile: 0,
        create: notebook,
        edit,
        delete,
        ids: |ws| ids(ws, NodeKind::Notebook),
    },
    Kind {
        name: "workspace_file",
        share: 1900,
        least: 6,
        hostile: 0,
        create: file,
        edit,
        delete,
        ids: |ws| ids(ws, NodeKind::File),
    },
    // Directories in one directory, and as many in one of those: nobody's workspace should look so, and some do.
    Kind {
        name: "crowded_directory",
        share: 0,
        least: 0,
        hostile: 0,
        create: crowded,
        edit: |_, _, _| false,
        delete,
        ids: |ws| crowd(ws),
    },
    // Entries that no export gives back; a default population has none, since it leaves no gaps.
    Kind {
        name: "library",
        share: 0,
        least: 0,
        hostile: 0,
        create: |m, n| odd(m, n, NodeKind::Library),
        edit: |_, _, _| false,
        delete,
        ids: |ws| ids(ws, NodeKind::Library),
    },
    Kind {
        name: "experiment",
        share: 0,
        least: 0,
        hostile: 0,
        create: |m, n| odd(m, n, NodeKind::Experiment),
        edit: |_, _, _| false,
        delete,
        ids: |ws| ids(ws, NodeKind::Experiment),
    },
];

/// The deepest level that generated folders reach.
const DEEPEST: usize = 9;

/// The roots of every workspace, and the operator's home.
pub(super) fn base(m: &Maker<'_>) {
    let mut tree = m.ws.tree();
    for path in ["/Users", "/Shared", "/Repos", &format!("/Users/{OPERATOR}")] {
        let _ = tree.mkdirs(path, m.now_ms, || m.ws.fresh_number());
    }
}

/// What `--hostile` adds: see the names, and bodies beyond every cap.
pub(super) fn hostile(m: &Maker<'_>) {
    let mut tree = m.ws.tree();
    let fresh = || m.ws.fresh_number();
    let Ok(top) = tree.mkdirs("/Shared/hostile", m.now_ms, fresh) else { return };
    let add = |tree: &mut Tree, parent: u64, name: &str, kind, language, body| {
        let id = fresh();
        let _ = tree.add_under(
            parent,
            name,
            NewNode { id, kind, language, now_ms: m.now_ms, body, resource: None },
        );
        id
    };
    for n in 0..12 {
        let name = names::hostile_segment(n);
        let dir = add(&mut tree, top, &format!("{name}.d"), NodeKind::Directory, None, Body::None);
        // Notebook and file may differ only by extension (section 3.3).
        add(
            &mut tree,
            dir,
            &name,
            NodeKind::Notebook,
            Some(Language::Python),
            Body::Seeded { seed: n, size: 600 },
        );
        add(&mut tree, dir, &format!("{name}.py"), NodeKind::File, None, Body::Seeded { seed: n, size: 600 });
    }
    let mut deep = top;
    for level in 0..100 {
        deep = add(&mut tree, deep, &format!("level-{level}"), NodeKind::Directory, None, Body::None);
    }
    add(
        &mut tree,
        deep,
        "at the bottom",
        NodeKind::Notebook,
        Some(Language::Sql),
        Body::Seeded { seed: 1, size: 300 },
    );
    add(
        &mut tree,
        top,
        "outputs-of-11-MB",
        NodeKind::Notebook,
        Some(Language::Python),
        Body::HeavyOutputs { seed: 2 },
    );
    add(
        &mut tree,
        top,
        "source-of-11-MB",
        NodeKind::Notebook,
        Some(Language::Scala),
        Body::Seeded { seed: 3, size: 11 << 20 },
    );
    add(&mut tree, top, "100-MB.bin", NodeKind::File, None, Body::Large { seed: 4, size: 100 << 20 });
    add(&mut tree, top, "empty.txt", NodeKind::File, None, Body::Seeded { seed: 5, size: 0 });
    let marked = b"# Databricks notebook source\nprint('a file that looks like a notebook')\n";
    add(&mut tree, top, "marked.py", NodeKind::File, None, Body::Written(bytes::Bytes::from_static(marked)));
    let nested = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    add(&mut tree, top, "deep.json", NodeKind::File, None, Body::Written(nested.into()));
    add(
        &mut tree,
        top,
        "invalid-utf8.bin",
        NodeKind::File,
        None,
        Body::Written(bytes::Bytes::from_static(&[0xff, 0xfe, 0, 0x80, b'\n'])),
    );
    add(&mut tree, top, "old.jar", NodeKind::Library, None, Body::None);
    add(&mut tree, top, "experiment", NodeKind::Experiment, None, Body::None);
}

/// The home of a user; made when the user is.
pub(crate) fn home(ws: &Workspace, user: &str, now_ms: i64) {
    let _ = ws.tree().mkdirs(&format!("/Users/{user}"), now_ms, || ws.fresh_number());
}

/// A folder to put something into.
fn parent(tree: &Tree, rng: &mut Rng) -> u64 {
    for _ in 0..8 {
        let Some(node) = tree.draw(NodeKind::Directory, rng.next()) else { break };
        let path = tree.path(node);
        if !matches!(path.as_str(), "/Users" | "/Repos")
            && !path.starts_with("/Shared/hostile")
            && path.matches('/').count() < DEEPEST
        {
            return node.id;
        }
    }
    tree.at("/Shared").map_or(0, |n| n.id)
}

fn put(m: &Maker<'_>, label: &str, n: u64, make: impl FnOnce(&mut Rng) -> (String, NewNode)) -> String {
    let mut rng = m.rng(label, n);
    let mut tree = m.ws.tree();
    let parent = parent(&tree, &mut rng);
    let (name, mut new) = make(&mut rng);
    new.id = m.ws.fresh_number();
    // The number makes the name unique; a clash could only come from a client's own entry.
    let id = tree
        .add_under(parent, &name, new.clone())
        .or_else(|_| tree.add_under(parent, &format!("{name}-{}", new.id), new));
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn directory(m: &Maker<'_>, n: u64) -> String {
    let id = put(m, "directory", n, |rng| {
        (format!("{}-{n}", rng.pick(names::TEAMS)), NewNode::directory(0, m.now_ms))
    });
    // Some folders are opened to a group; what is below inherits it.
    let mut rng = m.rng("directory acl", n);
    if rng.chance(15) {
        share(m, "directories", &id, "CAN_READ", &mut rng);
    }
    id
}

fn notebook(m: &Maker<'_>, n: u64) -> String {
    let id = put(m, "notebook", n, |rng| {
        let language = match rng.below(100) {
            0..70 => Language::Python,
            70..90 => Language::Sql,
            90..97 => Language::Scala,
            _ => Language::R,
        };
        let name = format!("{}_{}_{n}", rng.pick(names::VERBS), rng.pick(names::THINGS));
        // Median 5 to 10 KB (section 6), a few much larger.
        let size = 300 + rng.below(12_000) + if rng.chance(3) { rng.below(150_000) } else { 0 };
        let body = Body::Seeded { seed: rng.next(), size: u32::try_from(size).unwrap_or(1000) };
        (
            name,
            NewNode {
                id: 0,
                kind: NodeKind::Notebook,
                language: Some(language),
                now_ms: stamp(m, rng),
                body,
                resource: None,
            },
        )
    });
    // Few notebooks have rights of their own.
    let mut rng = m.rng("notebook acl", n);
    if rng.chance(3) {
        share(m, "notebooks", &id, "CAN_RUN", &mut rng);
    }
    id
}

/// Where crowded directories lie: by turns here and in the one below.
const CROWD: [&str; 2] = ["/Shared/crowd", "/Shared/crowd/inner"];

/// One in five holds a file.
fn crowded(m: &Maker<'_>, n: u64) -> String {
    let mut tree = m.ws.tree();
    let fresh = || m.ws.fresh_number();
    let path = format!("{}/directory-{n}", CROWD[usize::from(n % 2 == 1)]);
    let Ok(id) = tree.mkdirs(&path, m.now_ms, fresh) else { return String::new() };
    if n % 10 < 2 {
        let (id, body) = (fresh(), Body::Seeded { seed: n, size: 200 });
        let kind = NodeKind::File;
        let new = NewNode { id, kind, language: None, now_ms: m.now_ms, body, resource: None };
        let _ = tree.add(&format!("{path}/data.csv"), new);
    }
    id.to_string()
}

fn crowd(ws: &Workspace) -> Vec<String> {
    let tree = ws.tree();
    let ids = tree.ids(NodeKind::Directory).into_iter();
    let crowded = |id: &u64| tree.by_id(*id).is_some_and(|node| tree.path(node).contains("/directory-"));
    ids.filter(crowded).map(|id| id.to_string()).collect()
}

fn file(m: &Maker<'_>, n: u64) -> String {
    put(m, "workspace_file", n, |rng| {
        let extension = rng.pick(&["py", "csv", "json", "yml", "md", "txt", "sql", "whl"]);
        let name = format!("{}_{n}.{extension}", rng.pick(names::THINGS));
        let size = rng.below(8_000) + if rng.chance(2) { rng.below(200_000) } else { 0 };
        let body = Body::Seeded { seed: rng.next(), size: u32::try_from(size).unwrap_or(1000) };
        (
            name,
            NewNode {
                id: 0,
                kind: NodeKind::File,
                language: None,
                now_ms: stamp(m, rng),
                body,
                resource: None,
            },
        )
    })
}

fn odd(m: &Maker<'_>, n: u64, kind: NodeKind) -> String {
    put(m, kind.api(), n, |rng| {
        let name = format!("{}-{n}", rng.pick(names::THINGS));
        (name, NewNode { id: 0, kind, language: None, now_ms: m.now_ms, body: Body::None, resource: None })
    })
}

/// Some time in the year before.
fn stamp(m: &Maker<'_>, rng: &mut Rng) -> i64 {
    let back = i64::try_from(rng.below(365 * 86_400_000)).unwrap_or(0);
    if m.now_ms == super::EPOCH_MS { m.now_ms - back } else { m.now_ms }
}

fn edit(m: &Maker<'_>, id: &str, rng: &mut Rng) -> bool {
    let mut tree = m.ws.tree();
    let Some(node) = id.parse().ok().and_then(|id| tree.by_id_mut(id)) else { return false };
    let size = u32::try_from(500 + rng.below(5_000)).unwrap_or(500);
    node.body = Body::Seeded { seed: rng.next(), size };
    node.modified_ms = m.now_ms.max(node.modified_ms + 1);
    true
}

fn delete(m: &Maker<'_>, id: &str) -> bool {
    let gone = id.parse().map(|id| m.ws.tree().remove_id(id)).unwrap_or_default();
    workspace::forget(m.ws, &gone);
    !gone.is_empty()
}

/// Homes and roots stay where they are.
fn ids(ws: &Workspace, kind: NodeKind) -> Vec<String> {
    let tree = ws.tree();
    let protected = |id: &u64| {
        tree.by_id(*id).is_none_or(|n| {
            let path = tree.path(n);
            kind == NodeKind::Directory
                && (path.matches('/').count() < 2
                    || path.starts_with("/Users/") && path.matches('/').count() < 3)
        })
    };
    tree.ids(kind).into_iter().filter(|id| !protected(id)).map(|id| id.to_string()).collect()
}
