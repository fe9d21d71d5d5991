"""Warehouses, queries, alerts of both generations, dashboards."""

import json

import pytest
from databricks.sdk import errors
from databricks.sdk.service import dashboards, sql


@pytest.fixture
def warehouse(w, name):
    made = w.warehouses.create_and_wait(name=name, cluster_size="2X-Small", max_num_clusters=1, auto_stop_mins=10)
    yield made.id
    w.warehouses.delete(made.id)


@pytest.fixture
def query(w, warehouse, name):
    made = w.queries.create(query=sql.CreateQueryRequestQuery(
        display_name=name, warehouse_id=warehouse, query_text="SELECT 1", parent_path="/Workspace/Shared"))
    yield made
    w.queries.delete(made.id)


def test_warehouses(w, warehouse, name):
    got = w.warehouses.get(warehouse)
    # Creating one starts it.
    assert (got.name, got.state) == (name, sql.State.RUNNING)
    w.warehouses.stop_and_wait(warehouse)
    assert w.warehouses.get(warehouse).state == sql.State.STOPPED
    w.warehouses.start_and_wait(warehouse)
    w.warehouses.edit(warehouse, name=f"{name} 2", cluster_size="Small", max_num_clusters=2, auto_stop_mins=20)
    got = w.warehouses.get(warehouse)
    assert (got.name, got.cluster_size, got.auto_stop_mins) == (f"{name} 2", "Small", 20)
    names = {x.name for x in w.warehouses.list()}
    assert {"Serverless Starter Warehouse", f"{name} 2"} <= names
    with pytest.raises(errors.InvalidParameterValue):
        w.warehouses.create(name=f"{name} 2", cluster_size="Small")
    with pytest.raises(errors.NotFound):
        w.warehouses.get("0000000000000000")
    assert warehouse in {d.warehouse_id for d in w.data_sources.list()}


def test_warehouses_are_paged(w):
    ids = [x.id for x in w.warehouses.list(page_size=1)]
    assert len(ids) == len(set(ids)) > 1


def test_queries(w, query, name):
    got = w.queries.get(query.id)
    assert (got.display_name, got.query_text, got.parent_path) == (name, "SELECT 1", "/Workspace/Shared")
    changed = w.queries.update(query.id, update_mask="query_text,description",
                               query=sql.UpdateQueryRequestQuery(query_text="SELECT 2", description="two"))
    assert (changed.query_text, changed.description, changed.display_name) == ("SELECT 2", "two", name)
    raw = w.api_client.do("GET", "/api/2.0/sql/queries", query={"page_size": 100})
    assert all("parent_path" not in q for q in raw["results"])
    with pytest.raises(errors.NotFound):
        w.queries.get("00000000-0000-0000-0000-000000000000")
    with pytest.raises(errors.NotFound):
        w.queries.create(query=sql.CreateQueryRequestQuery(display_name="x", warehouse_id="0000000000000000"))


def test_names_in_a_folder_are_resolved_on_request(w, query, warehouse, name):
    again = sql.CreateQueryRequestQuery(display_name=name, warehouse_id=warehouse, parent_path="/Workspace/Shared")
    with pytest.raises(errors.ResourceAlreadyExists):
        w.queries.create(query=again)
    made = w.queries.create(query=again, auto_resolve_display_name=True)
    assert made.display_name != name


def test_queries_are_paged_and_trashed_ones_hidden(w, query, warehouse, name):
    for i in range(3):
        w.queries.create(query=sql.CreateQueryRequestQuery(display_name=f"{name} {i}", warehouse_id=warehouse))
    ids = [q.id for q in w.queries.list(page_size=2)]
    assert len(ids) == len(set(ids)) and query.id in ids
    gone = [q.id for q in w.queries.list() if q.display_name == f"{name} 0"][0]
    w.queries.delete(gone)
    assert gone not in {q.id for q in w.queries.list()}
    assert w.queries.get(gone).lifecycle_state == sql.LifecycleState.TRASHED


def test_visualizations(w, query):
    made = w.query_visualizations.create(visualization=sql.CreateVisualizationRequestVisualization(
        query_id=query.id, display_name="Chart", type="CHART", serialized_options="{}"))
    w.query_visualizations.update(made.id, update_mask="display_name", visualization=sql.UpdateVisualizationRequestVisualization(display_name="Pie"))
    assert [(v.id, v.display_name) for v in w.queries.list_visualizations(query.id)] == [(made.id, "Pie")]
    w.query_visualizations.delete(made.id)
    assert list(w.queries.list_visualizations(query.id)) == []


def test_alerts(w, query, name):
    condition = sql.AlertCondition(
        op=sql.AlertOperator.GREATER_THAN, operand=sql.AlertConditionOperand(column=sql.AlertOperandColumn(name="n")),
        threshold=sql.AlertConditionThreshold(value=sql.AlertOperandValue(double_value=3)))
    made = w.alerts.create(alert=sql.CreateAlertRequestAlert(display_name=name, query_id=query.id, condition=condition))
    assert w.alerts.get(made.id).condition.threshold.value.double_value == 3
    w.alerts.update(made.id, update_mask="display_name", alert=sql.UpdateAlertRequestAlert(display_name=f"{name} 2"))
    listed = {a.id: a.display_name for a in w.alerts.list(page_size=1)}
    assert listed[made.id] == f"{name} 2"
    w.alerts.delete(made.id)
    assert made.id not in {a.id for a in w.alerts.list()}
    with pytest.raises(errors.NotFound):
        w.alerts.get("00000000-0000-0000-0000-000000000000")


