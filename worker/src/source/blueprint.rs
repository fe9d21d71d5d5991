//! What bringing items back takes to know of a type of environment. Pure: snapshots are compared, and restores planned, from
//! what lies in the store alone.

use std::fmt;

use lakehold_proto::format::{Entry, Role};
use lakehold_proto::ids::Kind;
use lakehold_proto::plan::Probe;
use lakehold_proto::restore::{Act, Crossing};
use serde_json::Value;

/// By what an item is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// Its key.
    Key,
    /// Its natural key.
    Identity,
    /// Another id that the environment gave it.
    Alias,
    /// By lying within the place that is its other id.
    Place,
}

/// One reference of an item, as its text has it. Of several kinds that it may point to, the first that has such an item is
/// meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// What it may point to, and by what.
    pub to: Vec<(Kind, By)>,
    /// What it holds.
    pub text: String,
    /// Whether the item cannot be without it: an id that means nothing, or something else, elsewhere.
    pub firm: bool,
    /// Whether it names a person or a group, who may be called otherwise in the target.
    pub principal: bool,
}

/// What one item is, as far as it was read. What was not is absent.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its kind.
    pub kind: &'a Kind,
    /// Its entry in the snapshot.
    pub entry: &'a Entry,
    /// Its object.
    pub object: Option<&'a Value>,
    /// Its content, where that is JSON.
    pub content: Option<&'a Value>,
    /// Who may do what with it.
    pub access: Option<&'a Value>,
}

/// Something a person must know of an item before it is brought back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// It will lack something, or be something less.
    Degraded(String),
    /// It cannot be brought back.
    Blocked(String),
    /// Somebody must do something that no API can.
    ByHand(String),
    /// Making it starts it; it is stopped at once.
    Starts,
}

/// See [`Blueprint::alone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alone {
    /// It does not, for this reason.
    Never(&'static str),
    /// With this part of the whole, and with what a person must know of.
    With {
        /// The part.
        of_whole: Role,
        /// See [`Concern::ByHand`].
        by_hand: Vec<String>,
    },
}

/// What a reference becomes: its new text, or nothing where the target does not have it.
pub type Renamer<'a> = &'a mut dyn FnMut(&Point) -> Renamed;

/// See [`Renamer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// This.
    Text(String),
    /// What it is.
    Same,
    /// It cannot be set yet: what needs it is left out, and set later.
    Later,
    /// The target does not have it: what stands for it is left out.
    Missing,
}

/// What restore knows of a type of environment.
pub trait Blueprint: Send + Sync + fmt::Debug {
    /// The fact of a probe that tells the place: two environments that have one value of it are one.
    fn place(&self) -> &'static str;

    /// The item as part of which it is made; itself, where it is such a whole. A whole is made anew beside what the target has,
    /// with its parts in it, and takes its place once all are there.
    fn whole(&self, _kind: &Kind, _key: &str) -> Option<(Kind, String)> {
        None
    }

    /// How an item comes without the whole that it is part of: it takes the place of what the target has of its name.
    fn alone(&self, _seen: &Seen<'_>, _target: Option<&Seen<'_>>, _crossing: &Crossing) -> Alone {
        Alone::Never("it comes as part of another alone")
    }

    /// Whether the target is asked what it has of this kind.
    fn is_looked_at(&self, _kind: &Kind) -> bool {
        true
    }

    /// From how many bytes on bringing one item back may take longer than a task may.
    fn long_from(&self, _kind: &Kind) -> Option<u64> {
        None
    }

    /// Whether the server gives items ids, which mean nothing in another place.
    fn has_ids(&self) -> bool {
        true
    }

    /// Whether a restore can be passive.
    fn has_held(&self) -> bool {
        true
    }

    /// Kinds come back in this order; those of one number in the order of their references.
    fn layer(&self, kind: &Kind) -> Option<u8>;

    /// The kinds that items of this one may refer to.
    fn neighbours(&self, kind: &Kind) -> Vec<Kind>;

    /// Why source and target share the item, so that a restore must not touch it; `None` where each has its own.
    fn shared(&self, seen: &Seen<'_>, from: &Probe, to: &Probe) -> Option<String>;

    /// Whether the natural key is the name, which needs no look at the object.
    fn is_named(&self, kind: &Kind) -> bool;

    /// The natural key: what pairs an item with its like in another environment.
    fn identity(&self, seen: &Seen<'_>) -> String;

    /// The natural key that an item of the source has in the target.
    fn identity_across(&self, kind: &Kind, identity: &str, crossing: &Crossing) -> String;

    /// Whether items of this kind have one.
    fn has_alias(&self, kind: &Kind) -> bool;

    /// Another id by which others refer to it, or the place that is its.
    fn alias(&self, seen: &Seen<'_>) -> Option<String>;

    /// Why it is never made by itself: somebody else makes it.
    fn left(&self, seen: &Seen<'_>) -> Option<String>;

    /// The kind and key of the item that makes it.
    fn maker(&self, seen: &Seen<'_>) -> Option<(Kind, String)>;

    /// Whether the environment makes such items itself, so that they are found and never made.
    fn is_builtin(&self, seen: &Seen<'_>) -> bool;

    /// All that it refers to, its permissions included.
    fn points(&self, seen: &Seen<'_>) -> Vec<Point>;

    /// A part as it is compared with, or written to, the target: without what the server sets, with what is called
    /// otherwise there, with sets in one order.
    fn portable(
        &self,
        kind: &Kind,
        role: Role,
        part: Value,
        crossing: &Crossing,
        rename: Renamer<'_>,
    ) -> Value;

    /// The same, to be compared: documents inside strings are parsed, and what a passive restore holds is left out.
    fn comparable(&self, kind: &Kind, role: Role, portable: Value, crossing: &Crossing) -> Value;

    /// What is to be said before the item is made, or where the target has it, changed. `portable` is its object as it will
    /// be.
    fn concerns(
        &self,
        seen: &Seen<'_>,
        target: Option<&Seen<'_>>,
        portable: &Value,
        crossing: &Crossing,
    ) -> Vec<Concern>;

    /// The fields that a passive restore holds, with what they are where they are not held.
    fn held(&self, kind: &Kind, object: &Value) -> Vec<(String, Value)>;

    /// The plainer kind that it comes back as, where it lacks what makes it one of its own.
    fn plainly(&self, seen: &Seen<'_>) -> Option<Kind>;

    /// Whether these permissions are what a new item has anyway.
    fn is_granted_anyway(&self, kind: &Kind, access: &Value) -> bool;

    /// Whose it is, where a field of its object says so.
    fn owner(&self, kind: &Kind, object: &Value) -> Option<String>;

    /// Whether the content of such items is a JSON document.
    fn has_document(&self, kind: &Kind) -> bool;

    /// Whether bringing it back needs a warehouse that runs SQL.
    fn needs_warehouse(&self, kind: &Kind) -> bool;

    /// Whether items of this kind are made one after the other.
    fn is_ordered(&self, kind: &Kind) -> bool;

    /// Where items are made one after the other: by this.
    fn order(&self, kind: &Kind, object: &Value) -> Option<i64>;

    /// The calls of a step, by API family.
    fn calls(&self, kind: &Kind, act: Act) -> Vec<(&'static str, u64)>;

    /// Calls a second that a family of calls allows for changes.
    fn rate(&self, family: &str) -> f64;
}
