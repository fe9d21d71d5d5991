//! A store in a directory.
//!
//! **Atomicity.** An object is written to a file of its own under `.incoming/`, flushed, and then linked to its name: the
//! link fails if the name exists, so of many writers one wins and nothing is ever overwritten. **After a crash** there may
//! be leftovers in `.incoming/`; they have no key and no call shows them. **Durability**: file and folder are flushed to
//! disk before `put_new` returns. Blocking file calls run on tokio's blocking threads.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{Key, Listed, Properties, Put, Store};
use crate::fault::{Class, Fault, Result};
use crate::ids::{EnvName, Nonce};

const INCOMING: &str = ".incoming";
const LOCKS: &str = ".locks";

/// A [`Store`] in a directory of a local or mounted file system.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    root: PathBuf,
}

impl DirectoryStore {
    /// The store in `root`, which need not exist yet: the first write makes it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the lock of an environment, which lasts until the returned value is dropped or its process dies.
    ///
    /// # Errors
    /// `Conflict` with the code `lock.held`, naming the holder.
    pub fn lock_environment(&self, environment: &EnvName, holder: &str) -> Result<EnvironmentLock> {
        let path = self.root.join(LOCKS).join(environment.as_str());
        let context = || format!("lock environment {environment}");
        let cannot = |e: io::Error| unavailable(context(), &path, &e);
        fs::create_dir_all(self.root.join(LOCKS)).map_err(cannot)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(cannot(e)),
            Err(TryLockError::WouldBlock) => {
                let mut who = String::new();
                // Only to name the holder: a holder that has not written its name yet is still a holder.
                let _ = file.read_to_string(&mut who);
                let who = if who.is_empty() { "another process" } else { who.trim() };
                return Err(Fault::new(
                    Class::Conflict,
                    "lock.held",
                    context(),
                    format!("it is held by {who}"),
                )
                .hint("wait until that backup ends; its lock ends with its process"));
            }
        }
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(cannot)?;
        Ok(EnvironmentLock { _file: file })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T> + Send + 'static,
    {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .unwrap_or_else(|e| Err(Fault::new(Class::Bug, "store.thread", "use the store", e)))
    }

    /// Folders are made when they are found missing: that costs a try, once for each, where looking costs one each time.
    fn write_new(&self, key: &Key, body: &[u8], flush: Flush) -> Result<Put> {
        let path = self.path(key);
        let context = || format!("write {key}");
        let cannot = |e: io::Error| unavailable(context(), &path, &e);
        // What is large is not written in vain; what need not last is small, and hardly ever there.
        if flush == Flush::Now && path.exists() {
            return Ok(Put::Existed);
        }
        let incoming = self.root.join(INCOMING);
        let parent = path.parent().unwrap_or(&self.root);
        let draft = Draft(incoming.join(Nonce::random().to_string()));
        let create = || OpenOptions::new().create_new(true).write(true).open(&draft.0);
        let made = or_make(create, || fs::create_dir_all(&incoming));
        let mut file = made.map_err(cannot)?;
        file.write_all(body).map_err(cannot)?;
        if flush == Flush::Now {
            file.sync_all().map_err(cannot)?;
        }
        let linked = or_make(|| fs::hard_link(&draft.0, &path), || self.create_folders(parent, flush));
        match linked {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Put::Existed),
            Err(e) => return Err(cannot(e)),
        }
        flush.folder(parent).map_err(cannot)?;
        Ok(Put::Created)
    }

    /// Makes folders one by one, flushing the parent of each new one, so that a crash cannot lose a name on the way.
    fn create_folders(&self, folder: &Path, flush: Flush) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let Some(parent) = folder.parent() else { return fs::create_dir_all(folder) };
        if parent.starts_with(&self.root) {
            self.create_folders(parent, flush)?;
        } else {
            fs::create_dir_all(parent)?;
        }
        match fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => flush.folder(parent),
        }
    }

    fn walk(&self, prefix: &str, mut each: impl FnMut(Result<Listed>) -> bool) {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut folders = vec![self.root.join(folder)];
        while let Some(folder) = folders.pop() {
            let listed = match fs::read_dir(&folder) {
                Ok(listed) => listed,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    each(Err(unavailable(format!("list {prefix}"), &folder, &e)));
                    return;
                }
            };
            for item in listed {
                let found = item.and_then(|item| Ok((item.path(), item.metadata()?)));
                let (path, about) = match found {
                    Ok(found) => found,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => {
                        each(Err(unavailable(format!("list {prefix}"), &folder, &e)));
                        return;
                    }
                };
                if about.is_dir() {
                    folders.push(path);
                    continue;
                }
                // What is no key (drafts, locks, a person's own files) is none of ours.
                let Some(key) = self.key_of(&path).filter(|key| key.as_str().starts_with(prefix)) else {
                    continue;
                };
                if !each(Ok(Listed { key, size: about.len() })) {
                    return;
                }
            }
        }
    }

    fn key_of(&self, path: &Path) -> Option<Key> {
        let key = Key::parse(path.strip_prefix(&self.root).ok()?.to_str()?).ok()?;
        (!key.as_str().starts_with('.')).then_some(key)
    }
}

/// A file under `.incoming/`, removed when dropped: linked or not, its own name is of no more use.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // A leftover is harmless, and there is nobody to tell.
        let _ = fs::remove_file(&self.0);
    }
}

