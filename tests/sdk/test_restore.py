"""A workspace is backed up and restored into an empty one; the official SDK reads both, and must find the same.

What a server makes itself (ids, times, who made it, where managed data lies) is left out, and ids that items refer to each other
by are put back into names. `lakehold` is found by the variable LAKEHOLD, else beside the simulator.
"""

import json
import os
import pathlib
import subprocess

import conftest
import pytest
from databricks.sdk.service.catalog import CatalogType
from databricks.sdk.service.compute import ClusterSource
from databricks.sdk.service.workspace import ExportFormat, ObjectType

# What the server makes.
MADE = {
    "cluster_source", "create_time", "created_at", "created_at_timestamp", "creator_user_name", "credential_id", "default_tags",
    "delta.lastCommitTimestamp", "delta.lastUpdateVersion", "etag", "function_id", "jdbc_url", "last_modifier_user_name",
    "metastore_id", "num_clusters", "odbc_params", "pipeline_id", "schema_id", "spark_context_id", "start_time", "state", "table_id",
    "terminated_time", "termination_reason", "update_time", "updated_at", "volume_id",
}


class Seen:
    """What the SDK sees of a workspace: for each kind, items by their names."""

    def __init__(self, w):
        self.w, self.names = w, {w.metastores.summary().storage_root: "<the metastore>"}
        self.kinds = {kind: read(self) for kind, read in READERS.items()}

    def named(self, kind, items, key, name, of=lambda item: item.as_dict()):
        """Items by name; remembers which name an id stands for."""
        seen = {}
        for item in items:
            self.names[str(key(item))] = f"<{kind} {name(item)}>"
            seen[name(item)] = of(item)
        return seen

    def plain(self, value):
        """Without what servers make, and with names for ids."""
        if isinstance(value, dict):
            ours = value.get("table_type", value.get("volume_type")) != "MANAGED" and "__unitystorage" not in value.get("storage_location", "")
            made = MADE if ours else MADE | {"storage_location"}
            return {self.names.get(k, k): self.plain(v) for k, v in value.items() if k not in made}
        if isinstance(value, list):
            return sorted((self.plain(v) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
        if isinstance(value, str) and value[:1] in "{[" and len(value) > 2:
            try:
                return self.plain(json.loads(value))
            except ValueError:
                return value
        return self.names.get(str(value), value) if isinstance(value, (str, int)) and not isinstance(value, bool) else value

    def of(self, kind):
        return {name: self.plain(item) for name, item in self.kinds[kind].items()}


def users(seen):
    w = seen.w
    return seen.named("user", w.users.list(attributes="id,userName,displayName,active,entitlements"), lambda u: u.id, lambda u: u.user_name)


def service_principals(seen):
    """By their display names: one that the target makes has an application id of its own."""
    listed = list(seen.w.service_principals.list())
    seen.names.update({s.application_id: s.display_name for s in listed})
    of = lambda s: {"active": s.active, "entitlements": [e.value for e in s.entitlements or []]}
    return seen.named("sp", listed, lambda s: s.id, lambda s: s.display_name, of)


def groups(seen):
    def of(group):
        whole = seen.w.groups.get(group.id).as_dict()
        return {"members": sorted(m["value"] for m in whole.get("members", [])), "entitlements": whole.get("entitlements", [])}

    return seen.named("group", seen.w.groups.list(attributes="id,displayName"), lambda g: g.id, lambda g: g.display_name, of)


def access(seen, what, key):
    """Who was given what, directly."""
    lists = seen.w.permissions.get(what, key).access_control_list or []
    direct = lambda one: [p.permission_level.value for p in one.all_permissions or [] if not p.inherited]
    return {one.user_name or one.group_name or one.service_principal_name: direct(one) for one in lists if direct(one)}


def tree(seen):
    found = {}
    for item in seen.w.workspace.list("/", recursive=True):
        if item.object_type in (ObjectType.NOTEBOOK, ObjectType.FILE):
            content = seen.w.workspace.export(item.path, format=ExportFormat.SOURCE).content
            what = "notebooks" if item.object_type == ObjectType.NOTEBOOK else "files"
            found[item.path] = {"content": content, "access": access(seen, what, item.object_id)}
            seen.names[str(item.object_id)] = f"<{item.path}>"
    return found


def with_access(what, kind, items, key, name, of=lambda item: item.as_dict()):
    def read(seen):
        both = lambda item: {"item": of(item), "access": access(seen, what, key(item))}
        return seen.named(kind, items(seen.w), key, name, both)

    return read


def scopes(seen):
    """Their access lists. No caller outside a cluster is given the values of secrets: those are made by hand."""
    w, found = seen.w, {}
    for scope in w.secrets.list_scopes():
        acls = {acl.principal: acl.permission.value for acl in w.secrets.list_acls(scope.name)}
        found[scope.name] = acls
    return found


def machines(w):
    """Not those that a job made for one of its runs."""
    return [cluster for cluster in w.clusters.list() if cluster.cluster_source != ClusterSource.JOB]


def grants(w, what, name):
    return {g.principal: sorted(p.value for p in g.privileges) for g in w.grants.get(what, name).privilege_assignments or []}


def securables(what, items):
    def read(seen):
        of = lambda item: {"item": item.as_dict(), "grants": grants(seen.w, what, getattr(item, "full_name", None) or item.name)}
        return {getattr(item, "full_name", None) or item.name: of(item) for item in items(seen.w)}

    return read


def schemas(w):
    """Not those that a foreign catalog only shows."""
    ours = [c for c in w.catalogs.list() if c.catalog_type != CatalogType.FOREIGN_CATALOG]
    return [s for c in ours for s in w.schemas.list(c.name) if s.name != "information_schema"]


def tables(w):
    return [w.tables.get(t.full_name) for s in schemas(w) for t in w.tables.list(s.catalog_name, s.name)]


READERS = {
    "users": users,
    "service principals": service_principals,
    "groups": groups,
    "tree": tree,
    "policies": with_access("cluster-policies", "policy", lambda w: w.cluster_policies.list(), lambda p: p.policy_id, lambda p: p.name),
    "pools": with_access("instance-pools", "pool", lambda w: w.instance_pools.list(), lambda p: p.instance_pool_id, lambda p: p.instance_pool_name),
    "warehouses": with_access("warehouses", "warehouse", lambda w: w.warehouses.list(), lambda i: i.id, lambda i: i.name),
    "clusters": with_access("clusters", "cluster", machines, lambda c: c.cluster_id, lambda c: c.cluster_name),
    "pipelines": with_access(
        "pipelines", "pipeline", lambda w: [w.pipelines.get(p.pipeline_id) for p in w.pipelines.list_pipelines()],
        lambda p: p.pipeline_id, lambda p: p.name, lambda p: p.spec.as_dict()),
    "jobs": with_access("jobs", "job", lambda w: [w.jobs.get(j.job_id) for j in w.jobs.list()], lambda j: j.job_id, lambda j: j.settings.name, lambda j: j.settings.as_dict()),
    "scopes": scopes,
    "queries": with_access("queries", "query", lambda w: w.queries.list(), lambda q: q.id, lambda q: q.display_name),
    "alerts": with_access("alerts", "alert", lambda w: w.alerts.list(), lambda a: a.id, lambda a: a.display_name),
    "dashboards": with_access("dashboards", "dashboard", lambda w: [w.lakeview.get(d.dashboard_id) for d in w.lakeview.list()], lambda d: d.dashboard_id, lambda d: d.path),
    "catalogs": securables("catalog", lambda w: w.catalogs.list()),
    "schemas": securables("schema", schemas),
    "volumes": securables("volume", lambda w: [v for s in schemas(w) for v in w.volumes.list(s.catalog_name, s.name)]),
    "functions": securables("function", lambda w: [f for s in schemas(w) for f in w.functions.list(s.catalog_name, s.name)]),
    "tables": securables("table", tables),
    "locations": securables("external_location", lambda w: w.external_locations.list()),
}


@pytest.fixture(scope="module")
def workspaces():
    sims = conftest.Sim("--items", "300", "--seed", "21"), conftest.Sim("--empty", "--seed", "22")
    yield sims
    for sim in sims:
        sim.stop()


@pytest.fixture(scope="module")
def restored(workspaces, tmp_path_factory):
    """What the SDK sees of the source when it was backed up, and of the target when that was restored."""
    folder = tmp_path_factory.mktemp("restore")
    prod, dr = ({"databricks": {"host": sim.urls[0], "token": "env:SIM_TOKEN"}, "protection": "none"} for sim in workspaces)
    dr["databricks"]["restore_warehouse"] = next(iter(workspaces[1].client().warehouses.list())).id
    config = {"version": 1, "store": str(folder / "store"), "environments": {"prod": prod, "dr": dr}}
    (folder / "lakehold.yaml").write_text(json.dumps(config))
    program = os.environ.get("LAKEHOLD") or str(pathlib.Path(conftest.binary()).with_name("lakehold"))

    def lakehold(*words):
        settings = {"PATH": os.environ["PATH"], "HOME": str(folder), "SIM_TOKEN": "sim"}
        ended = subprocess.run([program, "-q", *words], cwd=folder, env=settings, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr + ended.stdout

    lakehold("backup", "--env", "prod")
    was = Seen(workspaces[0].client())
    lakehold("restore", "prod", "--to", "dr", "--active", "--apply")
    return was, Seen(workspaces[1].client())


@pytest.mark.parametrize("kind", READERS)
def test_the_sdk_finds_in_the_target_what_was_in_the_source(restored, kind):
    was, now = (seen.of(kind) for seen in restored)
    assert was
    missing = sorted(set(was) - set(now))
    assert missing == []
    for name, item in was.items():
        assert now[name] == item, name
