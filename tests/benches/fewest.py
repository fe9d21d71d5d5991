"""The fewest calls a complete backup can be made of, counted from what the workspace holds.

Worked out from the vendor's reference alone: which lists there are and how long their pages may be, what they leave out, and
what has an access list. It knows nothing of Lakehold's table of kinds or its plan, so it cannot share their mistakes. Where
it must choose it chooses the smaller number: built-in items, empty pages and the calls that find out who is asking count as
nothing.
"""

# One listing of each, in pages of so many (0: one answer holds all), and calls for each item that lists leave no choice about.
#                         page  bodies  access lists
WORKSPACE = {
    "user":               (10_000, 0, 0),
    "service_principal":  (10_000, 0, 0),
    "group":              (10_000, 0, 0),
    "instance_pool":      (0, 0, 1),
    "cluster_policy":     (0, 0, 1),
    "cluster":            (100, 0, 1),    # and one call for the libraries of all
    "global_init_script": (0, 1, 0),
    "repo":               (20, 0, 1),
    "job":                (100, 1, 1),
    "pipeline":           (100, 1, 1),
    "warehouse":          (1000, 0, 1),
    "query":              (100, 1, 1),
    "alert":              (100, 1, 1),
    "alert_v2":           (100, 1, 1),
    "dashboard":          (1000, 2, 1),   # the draft and what was published
    "secret_scope":       (0, 1, 1),      # the names of its keys
}  # fmt: skip
# Listed by directory, one call for each.
TREE = {"directory": (0, 1), "notebook": (1, 1), "workspace_file": (1, 1)}
# Unity Catalog: the parent whose items one listing shows (None: the metastore), bodies, grants.
CATALOG = {
    "uc_storage_credential": (None, 0, 1),
    "uc_external_location":  (None, 0, 1),
    "uc_connection":         (None, 0, 1),
    "uc_catalog":            (None, 0, 1),
    "uc_schema":             ("uc_catalog", 0, 1),
    "uc_table":              ("uc_schema", 1, 1),
    "uc_function":           ("uc_schema", 0, 1),
    "uc_volume":             ("uc_schema", 0, 1),
    "uc_registered_model":   (None, 1, 1),
}  # fmt: skip
# Not kinds of this version: `library` and `experiment` are only entries of the tree.
NOT_BACKED_UP = {"instance_profile", "library", "experiment"}
# Counted among the directories, too.
COUNTED = {"crowded_directory"}


def fewest(items: dict[str, int]) -> dict[str, int]:
    """The fewest calls for a workspace with so many items of each kind: lists, bodies, access lists."""
    if unknown := items.keys() - WORKSPACE.keys() - TREE.keys() - CATALOG.keys() - NOT_BACKED_UP - COUNTED:
        raise SystemExit(f"fewest.py does not say what these cost: {', '.join(sorted(unknown))}")
    lists = bodies = access = 0
    for kind, (page, body, acl) in WORKSPACE.items():
        n = items.get(kind, 0)
        lists += max(1, -(-n // page)) if page else 1
        bodies, access = bodies + body * n, access + acl * n
    bodies += 1  # libraries
    lists += 1 + items.get("directory", 0)  # the root, too
    for kind, (body, acl) in TREE.items():
        bodies, access = bodies + body * items.get(kind, 0), access + acl * items.get(kind, 0)
    for kind, (parent, body, acl) in CATALOG.items():
        n = items.get(kind, 0)
        lists += items.get(parent, 0) if parent else 1
        bodies, access = bodies + body * n, access + acl * n
    return {"lists": lists, "bodies": bodies, "access": access}
