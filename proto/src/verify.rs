//! What verifying takes: the words that a verify's coordinator and its workers agree on.
//!
//! The coordinator reads the tables of contents, and hands out what is to be read in the packs, a line for each
//! ([`PackCheck`], [`BodyCheck`]); a worker reads and says what is hurt. The record of it has an item for each pack that was
//! read ([`PACK`]), for each frame that is hurt ([`FRAME`]), and for each body of several frames ([`BODY`]).

use serde::{Deserialize, Serialize};

use crate::format::Located;
use crate::ids::{Hash, Kind, SnapshotId};

/// A pack that was read whole; its key is its hash.
pub const PACK: Kind = Kind::of("pack");
/// A frame that is hurt; its key is `<pack>/<offset>`.
pub const FRAME: Kind = Kind::of("frame");
/// A body of several frames that was read as a whole; its key is its hash.
pub const BODY: Kind = Kind::of("body");

/// What of an environment is verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verifying {
    /// These of its snapshots.
    pub snapshots: Vec<SnapshotId>,
    /// How much of their packs is read, in percent.
    pub percent: f64,
    /// Whether all that is in the store was looked at beside them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_store: bool,
}

/// A pack to be read, with the frames in it that snapshots name, in the order in which they lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackCheck {
    /// The pack.
    pub pack: Hash,
    /// Its frames.
    pub frames: Vec<Located>,
}

/// A body of several frames: that each frame is sound does not say that they are the right ones in the right order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyCheck {
    /// The hash of all its bytes.
    pub sha256: Hash,
    /// Its frames, in order.
    pub frames: Vec<Located>,
    /// The index that names it.
    pub index: Hash,
}

/// The key of a frame, as the items of a record have it.
pub fn frame_key(pack: Hash, offset: u64) -> String {
    format!("{pack}/{offset}")
}

/// Reads what [`frame_key`] wrote.
pub fn read_frame_key(key: &str) -> Option<(Hash, u64)> {
    let (pack, offset) = key.split_once('/')?;
    Some((pack.parse().ok()?, offset.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_frame_is_read_back() {
        let pack = Hash::of("a pack");
        assert_eq!(read_frame_key(&frame_key(pack, 17)), Some((pack, 17)));
        assert_eq!(read_frame_key(&pack.to_string()), None);
        assert_eq!(read_frame_key("x/1"), None);
    }
}