def test_alerts_v2(w, warehouse, name):
    alert = sql.AlertV2(
        display_name=name, query_text="SELECT 1 AS n", warehouse_id=warehouse,
        schedule=sql.CronSchedule(quartz_cron_schedule="0 0 * * * ?", timezone_id="UTC", pause_status=sql.SchedulePauseStatus.PAUSED),
        evaluation=sql.AlertV2Evaluation(
            source=sql.AlertV2OperandColumn(name="n"), comparison_operator=sql.ComparisonOperator.GREATER_THAN,
            threshold=sql.AlertV2Operand(value=sql.AlertV2OperandValue(double_value=1))))
    made = w.alerts_v2.create_alert(alert)
    got = w.alerts_v2.get_alert(made.id)
    assert (got.display_name, got.schedule.pause_status) == (name, sql.SchedulePauseStatus.PAUSED)
    alert.display_name = f"{name} 2"
    w.alerts_v2.update_alert(made.id, alert, "display_name")
    assert {a.id: a.display_name for a in w.alerts_v2.list_alerts(page_size=1)}[made.id] == f"{name} 2"
    w.alerts_v2.trash_alert(made.id)
    assert made.id not in {a.id for a in w.alerts_v2.list_alerts()}
    w.alerts_v2.trash_alert(made.id, purge=True)
    with pytest.raises(errors.NotFound):
        w.alerts_v2.get_alert(made.id)


def board(name, warehouse, **more):
    serialized = json.dumps({"pages": [{"name": "p", "displayName": "Page", "layout": []}]})
    return dashboards.Dashboard(display_name=name, warehouse_id=warehouse, serialized_dashboard=serialized, **more)


def test_dashboards(w, warehouse, name):
    made = w.lakeview.create(board(name, warehouse, parent_path="/Workspace/Shared"))
    # The server strips the prefix, adds pageType and a newline.
    assert (made.parent_path, made.path) == ("/Shared", f"/Shared/{name}.lvdash.json")
    got = w.lakeview.get(made.dashboard_id)
    assert got.serialized_dashboard.endswith("\n") and "pageType" in got.serialized_dashboard
    with pytest.raises(errors.ResourceAlreadyExists):
        w.lakeview.create(board(name, warehouse, parent_path="/Shared"))
    changed = w.lakeview.update(made.dashboard_id, board(f"{name} 2", warehouse, etag=made.etag))
    assert changed.display_name == f"{name} 2" and changed.etag != made.etag
    with pytest.raises(errors.ResourceConflict):
        w.lakeview.update(made.dashboard_id, board(f"{name} 3", warehouse, etag=made.etag))
    listed = {d.dashboard_id: d for d in w.lakeview.list(page_size=1)}
    assert listed[made.dashboard_id].serialized_dashboard is None
    with pytest.raises(errors.NotFound):
        w.lakeview.get_published(made.dashboard_id)
    w.lakeview.publish(made.dashboard_id, embed_credentials=False, warehouse_id=warehouse)
    assert w.lakeview.get_published(made.dashboard_id).embed_credentials is False
    w.lakeview.unpublish(made.dashboard_id)
    w.lakeview.trash(made.dashboard_id)
    assert made.dashboard_id not in {d.dashboard_id for d in w.lakeview.list()}
    assert made.dashboard_id in {d.dashboard_id for d in w.lakeview.list(show_trashed=True)}
    with pytest.raises(errors.NotFound):
        w.lakeview.get("0" * 32)


def test_schedules_and_subscriptions(w, warehouse, name):
    made = w.lakeview.create(board(name, warehouse, parent_path="/Shared"))
    cron = dashboards.CronSchedule(quartz_cron_expression="0 0 7 ? * MON", timezone_id="UTC")
    schedule = w.lakeview.create_schedule(made.dashboard_id, dashboards.Schedule(cron_schedule=cron, display_name="Mondays"))
    paused = w.lakeview.update_schedule(made.dashboard_id, schedule.schedule_id, dashboards.Schedule(
        cron_schedule=cron, display_name="Mondays", pause_status=dashboards.SchedulePauseStatus.PAUSED, etag=schedule.etag))
    assert paused.pause_status == dashboards.SchedulePauseStatus.PAUSED
    me = int(w.current_user.me().id)
    subscriber = dashboards.Subscriber(user_subscriber=dashboards.SubscriptionSubscriberUser(user_id=me))
    sub = w.lakeview.create_subscription(made.dashboard_id, schedule.schedule_id, dashboards.Subscription(subscriber=subscriber))
    assert [s.subscriber.user_subscriber.user_id for s in w.lakeview.list_subscriptions(made.dashboard_id, schedule.schedule_id)] == [me]
    assert w.lakeview.get_subscription(made.dashboard_id, schedule.schedule_id, sub.subscription_id).schedule_id == schedule.schedule_id
    w.lakeview.delete_subscription(made.dashboard_id, schedule.schedule_id, sub.subscription_id)
    assert [s.schedule_id for s in w.lakeview.list_schedules(made.dashboard_id)] == [schedule.schedule_id]
    w.lakeview.delete_schedule(made.dashboard_id, schedule.schedule_id)
    with pytest.raises(errors.NotFound):
        w.lakeview.get_schedule(made.dashboard_id, schedule.schedule_id)
    w.lakeview.trash(made.dashboard_id)
