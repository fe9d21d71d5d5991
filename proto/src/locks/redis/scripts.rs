//! The scripts, as they lie beside this file. Each is one step that nothing can come between.

use redis::Script;

/// All of them. The server keeps them by their hash, and is sent one again when it has forgotten it.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) bucket: Script,
    pub(super) lock: Script,
    pub(super) room: Script,
    pub(super) fleet: Script,
    pub(super) rejoin: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            bucket: Script::new(include_str!("scripts/bucket.lua")),
            lock: Script::new(include_str!("scripts/lock.lua")),
            room: Script::new(include_str!("scripts/room.lua")),
            fleet: Script::new(include_str!("scripts/fleet.lua")),
            rejoin: Script::new(include_str!("scripts/rejoin.lua")),
        }
    }
}
