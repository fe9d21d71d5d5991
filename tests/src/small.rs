//! Disks that fill.

use std::path::PathBuf;
use std::process::Command;

/// A file system of so many bytes; gone when dropped.
pub struct Small(PathBuf);

impl Small {
    /// Puts it over a folder, which it makes; `None` where this process may mount nothing.
    pub fn at(path: PathBuf, kilobytes: u32) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={kilobytes}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "lakehold-test"]).arg(&path).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(path))
    }

    /// Makes it as large.
    pub fn grow(&self, kilobytes: u32) {
        let size = format!("remount,size={kilobytes}k");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily, since a process that is being killed may still hold it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
