//! The workspace tree: directories, notebooks, files and git folders. One walk finds them all.

use super::super::families::REPOS;
use super::row::*;

const ADMIN: &str = "workspace admin, or CAN_READ on every directory";

/// See the module.
pub(super) static ROWS: [Row; 4] = [
    Row {
        name: "directory",
        page: "https://docs.databricks.com/api/workspace/workspace/list",
        list: List::Tree,
        walks: None,
        listed_with: None,
        key: &["object_id"],
        title: &["path"],
        within: None,
        stamp: Stamp::None { why: "nothing to fetch: the list shows all there is" },
        get: None,
        content: Content::None,
        access: Access::Object { object: "directories", id: "object_id" },
        carries: None,
        rules: &[
            assigned("object_id", "given by the server"),
            assigned("resource_id", "the same id again"),
            volatile("created_at", "a time the server set"),
            volatile("modified_at", "changes with every entry in it"),
        ],
        sets: &[],
        references: &[],
        builtin: &[Builtin {
            path: "path",
            is: Is::OneOf(&["/", "/Users", "/Shared", "/Repos"]),
            treat: Treat::Adopt,
            why: "every workspace has them; only their permissions differ",
        }],
        restore: Restore {
            layer: 7,
            adopt_by: &["path"],
            create: rest("POST", "/api/2.0/workspace/mkdirs", Shape::Only(&["path"])),
            update: nothing("a directory is nothing but its path and its permissions"),
            delete: rest("POST", "/api/2.0/workspace/delete", Shape::Only(&["path"])),
            find: Find::Status,
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Shared,
        not_on: &[],
    },
    Row {
        name: "notebook",
        page: "https://docs.databricks.com/api/workspace/workspace/export",
        list: List::Tree,
        walks: None,
        listed_with: None,
        key: &["object_id"],
        title: &["path"],
        within: None,
        stamp: Stamp::Trusted(&["modified_at"]),
        get: None,
        content: Content::Notebook,
        access: Access::Object { object: "notebooks", id: "object_id" },
        carries: None,
        rules: &[
            assigned("object_id", "given by the server"),
            assigned("resource_id", "the same id again"),
            volatile("created_at", "a time the server set"),
            volatile("modified_at", "the content tells whether it changed"),
        ],
        sets: &[],
        references: &[refers("path", "directory", Holds::Path)],
        builtin: &[],
        restore: Restore {
            layer: 7,
            adopt_by: &["path"],
            create: rest("POST", "/api/2.0/workspace/import", Shape::Import),
            update: rest("POST", "/api/2.0/workspace/import", Shape::Import),
            delete: rest("POST", "/api/2.0/workspace/delete", Shape::Only(&["path"])),
            find: Find::Status,
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Work,
        not_on: &[],
    },
    Row {
        // The remote git repository is the content of a git folder: exporting a clean checkout would store it twice, so the
        // walk does not descend. Uncommitted changes of a folder with a remote are therefore not captured (the API does not
        // tell whether there are any). A folder without a remote has no other copy, so the walk goes on inside it.
        // The vendor's list of git folders is documented as incomplete (only /Repos, only what the caller manages), so the
        // walk finds them, and each is asked for once: one item lies in exactly one slice, and none is missed.
        name: "repo",
        page: "https://docs.databricks.com/api/workspace/repos/get",
        list: List::Tree,
        walks: None,
        listed_with: None,
        key: &["object_id"],
        title: &["path"],
        within: None,
        stamp: Stamp::None { why: "the tree does not tell when a branch was switched or pulled" },
        get: Some(Get {
            family: &REPOS,
            path: "/api/2.0/repos/{object_id}",
            query: &[],
            when: When::Always,
            joined: &[],
            why: "the tree shows neither remote nor branch nor commit",
        }),
        content: Content::None,
        access: Access::Object { object: "repos", id: "object_id" },
        carries: None,
        rules: &[assigned("id", "given by the server"), assigned("head_commit_id", "follows the branch")],
        sets: &["sparse_checkout.patterns"],
        references: &[refers("path", "directory", Holds::Path)],
        builtin: &[],
        restore: Restore {
            layer: 7,
            adopt_by: &["path"],
            create: rest(
                "POST",
                "/api/2.0/repos",
                Shape::Only(&["url", "provider", "path", "sparse_checkout"]),
            ),
            update: nothing("the remote of a git folder is fixed; its branch is set below"),
            delete: rest("DELETE", "/api/2.0/repos/{id}", Shape::Empty),
            then: &[rest("PATCH", "/api/2.0/repos/{id}", Shape::Only(&["branch"]))],
            find: Find::Status,
            plainly: Some((
                "url",
                "directory",
                rest("POST", "/api/2.0/workspace/mkdirs", Shape::Only(&["path"])),
            )),
            lesser: &[
                (
                    "url",
                    "it has no remote to be cloned from: it comes back as a plain folder with what lies in it",
                ),
                ("branch", "it stood at a tag or a commit: it comes back at its remote's default branch"),
            ],
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Shared,
        not_on: &[],
    },
    Row {
        name: "workspace_file",
        page: "https://docs.databricks.com/api/workspace/workspace/export",
        list: List::Tree,
        walks: None,
        listed_with: None,
        key: &["object_id"],
        title: &["path"],
        within: None,
        stamp: Stamp::Trusted(&["modified_at", "size"]),
        get: None,
        content: Content::File,
        access: Access::Object { object: "files", id: "object_id" },
        carries: None,
        rules: &[
            assigned("object_id", "given by the server"),
            assigned("resource_id", "the same id again"),
            volatile("created_at", "a time the server set"),
            volatile("modified_at", "the content tells whether it changed"),
        ],
        sets: &[],
        references: &[refers("path", "directory", Holds::Path)],
        builtin: &[Builtin {
            path: "path",
            is: Is::Ending(&[".dbalert.json"]),
            treat: Treat::Adopt,
            why: "the file view of an alert appears when the alert is made; but a plain file may have such a name, so it is kept",
        }],
        restore: Restore {
            layer: 7,
            adopt_by: &["path"],
            create: rest("POST", "/api/2.0/workspace-files/import-file{path}?overwrite=true", Shape::Raw),
            update: rest("POST", "/api/2.0/workspace-files/import-file{path}?overwrite=true", Shape::Raw),
            delete: rest("POST", "/api/2.0/workspace/delete", Shape::Only(&["path"])),
            find: Find::Status,
            ..PLAIN
        },
        permission: ADMIN,
        scope: Scope::Shared,
        not_on: &[],
    },
];
