//! What a row of the table of kinds says. Everything about a kind is data here; the work, the plan and restore read it.

use super::super::families::Family;
use super::super::paging::Paging;

/// One kind.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, singular, as it appears in addresses and manifests.
    pub name: &'static str,
    /// The vendor's page, as seen on the date in [`super::CHECKED`].
    pub page: &'static str,
    /// How its items are found.
    pub list: List,
    /// The kind whose items its listing walks: one listing for each of them.
    pub walks: Option<&'static str>,
    /// The kind whose task also lists this one, where listings are too small for tasks of their own.
    pub listed_with: Option<&'static str>,
    /// Where a listed item holds its key: the first of these paths that is there.
    pub key: &'static [&'static str],
    /// Where a listed item holds its name; the key where none is there, or it is empty.
    pub title: &'static [&'static str],
    /// Where a listed item holds the name of what it lies in.
    pub within: Option<&'static str>,
    /// The stamps of a listed item that together tell that neither object nor content changed.
    pub stamp: Stamp,
    /// The call for one item, where the list is partial.
    pub get: Option<Get>,
    /// What is in it, beside what the API says it is.
    pub content: Content,
    /// Who may do what with it.
    pub access: Access,
    /// What of it is captured as a kind of its own.
    pub carries: Option<Carries>,
    /// Fields that are not simply the user's.
    pub rules: &'static [FieldRule],
    /// Arrays that mean sets: sorted before hashing.
    pub sets: &'static [&'static str],
    /// What it points to.
    pub references: &'static [Reference],
    /// Items that the platform makes.
    pub builtin: &'static [Builtin],
    /// How it is brought back.
    pub restore: Restore,
    /// The permission that lets all of it be seen: what to ask for when the listing is refused.
    pub permission: &'static str,
    /// Whether `--scope shared` takes it.
    pub scope: Scope,
    /// Clouds that do not have it.
    pub not_on: &'static [&'static str],
}

/// How the items of a kind are found.
#[derive(Clone, Copy, Debug)]
pub enum List {
    /// By calls; what they show together is the list.
    Calls(&'static [Call]),
    /// By the walk of the workspace tree, which finds several kinds at once.
    Tree,
    /// Inside the items of other kinds: no call of its own.
    Carried,
}

/// A call that lists.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Whose budget it comes out of.
    pub family: &'static Family,
    /// The path from the root.
    pub path: &'static str,
    /// Fixed parameters. `{catalog}` and `{schema}` stand for the parent that is walked.
    pub query: &'static [(&'static str, &'static str)],
    /// How long listings come in pieces.
    pub paging: Paging,
    /// The field that holds the items.
    pub items: &'static str,
}

/// Whether and how a list tells that an item did not change.
#[derive(Clone, Copy, Debug)]
pub enum Stamp {
    /// By these fields together.
    Trusted(&'static [&'static str]),
    /// Not at all.
    None {
        /// Why nothing the list shows can be trusted; or why nothing is needed.
        why: &'static str,
    },
}

/// A call for one item.
#[derive(Clone, Copy, Debug)]
pub struct Get {
    /// Whose budget it comes out of.
    pub family: &'static Family,
    /// The path; `{name}` stands for a field of the listed item, as one segment.
    pub path: &'static str,
    /// Parameters; `{name}` as in the path.
    pub query: &'static [(&'static str, &'static str)],
    /// For which items it is made.
    pub when: When,
    /// Arrays of the answer that come in pieces, to be joined page by page (`page_token`); empty when it comes whole.
    pub joined: &'static [&'static str],
    /// What the list lacks.
    pub why: &'static str,
}

/// For which items a call is made.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// For all.
    Always,
    /// For those whose listed form lacks this field.
    Lacks(&'static str),
    /// For all whose field has none of these values.
    Unless(&'static str, &'static [&'static str]),
}

/// What is in an item.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// Nothing but the object.
    None,
    /// A notebook's text, exported in the form that the plan asks for.
    Notebook,
    /// A file's bytes, exported as they are.
    File,
    /// Bytes in base64 in a field of an answer.
    Encoded {
        /// The call.
        call: One,
        /// The field.
        field: &'static str,
        /// The part's format.
        format: &'static str,
    },
    /// An answer as it is. Fetched every time: the list's stamp does not cover it.
    Answer {
        /// The call.
        call: One,
        /// The part's format.
        format: &'static str,
        /// Whether "absent" is a usual answer that means "there is none".
        optional: bool,
    },
}

/// A call about one item; see [`Get`] for the placeholders.
#[derive(Clone, Copy, Debug)]
pub struct One {
    /// Whose budget it comes out of.
    pub family: &'static Family,
    /// The path.
    pub path: &'static str,
    /// Parameters.
    pub query: &'static [(&'static str, &'static str)],
}

/// Who may do what with an item. Always fetched: no stamp covers it.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// It has no list of its own.
    None {
        /// Why.
        why: &'static str,
    },
    /// `/api/2.0/permissions/{object}/{id}`.
    Object {
        /// The type in the path.
        object: &'static str,
        /// The field that holds the id.
        id: &'static str,
    },
    /// `/api/2.1/unity-catalog/permissions/{securable}/{name}`, and the workspaces that an isolated item is bound to.
    Grants {
        /// The type in the path.
        securable: &'static str,
        /// The field that holds the name in the path.
        name: &'static str,
        /// Whether it may be bound to single workspaces.
        bindings: bool,
    },
    /// The access list of a secret scope.
    Secrets {
        /// The field that holds the scope's name.
        scope: &'static str,
    },
}

