//! An item as a source hands it in.

use std::fmt;

use bytes::Bytes;
use futures::stream::BoxStream;
use lakehold_proto::fault::{Fault, Result};
use lakehold_proto::format::{Role, canonical_json};
use lakehold_proto::ids::Hash;
use serde_json::Value;

/// An item on its way in. See [`lakehold_proto::format::Entry`] for what the fields mean.
#[derive(Debug)]
pub struct Draft {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) parent: Option<String>,
    pub(super) version: Option<String>,
    pub(super) parts: Vec<DraftPart>,
    pub(super) gaps: Vec<(Role, Fault)>,
    pub(super) degraded: Vec<String>,
    pub(super) became: Option<String>,
}

#[derive(Debug)]
pub(super) struct DraftPart {
    pub(super) role: Role,
    pub(super) format: Option<String>,
    pub(super) body: Body,
}

/// The bytes of a part.
pub enum Body {
    /// What the base snapshot has: the source can tell that it did not change, and did not fetch it.
    Base,
    /// A document as the API gave it, mostly JSON, and the hash of its canonical form.
    Json {
        /// The bytes to keep.
        raw: Bytes,
        /// What tells whether it changed. See [`Body::json`].
        canonical: Hash,
    },
    /// Some bytes.
    Bytes(Bytes),
    /// Bytes as they come. An error in the stream makes the part a gap.
    Stream(BoxStream<'static, Result<Bytes>>),
    /// A body that is known when the parts before it are sealed: what was counted while they flowed. Not one of these again.
    Later(Box<dyn FnOnce() -> Body + Send>),
}

impl Body {
    /// Bytes that are kept, and the hash of what of them tells whether they changed.
    pub fn compared(raw: impl Into<Bytes>, lasting: Hash) -> Self {
        Self::Json { raw: raw.into(), canonical: lasting }
    }

    /// A JSON body: `raw` is kept, `compared` (the same without volatile fields, with sets sorted) tells whether it changed.
    pub fn json(raw: impl Into<Bytes>, compared: &Value) -> Self {
        Self::Json { raw: raw.into(), canonical: Hash::of(canonical_json(compared)) }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("Base"),
            Self::Json { raw, .. } => write!(f, "Json({} bytes)", raw.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

impl Draft {
    /// An item with this key and name, without parts.
    pub fn new(key: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            name: name.into(),
            parent: None,
            version: None,
            parts: Vec::new(),
            gaps: Vec::new(),
            degraded: Vec::new(),
            became: None,
        }
    }

    /// Says what it lies in.
    #[must_use]
    pub fn parent(mut self, parent: impl Into<String>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Gives the stamp by which the next run can tell that it did not change. Only a stamp that can be trusted.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Adds a part.
    #[must_use]
    pub fn part(mut self, role: Role, body: Body) -> Self {
        self.parts.push(DraftPart { role, format: None, body });
        self
    }

    /// Adds a part in one of several forms that its kind knows.
    #[must_use]
    pub fn part_as(mut self, role: Role, format: impl Into<String>, body: Body) -> Self {
        self.parts.push(DraftPart { role, format: Some(format.into()), body });
        self
    }

    /// Says that a part should be here and is not.
    #[must_use]
    pub fn gap(mut self, role: Role, fault: Fault) -> Self {
        self.gaps.push((role, fault));
        self
    }

    /// Says which key it has in the target of a restore.
    #[must_use]
    pub fn became(mut self, key: impl Into<String>) -> Self {
        self.became = Some(key.into());
        self
    }

    /// Says in what lesser form than asked for it was captured, and why.
    #[must_use]
    pub fn degraded(mut self, reason: impl Into<String>) -> Self {
        self.degraded.push(reason.into());
        self
    }
}
