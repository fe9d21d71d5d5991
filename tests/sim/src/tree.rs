//! The workspace tree: directories, notebooks, files and the entries of other services, kept dense.
//!
//! Three hundred thousand entries take well under 100 MB: names are shared between a node and the
//! index of its directory, and bodies are seeds until somebody writes one ([`crate::content`]).
//! Paths are canonical here: no `/Workspace` prefix, no trailing slash (reference section 3.3).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::content::Body;

/// `object_type` of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NodeKind {
    Directory,
    Notebook,
    File,
    Library,
    Dashboard,
    Repo,
    Experiment,
}

impl NodeKind {
    /// As the API spells it; `MLFLOW_EXPERIMENT` is missing from the SDK's enum (section 3.3).
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::Directory => "DIRECTORY",
            Self::Notebook => "NOTEBOOK",
            Self::File => "FILE",
            Self::Library => "LIBRARY",
            Self::Dashboard => "DASHBOARD",
            Self::Repo => "REPO",
            Self::Experiment => "MLFLOW_EXPERIMENT",
        }
    }

    /// Whether other entries can be inside.
    pub(crate) fn holds(self) -> bool {
        matches!(self, Self::Directory | Self::Repo)
    }
}

/// Language of a notebook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Sql,
    Scala,
    R,
}

impl Language {
    pub(crate) fn api(self) -> &'static str {
        match self {
            Self::Python => "PYTHON",
            Self::Sql => "SQL",
            Self::Scala => "SCALA",
            Self::R => "R",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Python, Self::Sql, Self::Scala, Self::R].into_iter().find(|l| l.api() == text)
    }

    /// Extension of a source file without the dot; also `file_type` of an export.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Python => "py",
            Self::Sql => "sql",
            Self::Scala => "scala",
            Self::R => "r",
        }
    }

    /// Start of a comment line.
    pub(crate) fn comment(self) -> &'static str {
        match self {
            Self::Python | Self::R => "#",
            Self::Sql => "--",
            Self::Scala => "//",
        }
    }
}

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) kind: NodeKind,
    pub(crate) language: Option<Language>,
    pub(crate) created_ms: i64,
    pub(crate) modified_ms: i64,
    pub(crate) body: Body,
    /// Id in the service that owns the entry (a dashboard, a repo).
    pub(crate) resource: Option<Box<str>>,
    name: Arc<str>,
    parent: u32,
}

/// What a new entry is made of.
#[derive(Debug, Clone)]
pub(crate) struct NewNode {
    pub(crate) id: u64,
    pub(crate) kind: NodeKind,
    pub(crate) language: Option<Language>,
    pub(crate) now_ms: i64,
    pub(crate) body: Body,
    pub(crate) resource: Option<String>,
}

impl NewNode {
    pub(crate) fn directory(id: u64, now_ms: i64) -> Self {
        Self { id, kind: NodeKind::Directory, language: None, now_ms, body: Body::None, resource: None }
    }
}

/// Why an entry could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TreeError {
    /// The directory it should be in does not exist.
    NoParent(String),
    /// Something of that name is there already.
    Exists,
}

/// All entries of a workspace.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Option<Node>>,
    children: BTreeMap<(u32, Arc<str>), u32>,
    by_id: HashMap<u64, u32>,
    /// Every place ever given to a kind; deleted ones are skipped when one is drawn.
    drawn: HashMap<NodeKind, Vec<u32>>,
}

impl Default for Tree {
    fn default() -> Self {
        // The root directory has the id 0 (section 3.0).
        let root = Node {
            id: 0,
            kind: NodeKind::Directory,
            language: None,
            created_ms: 0,
            modified_ms: 0,
            body: Body::None,
            resource: None,
            name: Arc::from(""),
            parent: 0,
        };
        Self {
            nodes: vec![Some(root)],
            children: BTreeMap::new(),
            by_id: HashMap::from([(0, 0)]),
            drawn: HashMap::new(),
        }
    }
}