/// Fields that are captured as items of another kind: they have a life, a restore order and a call of their own.
#[derive(Clone, Copy, Debug)]
pub struct Carries {
    /// That kind.
    pub kind: &'static str,
    /// The first part of its keys and names.
    pub under: &'static str,
    /// The fields. An item with none of them carries nothing.
    pub fields: &'static [&'static str],
}

/// What a field is, when it is not simply the user's.
#[derive(Clone, Copy, Debug)]
pub struct FieldRule {
    /// Where. See [`super::path`] for the language.
    pub path: &'static str,
    /// What.
    pub class: Class,
    /// Why.
    pub why: &'static str,
}

/// The class of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Not hashed: it changes without anybody changing the item.
    Volatile,
    /// Made by the server: not compared across environments, dropped on create.
    Assigned,
    /// Compared by the name of what it points to. Every [`Reference`] is one; a rule is only for those to no kind of ours.
    Reference,
    /// Changed by a passive restore, so that nothing starts by itself.
    Held(Passive),
}

/// What a held field is set to, so that nothing starts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passive {
    /// `PAUSED`
    Paused,
    /// `0`
    Zero,
    /// `false`
    Off,
}

/// A field that points to another item.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Where. See [`super::path`] for the language; it reaches into JSON inside strings.
    pub path: &'static str,
    /// The kind pointed to.
    pub kind: &'static str,
    /// What the field holds of it.
    pub holds: Holds,
    /// Whether it is set after all items exist, because references of this sort may go in circles.
    pub later: bool,
}

/// What a reference holds of its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Its key (the server's id).
    Key,
    /// Its name.
    Name,
    /// Its path in the workspace tree, with or without `/Workspace`, and not always ending at the item itself.
    Path,
    /// The application id of a service principal.
    ApplicationId,
    /// A part of a longer name, which stays as it is.
    Within,
    /// The name of a secret scope inside other text: `{{secrets/scope/key}}`.
    Secret,
    /// The name of a volume inside a path: `/Volumes/catalog/schema/volume/…`.
    Volume,
    /// An address within the place that is the item's: a storage location.
    Place,
}

/// Items that the platform makes in every workspace.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// The field that tells them.
    pub path: &'static str,
    /// How it tells them.
    pub is: Is,
    /// What is done with them.
    pub treat: Treat,
    /// Why.
    pub why: &'static str,
}

/// How the value of a field is recognised.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    /// It is one of these (numbers and booleans as text).
    OneOf(&'static [&'static str]),
    /// It ends with one of these.
    Ending(&'static [&'static str]),
}

/// What is done with a built-in item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treat {
    /// Captured; a restore finds it in the target and changes it instead of making it.
    Adopt,
    /// Not captured: excluded by rule.
    Skip,
}

/// How items of a kind are brought back.
#[derive(Clone, Copy, Debug)]
pub struct Restore {
    /// The layer: items of lower layers come first. Within a layer references decide.
    pub layer: u8,
    /// The fields that together are its natural key: by them an item that is there already is found.
    pub adopt_by: &'static [&'static str],
    /// Makes one.
    pub create: Write,
    /// Changes one into what the snapshot has.
    pub update: Write,
    /// Takes one away.
    pub delete: Write,
    /// What else is set once it is there, whether it was made or changed.
    pub then: &'static [Write],
    /// Stops what making it started.
    pub stop: Option<Write>,
    /// How one is found that may have been made while nobody heard the answer, and the key of one whose answer has none.
    pub find: Find,
    /// The field that says whose it is and the call that sets it, where its permissions do not.
    pub owner: Option<(&'static str, Write)>,
    /// Fields that the server refuses beside another: where the first is, the others are left out.
    pub instead: &'static [(&'static str, &'static [&'static str])],
    /// The field by which items are made one after the other, where their order matters.
    pub in_order: Option<&'static str>,
    /// What it needs of a cloud: an item with one of these fields is made only in that cloud.
    pub clouds: &'static [(&'static str, &'static str)],
    /// What a person must give that no API gives back: a field (empty for every item) and what it is.
    pub by_hand: &'static [(&'static str, &'static str)],
    /// A field without which it comes back as an item of a plainer kind, by this call.
    pub plainly: Option<(&'static str, &'static str, Write)>,
    /// Whether its natural key is compared without case.
    pub caseless: bool,
    /// The field that holds another id by which it is referred to, or the place within which others lie.
    pub alias: Option<&'static str>,
    /// A field without which it comes back as less, and how.
    pub lesser: &'static [(&'static str, &'static str)],
    /// Items that are never made by themselves: a field, what it says of them, and who makes them.
    pub left: &'static [(&'static str, &'static str, &'static str)],
    /// The field that names the item which makes it, and that item's kind.
    pub made_by: Option<(&'static str, &'static str)>,
    /// Fields that are the server's where another field says so.
    pub assigned_where: &'static [(&'static str, &'static str, &'static [&'static str])],
}

