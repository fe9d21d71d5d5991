//! What bringing items back takes: the words that a restore's coordinator and its workers agree on.
//!
//! A coordinator decides for each item what is to be done ([`Step`]) and what every reference in it means in the target
//! ([`Pointer`]); workers do it, and write down what an item became ([`Made`]) before anything else may depend on it, so that
//! another attempt finds it and makes nothing twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::{Class, Fault, Result};
use crate::format::{Located, Role};
use crate::ids::{EnvName, Hash, Kind, SnapshotId};

/// A snapshot of some environment, pinned by the hash of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// Its environment.
    pub environment: EnvName,
    /// Its id.
    pub snapshot: SnapshotId,
    /// Its time.
    pub time: String,
    /// The SHA-256 of its manifest.
    pub manifest: Hash,
}

/// What a restore brings back into an environment, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restoring {
    /// The snapshot that is brought back.
    pub from: SnapshotRef,
    /// The environment as it was before: a scoped snapshot.
    pub before: SnapshotRef,
    /// How items are changed on the way.
    pub crossing: Crossing,
    /// The record of the restore that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<SnapshotId>,
    /// A warehouse of the target that runs SQL statements, where one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<String>,
}

/// What changes when items cross from one environment into another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Crossing {
    /// Whether both are the same workspace: then the server's ids mean the same on both sides.
    pub same: bool,
    /// Whether nothing that is brought back may start by itself.
    pub passive: bool,
    /// The cloud that items come from, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_cloud: Option<String>,
    /// The cloud that they go to, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_cloud: Option<String>,
    /// Who brings them back: whoever owns an item whose owner the target does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorer: Option<String>,
    /// Whether all that comes belongs to the restorer, and to nobody else is granted anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_owner: bool,
    /// Whether wholes stay beside what is there, to be tried: nothing takes the place of anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
    /// What is called otherwise there.
    #[serde(default)]
    pub mapping: Mapping,
}

impl Crossing {
    /// Whether items go to another cloud.
    pub fn changes_cloud(&self) -> bool {
        matches!((&self.from_cloud, &self.to_cloud), (Some(from), Some(to)) if from != to)
    }
}

/// What is called otherwise in the target. Each is applied once: what it yields is not mapped again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// Users, groups and service principals, by the names that access lists use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub principals: BTreeMap<String, String>,
    /// What follows the `@` of people's names, for those that `principals` does not name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub email_domains: BTreeMap<String, String>,
    /// Instance profiles, by their ARN.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub instance_profiles: BTreeMap<String, String>,
    /// Types of machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_types: BTreeMap<String, String>,
    /// Beginnings of storage locations, such as `s3://bucket/lake`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage: BTreeMap<String, String>,
    /// Single items, as `KIND/NAME`, by what they are to be called: of kinds that can be.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
}

impl Mapping {
    /// What a principal is called in the target.
    pub fn principal(&self, name: &str) -> String {
        if let Some(mapped) = self.principals.get(name) {
            return mapped.clone();
        }
        let mapped =
            name.rsplit_once('@').and_then(|(who, domain)| Some((who, self.email_domains.get(domain)?)));
        mapped.map_or_else(|| name.to_owned(), |(who, domain)| format!("{who}@{domain}"))
    }

    /// What one item is to be called, where that was asked for.
    pub fn name(&self, kind: &Kind, name: &str) -> Option<&str> {
        if self.names.is_empty() {
            return None;
        }
        self.names.get(&format!("{kind}/{name}")).map(String::as_str)
    }

    /// Where a storage location lies in the target: the longest beginning that is mapped counts, at the border of a folder.
    pub fn location(&self, location: &str) -> Option<String> {
        let begins = |from: &&String| {
            let from = from.trim_end_matches('/');
            location.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let from = self.storage.keys().filter(begins).max_by_key(|from| from.len())?;
        let rest = &location[from.trim_end_matches('/').len()..];
        Some(format!("{}{rest}", self.storage[from].trim_end_matches('/')))
    }

    /// Checks that no mapping leads back to where it came from.
    ///
    /// # Errors
    /// `Config` with `map.cycle`, naming the circle.
    pub fn check(&self) -> Result<()> {
        let maps = [
            ("principals", &self.principals),
            ("email_domains", &self.email_domains),
            ("instance_profiles", &self.instance_profiles),
            ("node_types", &self.node_types),
            ("storage", &self.storage),
        ];
        for (name, map) in maps {
            for start in map.keys() {
                let (mut at, mut way) = (start, vec![start.as_str()]);
                while let Some(next) = map.get(at).filter(|next| *next != at && way.len() <= map.len()) {
                    way.push(next);
                    if next == start {
                        let detail = format!("{name} goes in a circle: {}", way.join(" -> "));
                        return Err(Fault::new(Class::Config, "map.cycle", "read the mapping", detail).hint(
                            "each is mapped once: write what it is called in the target, and nothing back",
                        ));
                    }
                    at = next;
                }
            }
        }
        Ok(())
    }
}

/// What is done with one item: one line of a task's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub act: Act,
    /// Its key in the snapshot.
    pub key: String,
    /// Its name in the snapshot.
    pub name: String,
    /// Its key in the target, where it is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Keys of the target's items that have its natural key and are not it: nobody may take them for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<StepPart>,
    /// Of an item that comes without the whole that it is part of: what the whole says of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole: Vec<StepPart>,
    /// What its references mean in the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pointers: Vec<Pointer>,
    /// Fields that get these values, whatever the parts say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, serde_json::Value)>,
    /// Of a whole: how many items come as parts of it. It is complete when all of them are there.
    #[serde(default, skip_serializing_if = "is_none")]
    pub parts_of_it: u64,
    /// Of a whole: the plain bytes of these.
    #[serde(default, skip_serializing_if = "is_none")]
    pub bytes_of_it: u64,
}