/// A path without `/Workspace` prefix and trailing slashes; `None` if it is not absolute.
pub(crate) fn canonical(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let path = match path.strip_prefix("/Workspace") {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    };
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    Some(format!("/{}", parts.join("/")))
}

/// Parent and last segment of a canonical path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

impl Tree {
    /// The entry at a canonical path.
    pub(crate) fn at(&self, path: &str) -> Option<&Node> {
        self.index(path).and_then(|i| self.node(i))
    }

    pub(crate) fn at_mut(&mut self, path: &str) -> Option<&mut Node> {
        let i = self.index(path)?;
        self.nodes.get_mut(i as usize)?.as_mut()
    }

    pub(crate) fn by_id(&self, id: u64) -> Option<&Node> {
        self.by_id.get(&id).and_then(|i| self.node(*i))
    }

    pub(crate) fn by_id_mut(&mut self, id: u64) -> Option<&mut Node> {
        let i = *self.by_id.get(&id)?;
        self.nodes.get_mut(i as usize)?.as_mut()
    }

    /// Canonical path of an entry.
    pub(crate) fn path(&self, node: &Node) -> String {
        let mut parts: Vec<&str> = Vec::new();
        let mut at = node;
        while at.id != 0 {
            parts.push(&at.name);
            let Some(parent) = self.node(at.parent) else { break };
            at = parent;
        }
        parts.reverse();
        format!("/{}", parts.join("/"))
    }

