//! What is decided for each item. There may be as many decisions as items: they lie on disk, and are read one after the
//! other, by kind and name, as often as somebody asks.

use std::fmt;

use lakehold_proto::fault::{Fault, Result};
use lakehold_proto::format::Entry;
use lakehold_proto::ids::{Hash, Kind};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeSeq as _, Serializer};
use serde::{Deserialize, Serialize};

use super::side::Held;
use super::steps::Steps;
use crate::diff::FieldChange;
use crate::shelf::{Filling, Shelf};
use crate::spill::Spill;

/// Names kept in memory while they are put in order.
const NAMES: usize = 2048;

/// What is done with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The target does not have it: it is made.
    Create,
    /// The target has it, and it differs: it is changed.
    Replace,
    /// As `replace`, of an item that no restore made and that has another key: found by its name.
    Adopt,
    /// The target has it as it is.
    Unchanged,
    /// Source and target share it: left alone.
    Shared,
    /// Somebody else makes it.
    Left,
    /// It cannot be brought back.
    Blocked,
    /// The snapshot does not have it: it is taken away.
    Delete,
}

impl Action {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Adopt => "adopt",
            Self::Unchanged => "unchanged",
            Self::Shared => "shared",
            Self::Left => "left",
            Self::Blocked => "blocked",
            Self::Delete => "delete",
        }
    }

    /// Whether something of the snapshot comes with it.
    pub const fn comes(self) -> bool {
        matches!(self, Self::Create | Self::Replace | Self::Adopt)
    }
}

/// One item of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Its kind.
    pub kind: Kind,
    /// Its name in the snapshot.
    pub name: String,
    /// Its key in the snapshot; of what is taken away, in the target.
    pub key: String,
    /// What is done with it.
    pub action: Action,
    /// Its key in the target, where it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The content the target has of it now: whether it moved since is told by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Hash>,
    /// What it will lack, or be less.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// Why it cannot be brought back, or is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What a person must do for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<String>,
    /// Whether making it starts it, until it is stopped at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starts: bool,
    /// What differs, by part and path: from what the target has to what it gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
}

impl Planned {
    /// A decision about an item of the snapshot; `target` is what the target has of it.
    pub(super) fn new(item: &Entry, kind: &Kind, target: Option<&Entry>, action: Action) -> Self {
        Self {
            kind: kind.clone(),
            name: item.name.clone(),
            key: item.key.clone(),
            action,
            target: target.map(|target| target.key.clone()),
            was: target.and_then(|target| target.content),
            degraded: Vec::new(),
            why: None,
            by_hand: Vec::new(),
            starts: false,
            changes: Vec::new(),
        }
    }

    /// Something that is done with an item of the target, whatever the snapshot has.
    pub(super) fn on_target(item: &Held, action: Action) -> Self {
        Self::new(&item.entry, &item.kind, Some(&item.entry), action)
    }

    /// Something that is there no more once it is taken away: nobody looks at it any further.
    pub(super) fn taken_away(kind: Kind, name: &str, why: &str) -> Self {
        let entry = Entry::new(name, name);
        Self { why: Some(why.to_owned()), ..Self::new(&entry, &kind, Some(&entry), Action::Delete) }
    }

    /// What comes first in a plan.
    pub(crate) fn place(&self) -> (&Kind, &str, &str) {
        (&self.kind, &self.name, &self.key)
    }
}

/// All that is decided.
#[derive(Debug)]
pub struct Decisions {
    /// One decision for each item asked for, and for what is taken away.
    pub items: Deciding,
    /// What is done.
    pub steps: Steps,
    /// Words that met no item.
    pub unmet: Vec<String>,
}

impl Decisions {
    /// Nothing is decided yet.
    ///
    /// # Errors
    /// `Unavailable` when there is no room for temporary files.
    pub fn new() -> Result<Self> {
        Ok(Self { items: Deciding::new()?, steps: Steps::default(), unmet: Vec::new() })
    }
}

/// Decisions that are being made.
#[derive(Debug)]
pub struct Deciding {
    shelf: Filling<Planned>,
    order: Spill<(Kind, String, String, u64)>,
}

impl Deciding {
    fn new() -> Result<Self> {
        Ok(Self { shelf: Filling::new()?, order: Spill::new(NAMES) })
    }

    /// Takes a decision in.
    ///
    /// # Errors
    /// `Unavailable` when there is no room for temporary files.
    pub fn push(&mut self, item: &Planned) -> Result<()> {
        let place = self.shelf.push(item)?;
        self.order.push((item.kind.clone(), item.name.clone(), item.key.clone(), place))
    }

    /// All of them, by kind, name and key; of equal ones the first comes first.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn sorted(self) -> Result<Items> {
        let places = self.order.sorted()?.map(|named| named.map(|(.., place)| place));
        Ok(Items { places: places.collect::<Result<_>>()?, shelf: self.shelf.filled()? })
    }
}

/// The decisions of a plan, in the order of the plan. Written down they are a list.
#[derive(Clone, Debug)]
pub struct Items {
    places: Vec<u64>,
    shelf: Shelf<Planned>,
}

impl Items {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Result<Planned>> {
        self.places.iter().map(|place| self.shelf.get(*place))
    }
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.places.len()))?;
        for item in self.iter() {
            list.serialize_element(&item.map_err(serde::ser::Error::custom)?)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the items of a plan")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items, A::Error> {
                let wrong = |fault: Fault| serde::de::Error::custom(fault);
                let (mut shelf, mut places) = (Filling::new().map_err(wrong)?, Vec::new());
                while let Some(item) = list.next_element::<Planned>()? {
                    places.push(shelf.push(&item).map_err(wrong)?);
                }
                let shelf = shelf.filled().map_err(wrong)?;
                Ok(Items { places, shelf })
            }
        }
        deserializer.deserialize_seq(List)
    }
}