/// Holds an environment for this process.
#[derive(Debug)]
pub struct EnvironmentLock {
    _file: File,
}

/// When what is written must be on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Before the call returns.
    Now,
    /// When the kernel finds the time.
    Soon,
}

impl Flush {
    fn folder(self, folder: &Path) -> io::Result<()> {
        match self {
            Self::Now => File::open(folder)?.sync_all(),
            Self::Soon => Ok(()),
        }
    }
}

/// Tries again when what it needs is missing and was made.
fn or_make<T>(work: impl Fn() -> io::Result<T>, make: impl FnOnce() -> io::Result<()>) -> io::Result<T> {
    match work() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => make().and_then(|()| work()),
        done => done,
    }
}

fn unavailable(context: String, path: &Path, error: &io::Error) -> Fault {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Fault::new(Class::Denied, "store.denied", context, format!("{shown}: {error}"))
                .hint("give this user read and write access to the store's directory")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Fault::new(Class::Unavailable, "store.full", context, format!("{shown}: {error}"))
                .hint("make room on that file system and run the same command with --resume: nothing is lost")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            Fault::new(Class::Config, "store.path", context, format!("{shown}: {error}"))
                .hint("check `store:`: every part of it must be a directory, or not be there yet")
        }
        _ => Fault::new(Class::Unavailable, "store.io", context, format!("{shown}: {error}")),
    }
}

#[async_trait]
impl Store for DirectoryStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        let key = key.clone();
        self.blocking(move |store| store.write_new(&key, &body, Flush::Now)).await
    }

    async fn put_new_soon(&self, key: &Key, body: Bytes) -> Result<Put> {
        let key = key.clone();
        self.blocking(move |store| store.write_new(&key, &body, Flush::Soon)).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let key = key.clone();
        self.blocking(move |store| {
            let path = store.path(&key);
            match fs::read(&path) {
                Ok(body) => Ok(Some(body.into())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(unavailable(format!("read {key}"), &path, &e)),
            }
        })
        .await
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        let key = key.clone();
        self.blocking(move |store| {
            let path = store.path(&key);
            let cannot = |e: io::Error| unavailable(format!("read {key}"), &path, &e);
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(cannot(e)),
            };
            let size = file.metadata().map_err(cannot)?.len();
            // Checked before anything is allocated: offset and length may come from a damaged index.
            if offset.checked_add(length).is_none_or(|end| end > size) {
                let detail =
                    format!("bytes {offset} and {length} more are asked for, it has {size}: it is cut off");
                return Err(Fault::new(Class::Integrity, "store.truncated", format!("read {key}"), detail));
            }
            let mut body = vec![0; length as usize];
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut body)).map_err(cannot)?;
            Ok(Some(body.into()))
        })
        .await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        let (send, receive) = tokio::sync::mpsc::channel(256);
        let (store, prefix) = (self.clone(), prefix.to_owned());
        tokio::task::spawn_blocking(move || store.walk(&prefix, |found| send.blocking_send(found).is_ok()));
        futures::stream::unfold(receive, |mut receive| async {
            receive.recv().await.map(|found| (found, receive))
        })
        .boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.blocking(move |store| {
            let folder = store.root.join(&prefix);
            let cannot = |e: io::Error| unavailable(format!("list {prefix}"), &folder, &e);
            let listed = match fs::read_dir(&folder) {
                Ok(listed) => listed,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(cannot(e)),
            };
            let mut names = Vec::new();
            for item in listed {
                let item = item.map_err(cannot)?;
                let name = item.file_name().to_string_lossy().into_owned();
                if item.file_type().map_err(cannot)?.is_dir() && !name.starts_with('.') {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    fn properties(&self) -> Properties {
        Properties { conditional_create: true }
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn keeps_the_promises_of_the_port() {
        let dir = tempfile::tempdir().unwrap();
        super::super::conformance::all(Arc::new(DirectoryStore::new(dir.path().join("a/store")))).await;
    }

    #[tokio::test]
    async fn a_path_through_a_file_is_a_mistake_that_no_waiting_mends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let store = DirectoryStore::new(file.path().join("store"));
        let key = Key::parse("packs/x").unwrap();
        for fault in [
            store.get(&key).await.unwrap_err(),
            store.put_new(&key, Bytes::from_static(b"x")).await.unwrap_err(),
        ] {
            assert_eq!((fault.class, fault.code), (Class::Config, "store.path"), "{fault}");
        }
    }

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(dir.path());
        let prod: EnvName = "prod".parse().unwrap();
        let held = store.lock_environment(&prod, "pid 7 on host a").unwrap();
        let refused = store.lock_environment(&prod, "pid 8").unwrap_err();
        assert_eq!(refused.exit_code(), 11);
        assert!(refused.to_string().contains("pid 7 on host a"), "{refused}");
        store.lock_environment(&"other".parse().unwrap(), "pid 8").unwrap();
        drop(held);
        store.lock_environment(&prod, "pid 8").unwrap();
    }

    #[tokio::test]
    async fn leftovers_of_a_crash_have_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::new(dir.path());
        store.put_new(&Key::parse("packs/x").unwrap(), Bytes::from_static(b"x")).await.unwrap();
        fs::write(dir.path().join(".incoming/torn"), b"half").unwrap();
        let listed: Vec<_> = store.list("").collect().await;
        assert_eq!(listed.len(), 1);
    }
}
