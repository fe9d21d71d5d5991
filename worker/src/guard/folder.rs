//! A folder that goes when whoever needs it does. Who needs it holds a lock on a file in it, so that one that nobody needs any
//! more is known for what it is, and nothing else ever is taken for one.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// How its name begins.
const NAME: &str = "lakehold-private-";
/// What is locked.
const LOCK: &str = "lakehold.lock";
/// Only its owner comes to what is in it.
const MODE: u32 = 0o700;

/// See the module. Dropped, it is deleted, unless it was handed over.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
    is_ours: bool,
}

impl Folder {
    /// Makes one in `place`, and deletes those there that nobody needs any more. It is `owner`'s, where one is named.
    ///
    /// # Errors
    /// The system's.
    pub fn make(place: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let place = &place.canonicalize()?;
        sweep(place, owner)?;
        let path = place.join(format!("{NAME}{:08x}", rand::random::<u32>()));
        DirBuilder::new().mode(MODE).create(&path)?;
        let lock = File::create_new(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            // Another one sweeps at this moment.
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let folder = Self { path, lock, is_ours: true };
        if let Some((user, group)) = owner {
            chown(&folder.path, Some(user), Some(group))?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn lock(&self) -> &File {
        &self.lock
    }

    /// Leaves it to whoever got the lock.
    pub(super) fn hand_over(mut self) {
        self.is_ours = false;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_ours {
            // The next one made here sweeps it.
            let _ = remove(&self.path);
        }
    }
}

/// Deletes one; what tells that it is one goes last. It may be gone already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if !path.join(LOCK).is_file() {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        let is_folder = entry.file_type()?.is_dir();
        match if is_folder { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) } {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    fs::remove_dir_all(path)
}

/// Deletes those that nobody holds. What another user made is left alone.
fn sweep(place: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let owners = [Some(geteuid().as_raw()), owner.map(|(user, _)| user)];
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(NAME) {
            continue;
        }
        let Ok(found) = entry.metadata() else { continue };
        let is_one = found.is_dir() && found.mode() & 0o777 == MODE && owners.contains(&Some(found.uid()));
        let Some(lock) = is_one.then(|| File::open(path.join(LOCK)).ok()).flatten() else { continue };
        if lock.try_lock().is_ok() {
            tracing::info!(path = %path.display(), "a folder that was left behind is deleted");
            remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(place: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_is_ours_and_nobodys_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        // None of these is one that was left behind.
        fs::create_dir(place.join("lakehold-private-bare")).unwrap();
        fs::write(place.join("lakehold-private-file"), "").unwrap();
        fs::create_dir(place.join("another")).unwrap();
        fs::write(place.join("another").join(LOCK), "").unwrap();
        let open = place.join("lakehold-private-open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(open.join(LOCK), "").unwrap();
        let others = names(place);
        let held = Folder::make(place, None).unwrap();
        assert_eq!(fs::metadata(held.path()).unwrap().mode() & 0o777, MODE);
        // One whose holder is gone.
        let left = Folder::make(place, None).unwrap();
        let path = left.path().to_owned();
        left.hand_over();
        fs::create_dir(path.join("data")).unwrap();
        assert!(path.is_dir());
        let next = Folder::make(place, None).unwrap();
        assert!(!path.exists() && held.path().is_dir() && next.path().is_dir());
        drop((held, next));
        assert_eq!(names(place), others);
    }
}
