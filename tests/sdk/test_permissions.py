"""Permissions of every object type: read, replace, add, and the rules."""

import base64

import pytest
from databricks.sdk import errors
from databricks.sdk.service import iam, jobs
from databricks.sdk.service import workspace as ws


def make(w, kind, name):
    """An object of a type, its id in the permissions API."""
    if kind == "instance-pools":
        return w.instance_pools.create(instance_pool_name=name, node_type_id="i3.xlarge").instance_pool_id
    if kind == "cluster-policies":
        return w.cluster_policies.create(name=name, definition="{}").policy_id
    if kind == "clusters":
        return w.clusters.create(cluster_name=name, spark_version="16.4.x-scala2.12", node_type_id="i3.xlarge", num_workers=0).response.cluster_id
    if kind == "jobs":
        return str(w.jobs.create(name=name, tasks=[jobs.Task(task_key="a", notebook_task=jobs.NotebookTask(notebook_path="/x"))]).job_id)
    if kind == "pipelines":
        return w.pipelines.create(name=name, catalog="main", schema="default").pipeline_id
    if kind == "directories":
        w.workspace.mkdirs(f"/Shared/{name}")
        return str(w.workspace.get_status(f"/Shared/{name}").object_id)
    if kind in ("notebooks", "files"):
        path = f"/Shared/{name}"
        if kind == "notebooks":
            w.workspace.import_(path, content=base64.b64encode(b"# Databricks notebook source\n").decode(),
                                format=ws.ImportFormat.SOURCE, language=ws.Language.PYTHON)
        else:
            w.workspace.import_(path, content=base64.b64encode(b"x").decode(), format=ws.ImportFormat.RAW)
        return str(w.workspace.get_status(path).object_id)
    if kind == "repos":
        return str(w.repos.create(url=f"https://github.com/a/{name}.git", provider="gitHub", path=f"/Repos/operator@example.com/{name}").id)
    if kind in ("warehouses", "sql/warehouses"):
        return w.warehouses.create(name=name, cluster_size="Small", max_num_clusters=1).id
    from databricks.sdk.service import dashboards, sql
    house = next(iter(w.warehouses.list())).id
    if kind in ("sql/queries", "queries"):
        return w.queries.create(query=sql.CreateQueryRequestQuery(display_name=name, query_text="SELECT 1", warehouse_id=house)).id
    if kind == "sql/alerts":
        query = make(w, "sql/queries", f"{name} q")
        return w.alerts.create(alert=sql.CreateAlertRequestAlert(display_name=name, query_id=query)).id
    if kind == "alertsv2":
        alert = sql.AlertV2(display_name=name, query_text="SELECT 1", warehouse_id=house,
                            schedule=sql.CronSchedule(quartz_cron_schedule="0 0 * * * ?", timezone_id="UTC"),
                            evaluation=sql.AlertV2Evaluation(source=sql.AlertV2OperandColumn(name="n"),
                                                             comparison_operator=sql.ComparisonOperator.EQUAL))
        return w.alerts_v2.create_alert(alert).id
    if kind == "dashboards":
        return w.lakeview.create(dashboards.Dashboard(display_name=name, warehouse_id=house)).dashboard_id
    raise ValueError(kind)


KINDS = {
    "instance-pools": "CAN_ATTACH_TO", "cluster-policies": "CAN_USE", "clusters": "CAN_RESTART", "jobs": "CAN_MANAGE_RUN",
    "pipelines": "CAN_RUN", "directories": "CAN_READ", "notebooks": "CAN_RUN", "files": "CAN_EDIT", "repos": "CAN_READ",
    "warehouses": "CAN_USE", "sql/warehouses": "CAN_MONITOR", "sql/queries": "CAN_RUN", "queries": "CAN_READ",
    "sql/alerts": "CAN_RUN", "alertsv2": "CAN_READ", "dashboards": "CAN_READ",
}


def direct(acl):
    """{principal: levels} without what is inherited."""
    found = {}
    for entry in acl.access_control_list or []:
        who = entry.user_name or entry.group_name or entry.service_principal_name
        levels = {p.permission_level.value for p in entry.all_permissions if not p.inherited}
        if levels:
            found[who] = levels
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_permissions(w, people, name, kind):
    user, group = people
    level = iam.PermissionLevel(KINDS[kind])
    oid = make(w, kind, name)
    before = w.permissions.get(kind, oid)
    assert before.object_id.endswith(oid)
    changed = w.permissions.update(kind, oid, access_control_list=[iam.AccessControlRequest(group_name=group, permission_level=level)])
    assert direct(changed)[group] == {level.value}
    owned = [iam.AccessControlRequest(user_name=user, permission_level=iam.PermissionLevel.IS_OWNER)] if "IS_OWNER" in {
        p.permission_level.value for p in w.permissions.get_permission_levels(kind, oid).permission_levels} else []
    if owned:
        with pytest.raises(errors.InvalidParameterValue, match="exactly one owner"):
            w.permissions.set(kind, oid, access_control_list=[iam.AccessControlRequest(group_name=group, permission_level=level)])
        with pytest.raises(errors.InvalidParameterValue):
            w.permissions.set(kind, oid, access_control_list=[
                iam.AccessControlRequest(group_name=group, permission_level=iam.PermissionLevel.IS_OWNER)])
        w.permissions.set(kind, oid, access_control_list=owned)
        assert direct(w.permissions.get(kind, oid)) == {user: {"IS_OWNER"}}
    else:
        w.permissions.set(kind, oid, access_control_list=[iam.AccessControlRequest(user_name=user, permission_level=level)])
        assert direct(w.permissions.get(kind, oid)) == {user: {level.value}}
    with pytest.raises(errors.DatabricksError, match="does not exist"):
        w.permissions.update(kind, oid, access_control_list=[iam.AccessControlRequest(user_name="nobody@example.com", permission_level=level)])


def test_absent_objects_have_none(w):
    for kind, oid in [("jobs", "1"), ("clusters", "none"), ("notebooks", "1"), ("dashboards", "0" * 32), ("sql/queries", "none")]:
        with pytest.raises(errors.NotFound):
            w.permissions.get(kind, oid)


def test_inheritance_is_told(w, people, name):
    _, group = people
    w.workspace.mkdirs(f"/Shared/{name}/inner")
    outer = str(w.workspace.get_status(f"/Shared/{name}").object_id)
    inner = str(w.workspace.get_status(f"/Shared/{name}/inner").object_id)
    w.permissions.update("directories", outer, access_control_list=[
        iam.AccessControlRequest(group_name=group, permission_level=iam.PermissionLevel.CAN_RUN)])
    entries = [e for e in w.permissions.get("directories", inner).access_control_list if e.group_name == group]
    assert [(p.inherited, p.inherited_from_object) for p in entries[0].all_permissions] == [(True, [f"/directories/{outer}"])]


def test_token_permissions(w):
    acl = w.permissions.get("authorization", "tokens")
    assert acl.access_control_list