impl Step {
    /// The plain bytes that it is about.
    pub fn bytes(&self) -> u64 {
        self.bytes_of_it + self.parts.iter().map(|part| part.size).sum::<u64>()
    }
}

const fn is_none(number: &u64) -> bool {
    *number == 0
}

/// What a [`Step`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Makes it. References that would go in a circle are left out.
    Create,
    /// Changes the target's item into what the snapshot has.
    Replace,
    /// Sets what [`Act::Create`] left out.
    Complete,
    /// Sets who may do what with it, and then whose it is.
    Access,
    /// Takes the target's item away.
    Delete,
    /// Lets what a passive restore held go again.
    Activate,
}

impl Act {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Complete => "complete",
            Self::Access => "access",
            Self::Delete => "delete",
            Self::Activate => "activate",
        }
    }
}

/// A part of an item, with the place of each of its frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPart {
    /// Which side of the item.
    pub role: Role,
    /// Its form, where the kind knows several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Its plain bytes.
    pub size: u64,
    /// Their hash.
    pub sha256: Hash,
    /// Where they lie, in packs.
    pub frames: Vec<Located>,
}

/// What a reference of an item means in the target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pointer {
    /// The kind it points to.
    pub kind: Kind,
    /// What the snapshot's item holds.
    pub text: String,
    /// What it is to hold.
    pub meant: Meant,
}

/// See [`Pointer::meant`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meant {
    /// This.
    Text(String),
    /// The key of what the item with this key becomes in this run, or the other id by which it is referred to.
    Made {
        /// Its key in the snapshot.
        key: String,
        /// Whether the other id is held.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        alias: bool,
    },
    /// The same, once all items exist; left out until then.
    Later {
        /// Its key in the snapshot.
        key: String,
    },
    /// Nothing: the target does not have it.
    Nothing,
}

/// What an item became in the target: written as soon as it is known, created once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its kind.
    pub kind: Kind,
    /// Its key in the snapshot.
    pub from: String,
    /// Its key in the target.
    pub key: String,
    /// The other id by which it is referred to there, where its kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn principals_are_mapped_by_name_and_then_by_domain() {
        let mapping = Mapping {
            principals: map(&[("a@old.com", "b@new.com"), ("ops", "sre")]),
            email_domains: map(&[("old.com", "new.com")]),
            ..Mapping::default()
        };
        for (name, mapped) in [
            ("a@old.com", "b@new.com"),
            ("c@old.com", "c@new.com"),
            ("ops", "sre"),
            ("x@other.com", "x@other.com"),
        ] {
            assert_eq!(mapping.principal(name), mapped);
        }
    }

    #[test]
    fn locations_are_mapped_at_the_border_of_a_folder_by_the_longest_beginning() {
        let mapping = Mapping {
            storage: map(&[("s3://a", "abfss://x@y"), ("s3://a/lake/", "abfss://lake@y/")]),
            ..Mapping::default()
        };
        assert_eq!(mapping.location("s3://a/b").as_deref(), Some("abfss://x@y/b"));
        assert_eq!(mapping.location("s3://a/lake/t").as_deref(), Some("abfss://lake@y/t"));
        assert_eq!(mapping.location("s3://ab/c"), None);
    }

    #[test]
    fn a_mapping_in_a_circle_is_refused() {
        let of = |pairs| Mapping { principals: map(pairs), ..Mapping::default() }.check();
        assert!(of(&[("a", "b"), ("b", "c"), ("c", "c")]).is_ok());
        let fault = of(&[("a", "b"), ("b", "c"), ("c", "a")]).unwrap_err();
        assert_eq!(
            (fault.code, fault.detail.as_str()),
            ("map.cycle", "principals goes in a circle: a -> b -> c -> a")
        );
    }
}