    /// The directories above an entry, nearest first, down to the root.
    pub(crate) fn ancestors<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> + 'a {
        let up = |n: &Node| if n.id == 0 { None } else { self.node(n.parent) };
        std::iter::successors(up(node), move |n| up(n))
    }

    /// Entries directly inside, by name.
    pub(crate) fn children<'a>(&'a self, node: &Node) -> impl Iterator<Item = &'a Node> + 'a {
        let index = self.by_id.get(&node.id).copied().unwrap_or(u32::MAX);
        self.inside(index)
    }

    /// The entry and everything below it.
    pub(crate) fn below<'a>(&'a self, node: &'a Node) -> Vec<&'a Node> {
        let mut all = vec![node];
        let mut next = 0;
        while let Some(n) = all.get(next).copied() {
            if n.kind.holds() {
                all.extend(self.children(n));
            }
            next += 1;
        }
        all
    }

    /// Adds an entry whose parent exists.
    pub(crate) fn add(&mut self, path: &str, new: NewNode) -> Result<u64, TreeError> {
        let (parent, name) = split(path);
        let no_parent = || TreeError::NoParent(parent.to_owned());
        let parent_index = self.index(parent).ok_or_else(no_parent)?;
        if !self.node(parent_index).is_some_and(|p| p.kind.holds()) {
            return Err(no_parent());
        }
        self.insert(parent_index, name, new)
    }

    /// Adds an entry under a directory known by id: names may then hold anything, also slashes of other scripts.
    pub(crate) fn add_under(&mut self, parent: u64, name: &str, new: NewNode) -> Result<u64, TreeError> {
        let index = *self.by_id.get(&parent).ok_or_else(|| TreeError::NoParent(parent.to_string()))?;
        self.insert(index, name, new)
    }

    fn insert(&mut self, parent: u32, name: &str, new: NewNode) -> Result<u64, TreeError> {
        let name: Arc<str> = Arc::from(name);
        let key = (parent, Arc::clone(&name));
        if name.is_empty() || self.children.contains_key(&key) {
            return Err(TreeError::Exists);
        }
        let index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let NewNode { id, kind, language, now_ms, body, resource } = new;
        let resource = resource.map(String::into_boxed_str);
        let node = Node {
            id,
            kind,
            language,
            created_ms: now_ms,
            modified_ms: now_ms,
            body,
            resource,
            name,
            parent,
        };
        self.nodes.push(Some(node));
        self.children.insert(key, index);
        self.by_id.insert(id, index);
        self.drawn.entry(kind).or_default().push(index);
        Ok(id)
    }

    /// Makes a directory and those above it; idempotent. Fails if something else is in the way.
    pub(crate) fn mkdirs(
        &mut self,
        path: &str,
        now_ms: i64,
        mut fresh: impl FnMut() -> u64,
    ) -> Result<u64, TreeError> {
        let mut at = String::new();
        let mut id = 0;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            at.push('/');
            at.push_str(part);
            id = match self.at(&at) {
                Some(node) if node.kind.holds() => node.id,
                Some(_) => return Err(TreeError::Exists),
                None => self.add(&at, NewNode::directory(fresh(), now_ms))?,
            };
        }
        Ok(id)
    }

    /// Removes an entry and everything below it; returns what is gone.
    pub(crate) fn remove(&mut self, path: &str) -> Vec<Node> {
        let doomed: Vec<u64> =
            self.at(path).map_or_else(Vec::new, |n| self.below(n).iter().map(|n| n.id).collect());
        let mut gone = Vec::new();
        for id in doomed {
            let Some(index) = self.by_id.remove(&id) else { continue };
            let Some(node) = self.nodes.get_mut(index as usize).and_then(Option::take) else { continue };
            self.children.remove(&(node.parent, Arc::clone(&node.name)));
            gone.push(node);
        }
        gone
    }

    /// Removes an entry by id, whatever its name holds.
    pub(crate) fn remove_id(&mut self, id: u64) -> Vec<Node> {
        let path = self.by_id(id).map(|n| self.path(n));
        path.map_or_else(Vec::new, |p| self.remove(&p))
    }

    /// The n-th entry of a kind, counted round and round, for references from elsewhere.
    pub(crate) fn draw(&self, kind: NodeKind, n: u64) -> Option<&Node> {
        let places = self.drawn.get(&kind)?;
        let len = places.len();
        let start = usize::try_from(n % (len as u64).max(1)).unwrap_or(0);
        (0..len).find_map(|i| self.node(places[(start + i) % len]))
    }

    /// Ids of the entries of a kind.
    pub(crate) fn ids(&self, kind: NodeKind) -> Vec<u64> {
        self.drawn
            .get(&kind)
            .map_or_else(Vec::new, |p| p.iter().filter_map(|i| self.node(*i)).map(|n| n.id).collect())
    }

    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)?.as_ref()
    }

    fn inside(&self, index: u32) -> impl Iterator<Item = &Node> + '_ {
        let from = (index, Arc::from(""));
        self.children
            .range(from..)
            .take_while(move |((parent, _), _)| *parent == index)
            .filter_map(|(_, i)| self.node(*i))
    }

    fn index(&self, path: &str) -> Option<u32> {
        let mut at = 0;
        for part in path.split('/').filter(|p| !p.is_empty()) {
            at = *self.children.get(&(at, Arc::from(part)))?;
        }
        Some(at)
    }
}

impl Node {
    /// Last segment of the path.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        assert_eq!(canonical("/Workspace/Users/a/").as_deref(), Some("/Users/a"));
        assert_eq!(canonical("/Workspace").as_deref(), Some("/"));
        assert_eq!(canonical("/WorkspaceX/a").as_deref(), Some("/WorkspaceX/a"));
        assert_eq!(canonical("Users/a"), None);
    }

    #[test]
    fn removing_takes_everything_below_and_nothing_beside() {
        let mut tree = Tree::default();
        let mut next = 0;
        let mut fresh = || {
            next += 1;
            next
        };
        tree.mkdirs("/a/b/c", 1, &mut fresh).expect("made");
        tree.mkdirs("/ab", 1, &mut fresh).expect("made");
        assert_eq!(tree.add("/x/y", NewNode::directory(9, 1)), Err(TreeError::NoParent("/x".into())));
        assert_eq!(tree.remove("/a").len(), 3);
        assert!(tree.at("/a/b").is_none() && tree.at("/ab").is_some());
        assert_eq!(tree.ids(NodeKind::Directory).len(), 1);
    }
}
