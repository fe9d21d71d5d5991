//! What lies in a store, byte by byte. The normative text is `FORMAT.md`; a test holds a reader written from that page
//! alone against what this module writes. Pure: nothing here reads a clock or a store.

mod canonical;
mod index;
mod pack;
mod root;

pub use canonical::{CANONICAL_RULE, canonical_json, content_of};
pub use index::{
    Entry, Gap, Header, INDEX_SCHEMA, Index, IndexDraft, IndexRef, PAGE_SCHEMA, PackRef, Page, PageRef, Part,
    Role, read_index, read_page, write_page,
};
pub use pack::{
    Frame, FrameSealer, Located, MAX_FRAME, PACK_MAGIC, PackBuilder, Sealed, SealedFrame, open_frame,
    read_located,
};
pub use root::{ContentRoot, RootLine};

/// The largest version of the store format that this program reads and writes.
pub const STORE_VERSION: u32 = 1;

/// How hard bodies are compressed. Level 3 is zstd's own default: bodies are small texts, and workers share their cores
/// with TLS.
const ZSTD_LEVEL: i32 = 3;

fn damaged(context: impl Into<String>, detail: impl std::fmt::Display) -> crate::fault::Fault {
    crate::fault::Fault::new(crate::fault::Class::Integrity, "format.damaged", context, detail)
}

/// The fault of a document of a version that this program does not know. Not damage: it may be whole.
pub fn newer(context: impl Into<String>, found: &str, known: &str) -> crate::fault::Fault {
    let detail = format!("its schema is {found:?}; this program knows {known}");
    crate::fault::Fault::new(crate::fault::Class::Unsupported, "format.newer", context, detail)
        .hint("a newer Lakehold may have written it: upgrade this one")
}