/// What most rows do not need.
pub(super) const PLAIN: Restore = Restore {
    layer: 0,
    adopt_by: &[],
    create: nothing(""),
    update: nothing(""),
    delete: nothing(""),
    then: &[],
    stop: None,
    find: Find::Listed,
    owner: None,
    instead: &[],
    in_order: None,
    clouds: &[],
    by_hand: &[],
    plainly: None,
    caseless: false,
    alias: None,
    lesser: &[],
    left: &[],
    made_by: None,
    assigned_where: &[],
};

/// How an item of the target is found by its natural key.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// Among all that are listed.
    Listed,
    /// The same, and its name is its key.
    Named,
    /// By the status of its path in the workspace tree.
    Status,
    /// By a call for one item.
    Read(One),
    /// It has the key of what carries it.
    Carried,
}

/// A call that changes something.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// A REST call.
    Rest {
        /// `POST`, `PUT`, `PATCH` or `DELETE`.
        method: &'static str,
        /// The path; `{field}` stands for a field of the target's item. What stands behind a `?` is sent as parameters.
        path: &'static str,
        /// The body.
        body: Shape,
    },
    /// A SQL statement; `{field}` stands for a quoted identifier or a rendered clause.
    Sql {
        /// The statement.
        statement: &'static str,
    },
    /// As [`Write::Sql`] for what is made of a query; what holds data is altered where it stands.
    Alter {
        /// The statement.
        statement: &'static str,
    },
    /// It cannot, or need not, be done.
    Nothing {
        /// Why.
        why: &'static str,
    },
}

/// The body of a call that changes something, made of the item without its assigned fields.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// None.
    Empty,
    /// The item itself.
    Whole,
    /// The value of one field of the item.
    Of(&'static str),
    /// The item as the value of one field.
    Under(&'static str),
    /// Only these fields of the item.
    Only(&'static [&'static str]),
    /// These fields, and what else is always sent.
    With(&'static [&'static str], &'static [(&'static str, bool)]),
    /// The value of the first field, and these of the item beside it, and what else is always sent.
    Merged(&'static str, &'static [&'static str], &'static [(&'static str, bool)]),
    /// Only these fields, under other names.
    Renamed(&'static [(&'static str, &'static str)]),
    /// Only these fields as the value of one field, and beside it the list of them.
    Masked(&'static str, &'static [&'static str]),
    /// These fields as a SCIM patch that replaces them.
    Scim(&'static [&'static str]),
    /// Fields of the item's content, which is a JSON document.
    Content(&'static [&'static str]),
    /// The libraries in the item's content.
    Libraries,
    /// Another shape, and the key of the target's item in its own field.
    Keyed(&'static Shape),
    /// The item's content as base64 in `content`, beside its path and form.
    Import,
    /// The item's content as it is.
    Raw,
}

/// Whether `--scope shared` takes a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Yes.
    Shared,
    /// No: it belongs to jobs, or is people's code.
    Work,
}

/// A listing that answers at once.
pub(super) const fn at_once(family: &'static Family, path: &'static str, items: &'static str) -> Call {
    Call { family, path, query: &[], paging: Paging::None, items }
}

/// The paging of most listings.
pub(super) const fn tokens(size: &'static str, count: &'static str) -> Paging {
    Paging::Token { request: "page_token", size: Some((size, count)) }
}

pub(super) const fn volatile(path: &'static str, why: &'static str) -> FieldRule {
    FieldRule { path, class: Class::Volatile, why }
}

pub(super) const fn assigned(path: &'static str, why: &'static str) -> FieldRule {
    FieldRule { path, class: Class::Assigned, why }
}

pub(super) const fn held(path: &'static str, to: Passive, why: &'static str) -> FieldRule {
    FieldRule { path, class: Class::Held(to), why }
}

pub(super) const fn refers(path: &'static str, kind: &'static str, holds: Holds) -> Reference {
    Reference { path, kind, holds, later: false }
}

pub(super) const fn refers_later(path: &'static str, kind: &'static str, holds: Holds) -> Reference {
    Reference { path, kind, holds, later: true }
}

pub(super) const fn rest(method: &'static str, path: &'static str, body: Shape) -> Write {
    Write::Rest { method, path, body }
}

pub(super) const fn sql(statement: &'static str) -> Write {
    Write::Sql { statement }
}

pub(super) const fn alter(statement: &'static str) -> Write {
    Write::Alter { statement }
}

pub(super) const fn nothing(why: &'static str) -> Write {
    Write::Nothing { why }
}
