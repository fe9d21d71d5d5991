//! A store that is only read: what a run writes goes into a directory of its own that ends with this process.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{DirectoryStore, Key, Listed, ObjectLock, Properties, Put, SharedStore, Store};
use crate::fault::{Class, Fault, Result};

/// Shows what lies in a store together with what was written aside.
#[derive(Debug)]
pub struct AsideStore {
    read: SharedStore,
    aside: DirectoryStore,
    /// Wiped when this is dropped.
    _folder: tempfile::TempDir,
}

impl AsideStore {
    /// Over `read`, which is never written to; with a directory in `$TMPDIR`.
    ///
    /// # Errors
    /// As [`Self::within`].
    pub fn over(read: SharedStore) -> Result<Self> {
        Self::within(&std::env::temp_dir(), read)
    }

    /// Over `read`, which is never written to; with a directory in `place`.
    ///
    /// # Errors
    /// `Unavailable` when there is no room for one.
    pub fn within(place: &Path, read: SharedStore) -> Result<Self> {
        let folder = tempfile::tempdir_in(place).map_err(|e| {
            Fault::new(Class::Unavailable, "store.aside", "make a temporary directory", e)
                .hint("make room in the directory for temporary files ($TMPDIR)")
        })?;
        Ok(Self { read, aside: DirectoryStore::new(folder.path()), _folder: folder })
    }
}

#[async_trait]
impl Store for AsideStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Put> {
        match self.read.get(key).await? {
            Some(_) => Ok(Put::Existed),
            None => self.aside.put_new_soon(key, body).await,
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.aside.get(key).await? {
            Some(body) => Ok(Some(body)),
            None => self.read.get(key).await,
        }
    }

    async fn get_range(&self, key: &Key, offset: u64, length: u64) -> Result<Option<Bytes>> {
        match self.aside.get_range(key, offset, length).await? {
            Some(body) => Ok(Some(body)),
            None => self.read.get_range(key, offset, length).await,
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed>> {
        self.aside.list(prefix).chain(self.read.list(prefix)).boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        let mut folders = self.aside.list_folders(prefix).await?;
        folders.extend(self.read.list_folders(prefix).await?);
        folders.sort_unstable();
        folders.dedup();
        Ok(folders)
    }

    async fn object_lock(&self) -> Option<ObjectLock> {
        self.read.object_lock().await
    }

    fn properties(&self) -> Properties {
        self.aside.properties()
    }

    fn location(&self) -> String {
        self.read.location()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::conformance;
    use super::*;

    #[tokio::test]
    async fn keeps_every_promise_and_writes_nothing_into_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let read: SharedStore = Arc::new(DirectoryStore::new(folder.path()));
        let aside = AsideStore::over(Arc::clone(&read)).unwrap();
        conformance::all(Arc::new(aside)).await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn shows_what_lies_in_the_store_beside_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let read: SharedStore = Arc::new(DirectoryStore::new(folder.path()));
        let (old, new) = (Key::parse("a/old").unwrap(), Key::parse("a/new").unwrap());
        read.put_new(&old, "old".into()).await.unwrap();
        let aside = AsideStore::over(Arc::clone(&read)).unwrap();
        assert_eq!(aside.put_new(&old, "other".into()).await.unwrap(), Put::Existed);
        assert_eq!(aside.put_new(&new, "new".into()).await.unwrap(), Put::Created);
        assert_eq!(aside.get(&old).await.unwrap().as_deref(), Some(&b"old"[..]));
        assert_eq!(aside.get(&new).await.unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(aside.list("a/").collect::<Vec<_>>().await.len(), 2);
        assert!(read.get(&new).await.unwrap().is_none());
    }
}
