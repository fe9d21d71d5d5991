//! The walk of the workspace tree: one task walks one slice of it.
//!
//! A directory opens a slice of its own when the hash of its path says so, about one in 32; else it belongs to its parent's.
//! So slices depend on paths alone, and adding a directory moves nothing. The entry of a directory belongs to the slice in
//! which it was found; what lies in it, to the slice it opens or belongs to. Where a slice holds more directories than one
//! task can list, [`cut`] divides it.
//!
//! **Memory**: most directories lie in the slice of the root, so a walk keeps of each that it met only a hash. Everything it
//! finds is gathered, directories too, and a slice that grows too long is captured in buckets by tasks of their own. Only git
//! folders are captured on the way: what they are decides whether the walk goes on below them.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, TryStreamExt as _};
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::format::Role;
use lakehold_proto::ids::{Hash, Kind};
use lakehold_proto::outcome::Standing;
use lakehold_proto::task::{Bucket, Shard, TaskSpec};
use serde_json::Value;

use super::super::families::WORKSPACE_LIST;
use super::super::kinds::{Content, Row, TREE, path, row};
use super::super::paging::Paging;
use super::super::request::Request;
use super::cut::{self, Generation};
use super::gather::Gather;
use super::item::{Item, canonical_path, one_line};
use super::make::Made;
use super::pump::Pump;
use super::refusal::standing;
use super::{Work, shallow};
use crate::capture::{Capture, Draft};

/// What a walk gathers.
const GATHERED: [&str; 3] = [TREE, "notebook", "workspace_file"];
/// Directories down to this depth (people's homes, shared folders) each open a slice: trees are shallow, so by hash alone
/// nearly all of a workspace would lie in the slice of its root, and one task would have to walk it.
const HOMES: usize = 2;
/// Below that one directory in so many does.
const SLICES: u32 = 32;

/// What an entry of the tree is to us.
enum Entry {
    /// A directory.
    Directory,
    /// A git folder.
    Repo,
    /// Something with a content, and its row.
    Leaf(&'static Row),
    /// Something that the API shows and cannot export: its entry is all there is.
    Bare(&'static str),
    /// Not an item of ours, for this reason.
    Excluded(&'static str),
}

fn entry(value: &Value) -> Entry {
    let leaf = |kind, bare| row(kind).map_or(Entry::Bare(bare), Entry::Leaf);
    match path::text(value, "object_type").as_deref() {
        Some("DIRECTORY") => Entry::Directory,
        Some("REPO") => Entry::Repo,
        Some("NOTEBOOK") => leaf("notebook", ""),
        Some("FILE") => leaf("workspace_file", ""),
        Some("LIBRARY") => Entry::Bare("only its entry: the API cannot export legacy libraries"),
        Some("DASHBOARD") => {
            Entry::Excluded("the tree's view of a dashboard, which is captured as the kind dashboard")
        }
        Some("MLFLOW_EXPERIMENT") => Entry::Excluded("experiments are not among the kinds of this version"),
        _ => Entry::Bare("only its entry: nothing is known of objects of its type"),
    }
}

/// Whether the directory at `path` opens a slice.
fn opens_a_slice(path: &str) -> bool {
    path.matches('/').count() <= HOMES || Bucket::of_key(path, SLICES).index == 0
}

/// What ends while a slice is walked.
enum Ended {
    Listed(String, Result<Vec<Bytes>>),
    /// A git folder, and where it lies.
    Repo(Made, String),
}

/// Walks the slice of the task.
///
/// # Errors
/// The store's; what the listing of the slice's own directory says, when that says nothing about the slice.
pub(super) async fn walk(work: &Arc<Work>, capture: &mut Capture) -> Result<()> {
    let scope = &capture.assignment().task.shard.scope;
    let root = if scope.is_empty() { "/".to_owned() } else { scope.clone() };
    let base = capture.base_buckets();
    let mut walk = Walk::new(work, Gather::new(capture, base), &root);
    if root == "/" && work.wants(TREE) && work.paths.take("/") {
        walk.root_itself(capture).await?;
    }
    walk.carry_out(capture, vec![root], TREE).await
}

/// Does what another task wrote down: captures one bucket of a slice's directories, notebooks and files, or walks a part
/// that was cut off.
///
/// # Errors
/// The store's.
pub(super) async fn bucket(work: &Arc<Work>, capture: &mut Capture) -> Result<()> {
    let mut pump = Pump::new();
    let mut directories = Vec::new();
    for frame in 0.. {
        let Some(lines) = capture.input(frame).await? else { break };
        for line in lines {
            match cut::to_walk(&line) {
                Some(at) => directories.push(at),
                None => capture_line(work, capture, &mut pump, line).await?,
            }
        }
    }
    pump.finish(capture).await?;
    if directories.is_empty() {
        return Ok(());
    }
    // How finely the base snapshot was cut says nothing here: parts that were cut again count as well.
    let walk = Walk::new(work, Gather::new(capture, 1), "");
    walk.carry_out(capture, directories, cut::CUT).await
}

struct Walk {
    work: Arc<Work>,
    /// The directory that opens the slice; empty in a part that was cut off.
    root: String,
    /// To be listed after those that are being listed.
    next: Generation,
    /// The hash of the path of every directory listed or to be: none is listed twice, whatever the server shows.
    listed: HashSet<Hash>,
    /// Git folders to be captured.
    repos: Vec<Bytes>,
    found: Gather,
}

impl Walk {
    fn new(work: &Arc<Work>, found: Gather, root: &str) -> Self {
        Self {
            work: Arc::clone(work),
            root: root.to_owned(),
            next: Generation::default(),
            listed: HashSet::new(),
            repos: Vec::new(),
            found,
        }
    }

    /// Lists `directories` and what lies in them, generation by generation, and captures what it found. What is too much is
    /// left to tasks of the kind `by`.
    async fn carry_out(
        mut self,
        capture: &mut Capture,
        directories: Vec<String>,
        by: &'static str,
    ) -> Result<()> {
        capture.load_base(&Kind::of("repo")).await?;
        let (shard, yields) = (capture.assignment().task.shard.clone(), self.work.subtree_of_tree());
        self.listed.extend(directories.iter().map(Hash::of));
        let (mut listed, mut generation) = (0, directories);
        while !generation.is_empty() {
            listed += generation.len() as u64;
            self.next = Generation::after(listed);
            self.list_all(capture, generation).await?;
            generation = std::mem::take(&mut self.next).end(capture, &yields).await?;
        }
        let yields: Vec<_> =
            GATHERED.into_iter().filter(|kind| self.work.wants(kind)).map(Kind::of).collect();
        let mut pump = Pump::new();
        for line in self.found.finish(capture, &Kind::of(by), &shard, &yields).await? {
            capture_line(&self.work, capture, &mut pump, line).await?;
        }
        pump.finish(capture).await
    }

    async fn list_all(&mut self, capture: &mut Capture, mut directories: Vec<String>) -> Result<()> {
        let mut pump = Pump::new();
        loop {
            while pump.has_room() {
                if let Some(directory) = directories.pop() {
                    pump.begin(list(Arc::clone(&self.work), directory).boxed());
                } else if let Some(line) = self.repos.pop() {
                    self.begin_repo(capture, &mut pump, line);
                } else {
                    break;
                }
            }
            match pump.next().await {
                None => return Ok(()),
                Some(Ended::Repo(made, at)) => {
                    // Without a remote its files have no other copy; where nobody can tell, they may have none.
                    let remote = made.object.as_ref().and_then(|repo| path::text(repo, "url"));
                    if !made.gone && remote.is_none_or(|url| url.is_empty()) {
                        self.descend(capture, at).await?;
                    }
                    hand_in(capture, made).await?;
                }
                Some(Ended::Listed(directory, Ok(entries))) => {
                    self.sort(capture, &directory, entries).await?;
                }
                Some(Ended::Listed(directory, Err(fault))) => self.not_listed(capture, &directory, fault)?,
            }
        }
    }

    /// Puts what a directory holds where it belongs.
    async fn sort(&mut self, capture: &mut Capture, directory: &str, entries: Vec<Bytes>) -> Result<()> {
        let below = if directory == "/" { "/".to_owned() } else { format!("{directory}/") };
        for line in entries {
            let value = shallow::read(&line);
            let at = path::text(&value, "path").unwrap_or_default();
            let at = canonical_path(&at);
            let taken = self.work.paths.take(at);
            match entry(&value) {
                Entry::Directory => {
                    // Where a server shows a directory that does not lie in the one it lists, following it might never end.
                    if at.len() > below.len() && at.starts_with(&below) {
                        if self.work.paths.may_hold(at) {
                            self.descend(capture, at.to_owned()).await?;
                        }
                    } else if at != directory {
                        self.stray(capture, directory, at);
                    }
                    if taken && at != directory {
                        self.directory(capture, line).await?;
                    }
                }
                Entry::Repo if self.work.paths.may_hold(at) => self.repos.push(line),
                Entry::Leaf(row) if taken && self.work.wants(row.name) => {
                    self.found.take(capture, Item::read(row, line.clone()).key, line).await?;
                }
                Entry::Bare(_) if taken && self.work.wants("workspace_file") => {
                    let key = path::text(&value, "object_id").unwrap_or_default();
                    self.found.take(capture, key, line).await?;
                }
                Entry::Excluded(rule) if taken => capture.leave_out(&Kind::of("workspace_file"), rule),
                Entry::Repo | Entry::Leaf(_) | Entry::Bare(_) | Entry::Excluded(_) => {}
            }
        }
        Ok(())
    }

    async fn directory(&mut self, capture: &Capture, line: Bytes) -> Result<()> {
        match row(TREE) {
            Some(row) if self.work.wants(TREE) => {
                self.found.take(capture, Item::read(row, line.clone()).key, line).await
            }
            _ => Ok(()),
        }
    }

    /// Sees to it that the directory at `at` is listed: by this task, or by one of its own.
    async fn descend(&mut self, capture: &mut Capture, at: String) -> Result<()> {
        if !self.listed.insert(Hash::of(&at)) {
            return Ok(());
        }
        if !opens_a_slice(&at) {
            return self.next.take(capture, at).await;
        }
        let yields = self.work.subtree_of_tree();
        capture.child(TaskSpec {
            kind: Kind::of(TREE),
            shard: Shard::under(at),
            stage: capture.assignment().task.stage,
            yields: yields.into(),
            long: false,
            input: Vec::new(),
        });
        Ok(())
    }

    fn begin_repo(&self, capture: &Capture, pump: &mut Pump<Ended>, line: Bytes) {
        let Some(row) = row("repo") else { return };
        let item = Item::read(row, line);
        let kind = row.kind();
        if capture.has(&kind, &item.key) {
            return;
        }
        let reuse = self.work.reuse(row, &item, capture.known(&kind, &item.key));
        let (at, taken) = (item.name.clone(), self.work.paths.take(&item.name));
        let making = Arc::clone(&self.work).make(row, item, reuse);
        let ended = making.map(move |mut made| {
            if !taken {
                made.drafts.clear();
            }
            Ended::Repo(made, at)
        });
        pump.begin(ended.boxed());
    }

    /// A directory that cannot be listed leaves a hole of exactly its own size.
    fn not_listed(&self, capture: &mut Capture, directory: &str, fault: Fault) -> Result<()> {
        if fault.class == Class::Absent && directory != "/" {
            tracing::debug!(path = directory, "the directory is gone: deleted meanwhile");
            return Ok(());
        }
        let standing = standing(&fault);
        if directory == self.root && fault.class.may_retry() {
            return Err(fault.while_doing("list a directory of the workspace"));
        }
        let permission = (standing == Standing::Forbidden).then(|| "CAN_READ on the directory".to_owned());
        // The whole tree goes by the empty scope, as every other kind does.
        let shard = if directory == "/" { Shard::whole() } else { Shard::under(directory) };
        capture.unlisted(self.work.subtree_of_tree(), shard, standing, &fault, permission);
        Ok(())
    }

    fn stray(&self, capture: &mut Capture, directory: &str, at: &str) {
        let detail =
            format!("the listing of {directory:?} shows a directory at {at:?}, which does not lie in it");
        let fault = Fault::new(Class::Unavailable, "tree.stray", "walk the workspace tree", detail);
        let failed = standing(&fault);
        capture.unlisted(self.work.subtree_of_tree(), Shard::under(at), failed, &fault, None);
    }

    /// The root is an item like any other directory, and no listing shows it.
    async fn root_itself(&mut self, capture: &mut Capture) -> Result<()> {
        let request = Request::get(&WORKSPACE_LIST, "/api/2.0/workspace/get-status").query("path", "/");
        match self.work.client.json(&request, &self.work.meter).await {
            Ok(raw) => {
                let line = one_line(&String::from_utf8_lossy(&raw));
                match entry(&shallow::read(&line)) {
                    Entry::Directory => self.directory(capture, line).await,
                    _ => Ok(()),
                }
            }
            // A server without the call, or with another answer, has a root without permissions to tell.
            Err(fault) if matches!(fault.class, Class::Absent | Class::Unsupported) => Ok(()),
            Err(fault) => capture.add(&Kind::of(TREE), Draft::new("0", "/").gap(Role::Object, fault)).await,
        }
    }
}

impl Work {
    fn subtree_of_tree(&self) -> Vec<Kind> {
        row(TREE).map_or_else(Vec::new, |row| self.subtree(row).iter().map(|row| row.kind()).collect())
    }
}

async fn list(work: Arc<Work>, directory: String) -> Ended {
    let request = Request::get(&WORKSPACE_LIST, "/api/2.0/workspace/list").query("path", directory.clone());
    let mut pages = work.client.pages(request, &Paging::None, "objects", &work.meter);
    let listed = pages.try_next().await;
    let entries = listed.map(|page| page.into_iter().flatten().map(|raw| one_line(raw.get())).collect());
    Ended::Listed(directory, entries)
}

async fn hand_in(capture: &mut Capture, made: Made) -> Result<()> {
    for (kind, draft) in made.drafts {
        capture.add(&kind, draft).await?;
    }
    Ok(())
}

/// Begins to capture a directory, a notebook, a file, or something that is only an entry.
async fn capture_line(
    work: &Arc<Work>,
    capture: &mut Capture,
    pump: &mut Pump<Made>,
    line: Bytes,
) -> Result<()> {
    let value = shallow::read(&line);
    let (row, bare) = match entry(&value) {
        Entry::Directory => (row(TREE), None),
        Entry::Leaf(row) => (Some(row), None),
        Entry::Bare(why) => (row("workspace_file"), Some(why)),
        Entry::Repo | Entry::Excluded(_) => return Ok(()),
    };
    let Some(row) = row else { return Ok(()) };
    let mut item = Item::read(row, line);
    if matches!(row.content, Content::Notebook) {
        // Asked for in another form, it must be exported again.
        item.version = item.version.map(|stamp| format!("{stamp}/{}", super::notebooks_word(work.notebooks)));
    }
    let kind = row.kind();
    if capture.has(&kind, &item.key) {
        return Ok(());
    }
    capture.load_base(&kind).await?;
    if let Some(why) = bare {
        let draft = Draft::new(item.key, item.name)
            .part(Role::Object, super::compare::document(row, item.raw))
            .degraded(why);
        return capture.add(&kind, draft).await;
    }
    let reuse = work.reuse(row, &item, capture.known(&kind, &item.key));
    pump.add(capture, Arc::clone(work).make(row, item, reuse).boxed()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn homes_and_about_one_directory_in_32_below_open_slices() {
        assert!(opens_a_slice("/Shared") && opens_a_slice("/Users/somebody@example.com"));
        let opened = (0..3200).filter(|n| opens_a_slice(&format!("/Users/somebody/project-{n}"))).count();
        assert!((60..140).contains(&opened), "{opened}");
    }

    #[test]
    fn nothing_the_server_shows_is_passed_over() {
        let of = |kind: &str| entry(&json!({"object_type": kind}));
        assert!(matches!(of("NOTEBOOK"), Entry::Leaf(row) if row.name == "notebook"));
        assert!(matches!(of("FILE"), Entry::Leaf(row) if row.name == "workspace_file"));
        assert!(matches!(of("LIBRARY"), Entry::Bare(_)));
        assert!(matches!(of("SOMETHING_NEW"), Entry::Bare(_)));
        assert!(matches!(of("DASHBOARD"), Entry::Excluded(_)));
        assert!(matches!(entry(&json!({})), Entry::Bare(_)));
    }
}
