"""Unity Catalog: every securable, bindings, grants, paging."""

import pytest
from databricks.sdk import errors
from databricks.sdk.service import catalog as uc


@pytest.fixture
def cat(w, name):
    w.catalogs.create(name, comment="of the judge", properties={"a": "b"})
    yield name
    w.catalogs.delete(name, force=True)


@pytest.fixture
def schema(w, cat):
    w.schemas.create("s", cat)
    return f"{cat}.s"


@pytest.fixture
def location(w, name):
    w.storage_credentials.create(f"{name}_c", aws_iam_role=uc.AwsIamRoleRequest(role_arn="arn:aws:iam::123456789012:role/x"))
    w.external_locations.create(f"{name}_l", f"s3://{name.replace('_', '-')}/lake", f"{name}_c")
    yield f"s3://{name.replace('_', '-')}/lake"
    w.external_locations.delete(f"{name}_l", force=True)
    w.storage_credentials.delete(f"{name}_c", force=True)


def test_metastore(w, sim):
    info = sim.ask("info")
    assert w.metastores.summary().metastore_id == info["metastore_id"]
    assert w.metastores.current().workspace_id == info["workspace_id"]
    assert w.metastores.get(info["metastore_id"]).metastore_id == info["metastore_id"]
    assert [m.metastore_id for m in w.metastores.list()] == [info["metastore_id"]]
    w.system_schemas.enable(info["metastore_id"], "billing")
    assert {"billing": "ENABLE_COMPLETED"}.items() <= {s.schema: s.state for s in w.system_schemas.list(info["metastore_id"])}.items()
    w.system_schemas.disable(info["metastore_id"], "billing")


def test_catalogs(w, cat):
    got = w.catalogs.get(cat.upper())
    assert (got.name, got.comment, got.properties, got.catalog_type) == (cat, "of the judge", {"a": "b"}, uc.CatalogType.MANAGED_CATALOG)
    assert {s.name for s in w.schemas.list(cat)} == {"default", "information_schema"}
    w.catalogs.update(cat, comment="changed", owner=w.current_user.me().user_name)
    assert w.catalogs.get(cat).comment == "changed"
    assert {"main", "system", cat} <= {c.name for c in w.catalogs.list(include_unbound=True)}
    assert w.catalogs.get("system").catalog_type == uc.CatalogType.SYSTEM_CATALOG
    with pytest.raises(errors.BadRequest, match="already exists"):
        w.catalogs.create(cat)
    with pytest.raises(errors.BadRequest):
        w.catalogs.create("a b")
    with pytest.raises(errors.NotFound, match="does not exist"):
        w.catalogs.get(f"{cat}_missing")
    with pytest.raises(errors.BadRequest, match="not empty"):
        w.catalogs.delete(cat)


def test_renaming_takes_all_below_along(w, cat, people):
    _, group = people
    w.schemas.create("s", cat)
    w.grants.update("schema", f"{cat}.s", changes=[uc.PermissionsChange(principal=group, add=[uc.Privilege.USE_SCHEMA])])
    w.catalogs.update(cat, new_name=f"{cat}_new")
    assert [p.principal for p in w.grants.get("schema", f"{cat}_new.s").privilege_assignments] == [group]
    with pytest.raises(errors.NotFound):
        w.schemas.get(f"{cat}.s")
    w.catalogs.update(f"{cat}_new", new_name=cat)
    assert w.schemas.get(f"{cat}.s").catalog_name == cat


def test_isolation_and_bindings(start):
    sim = start("--workspaces", "2", "--share-metastore", "--share-account", "--items", "50")
    a, b = sim.client(0), sim.client(1)
    here, there = a.get_workspace_id(), b.get_workspace_id()
    a.catalogs.create("shared_one")
    assert "shared_one" in {c.name for c in b.catalogs.list()}
    a.catalogs.update("shared_one", isolation_mode=uc.CatalogIsolationMode.ISOLATED)
    bound = a.workspace_bindings.get_bindings("catalog", "shared_one")
    assert [x.workspace_id for x in bound] == [here], "the caller is bound by itself"
    assert "shared_one" not in {c.name for c in b.catalogs.list()}
    assert "shared_one" in {c.name for c in b.catalogs.list(include_unbound=True)}
    with pytest.raises(errors.PermissionDenied):
        list(b.schemas.list("shared_one"))
    a.workspace_bindings.update_bindings("catalog", "shared_one", add=[
        uc.WorkspaceBinding(workspace_id=there, binding_type=uc.WorkspaceBindingBindingType.BINDING_TYPE_READ_ONLY)])
    assert {s.name for s in b.schemas.list("shared_one")} == {"default", "information_schema"}
    a.workspace_bindings.update("shared_one", unassign_workspaces=[there])
    assert a.workspace_bindings.get("shared_one").workspaces == [here]
    assert a.metastores.summary().metastore_id == b.metastores.summary().metastore_id


def test_workspaces_have_metastores_of_their_own_unless_told(start):
    sim = start("--workspaces", "2", "--empty")
    a, b = sim.client(0), sim.client(1)
    assert a.metastores.summary().metastore_id != b.metastores.summary().metastore_id
    assert {c.name for c in a.catalogs.list()} == {"main", "system"} == {c.name for c in b.catalogs.list()}
    assert {s.name for s in a.schemas.list("main")} == {"default", "information_schema"}
    assert [x.name for x in a.warehouses.list()] == ["Serverless Starter Warehouse"]


def test_a_workspace_without_unity_catalog(start):
    sim = start("--empty")
    w = sim.client()
    ms = w.metastores.summary().metastore_id
    w.metastores.unassign(w.get_workspace_id(), ms)
    for call in (w.metastores.summary, w.metastores.current, lambda: list(w.catalogs.list()), lambda: list(w.connections.list())):
        with pytest.raises(errors.NotFound) as refused:
            call()
        assert refused.value.error_code == "METASTORE_DOES_NOT_EXIST"
    w.metastores.assign(w.get_workspace_id(), ms, "main")
    assert list(w.catalogs.list())


def test_schemas(w, schema, cat):
    assert w.schemas.get(schema).schema_id
    w.schemas.update(schema, comment="c", properties={"k": "v"})
    got = w.schemas.get(schema)
    assert (got.comment, got.properties) == ("c", {"k": "v"})
    assert w.schemas.update(schema, new_name="t").full_name == f"{cat}.t"
    w.schemas.delete(f"{cat}.t")
    with pytest.raises(errors.NotFound) as gone:
        w.schemas.get(f"{cat}.t")
    assert gone.value.error_code == "SCHEMA_DOES_NOT_EXIST"
    with pytest.raises(errors.NotFound):
        list(w.schemas.list(f"{cat}_missing"))


def test_external_tables_by_rest(w, schema, location):
    cat, s = schema.split(".")
    column = uc.ColumnInfo(name="id", type_name=uc.ColumnTypeName.LONG, type_text="bigint", type_json='{"name":"id","type":"long","nullable":true,"metadata":{}}', position=0)
    made = w.tables.create("t", cat, s, uc.TableType.EXTERNAL, uc.DataSourceFormat.DELTA, f"{location}/t", columns=[column])
    assert made.full_name == f"{schema}.t"
    assert w.tables.exists(f"{schema}.t").table_exists and not w.tables.exists(f"{schema}.u").table_exists
    w.tables.update(f"{schema}.t", owner=w.current_user.me().user_name)
    assert [t.name for t in w.tables.list(cat, s)] == ["t"]
    assert [t.full_name for t in w.tables.list_summaries(cat)] == [f"{schema}.t"]
    with pytest.raises(errors.InvalidParameterValue):
        w.tables.create("m", cat, s, uc.TableType.MANAGED, uc.DataSourceFormat.DELTA, "")
    key = uc.TableConstraint(primary_key_constraint=uc.PrimaryKeyConstraint(name="pk", child_columns=["id"]))
    w.table_constraints.create(f"{schema}.t", key)
    assert w.tables.get(f"{schema}.t").table_constraints[0].primary_key_constraint.child_columns == ["id"]
    assert not next(iter(w.tables.list(cat, s))).table_constraints, "the list omits constraints"
    w.table_constraints.delete(f"{schema}.t", "pk", False)
    w.tables.delete(f"{schema}.t")
    with pytest.raises(errors.NotFound):
        w.tables.get(f"{schema}.t")


def test_the_population_has_every_type_of_table(w):
    seen, listed = {}, {}
    for c in w.catalogs.list(include_unbound=True):
        for s in w.schemas.list(c.name):
            for t in w.tables.list(c.name, s.name):
                seen.setdefault(t.table_type, []).append(t.full_name)
                listed[t.full_name] = t
    assert {uc.TableType.MANAGED, uc.TableType.EXTERNAL, uc.TableType.VIEW} <= set(seen)
    view = seen[uc.TableType.VIEW][0]
    assert listed[view].view_dependencies is None, "the list omits dependencies"
    got = w.tables.get(view)
    assert got.view_definition and got.view_dependencies.dependencies


def test_volumes(w, schema, location):
    cat, s = schema.split(".")
    managed = w.volumes.create(cat, s, "m", uc.VolumeType.MANAGED, comment="c")
    assert managed.storage_location and managed.volume_id
    w.volumes.create(cat, s, "x", uc.VolumeType.EXTERNAL, storage_location=f"{location}/v")
    assert {v.name for v in w.volumes.list(cat, s)} == {"m", "x"}
    w.volumes.update(f"{schema}.m", new_name="n", comment="d")
    assert w.volumes.read(f"{schema}.n").comment == "d"
    with pytest.raises(errors.InvalidParameterValue):
        w.volumes.create(cat, s, "y", uc.VolumeType.EXTERNAL)
    w.volumes.delete(f"{schema}.n")
    with pytest.raises(errors.NotFound):
        w.volumes.read(f"{schema}.n")


def test_functions(w, schema):
    cat, s = schema.split(".")
    parameter = uc.FunctionParameterInfo(name="x", type_text="int", type_name=uc.ColumnTypeName.INT, position=0, type_json='{"name":"x","type":"integer","nullable":true,"metadata":{}}')
    made = w.functions.create(uc.CreateFunction(
        name="f", catalog_name=cat, schema_name=s, input_params=uc.FunctionParameterInfos(parameters=[parameter]),
        data_type=uc.ColumnTypeName.INT, full_data_type="INT", routine_body=uc.CreateFunctionRoutineBody.SQL, routine_definition="x + 1",
        parameter_style=uc.CreateFunctionParameterStyle.S, is_deterministic=True, sql_data_access=uc.CreateFunctionSqlDataAccess.CONTAINS_SQL,
        is_null_call=False, security_type=uc.CreateFunctionSecurityType.DEFINER, specific_name="f"))
    assert made.full_name == f"{schema}.f"
    assert w.functions.get(f"{schema}.f").routine_definition == "x + 1"
    assert [f.name for f in w.functions.list(cat, s)] == ["f"]
    w.functions.update(f"{schema}.f", owner=w.current_user.me().user_name)
    w.functions.delete(f"{schema}.f")
    with pytest.raises(errors.NotFound):
        w.functions.get(f"{schema}.f")


def test_models(w, schema, people):
    _, group = people
    cat, s = schema.split(".")
    made = w.registered_models.create(catalog_name=cat, schema_name=s, name="m", comment="c")
    assert made.full_name == f"{schema}.m"
    w.registered_models.update(f"{schema}.m", comment="d")
    assert w.registered_models.get(f"{schema}.m").comment == "d"
    assert [m.name for m in w.registered_models.list(catalog_name=cat, schema_name=s)] == ["m"]
    # The securable type of a model is `function`.
    w.grants.update("function", f"{schema}.m", changes=[uc.PermissionsChange(principal=group, add=[uc.Privilege.EXECUTE])])
    assert [g.principal for g in w.grants.get("function", f"{schema}.m").privilege_assignments] == [group]
    w.registered_models.delete(f"{schema}.m")
    with pytest.raises(errors.NotFound):
        w.registered_models.get(f"{schema}.m")


def test_model_versions_and_aliases(w):
    model = next(iter(w.registered_models.list()))
    versions = list(w.model_versions.list(model.full_name))
    assert versions and versions[0].version == 1
    w.registered_models.set_alias(model.full_name, "judge", 1)
    got = w.registered_models.get(model.full_name, include_aliases=True)
    assert ("judge", 1) in {(a.alias_name, a.version_num) for a in got.aliases}
    assert not w.registered_models.get(model.full_name).aliases
    assert w.model_versions.get_by_alias(model.full_name, "judge").version == 1
    assert w.model_versions.get(model.full_name, 1).run_id
    w.registered_models.delete_alias(model.full_name, "judge")
    with pytest.raises(errors.NotFound):
        w.model_versions.get_by_alias(model.full_name, "judge")


def test_storage_credentials_and_locations(w, location, name):
    credential = w.storage_credentials.get(f"{name}_c")
    assert credential.aws_iam_role.external_id and credential.aws_iam_role.unity_catalog_iam_arn
    w.storage_credentials.update(f"{name}_c", comment="c", isolation_mode=uc.IsolationMode.ISOLATION_MODE_ISOLATED)
    assert f"{name}_c" in {c.name for c in w.storage_credentials.list(include_unbound=True)}
    assert list(w.workspace_bindings.get_bindings("storage_credential", f"{name}_c"))
    w.external_locations.update(f"{name}_l", comment="c", read_only=True)
    got = w.external_locations.get(f"{name}_l")
    assert (got.read_only, got.credential_name, got.credential_id) == (True, f"{name}_c", credential.id)
    assert f"{name}_l" in {x.name for x in w.external_locations.list(include_unbound=True)}
    with pytest.raises(errors.BadRequest, match="overlap"):
        w.external_locations.create(f"{name}_2", f"{location}/below", f"{name}_c")
    with pytest.raises(errors.NotFound):
        w.external_locations.create(f"{name}_3", "s3://elsewhere/x", f"{name}_missing")
    with pytest.raises(errors.BadRequest, match="in use"):
        w.storage_credentials.delete(f"{name}_c")
    with pytest.raises(errors.InvalidParameterValue):
        w.storage_credentials.create(f"{name}_none")


def test_connections(w, name):
    options = {"host": "db", "port": "5432", "user": "u", "password": "p"}
    made = w.connections.create(name=name, connection_type=uc.ConnectionType.POSTGRESQL, options=options, comment="c")
    # What is secret is not returned.
    assert made.options == {"host": "db", "port": "5432"}
    assert w.connections.get(name).connection_id == made.connection_id
    w.connections.update(name, options={**options, "host": "db2"})
    assert w.connections.get(name).options["host"] == "db2"
    with pytest.raises(errors.InvalidParameterValue):
        w.connections.update(name, options={"host": "db3"})
    foreign = w.catalogs.create(f"{name}_f", connection_name=name, options={"database": "shop"})
    assert foreign.catalog_type == uc.CatalogType.FOREIGN_CATALOG
    with pytest.raises(errors.BadRequest):
        w.connections.delete(name)
    w.catalogs.delete(f"{name}_f", force=True)
    assert name in {c.name for c in w.connections.list()}
    w.connections.delete(name)
    with pytest.raises(errors.NotFound):
        w.connections.get(name)


def paged_grantees(w, kind, full_name, max_results):
    """Who has grants, over all pages: any of them may be empty and have a next one."""
    found, token = set(), None
    while True:
        page = w.grants.get(kind, full_name, max_results=max_results, page_token=token)
        found.update(p.principal for p in page.privilege_assignments or [])
        token = page.next_page_token
        if not token:
            return found


def test_grants(w, schema, cat, people):
    user, group = people
    add = uc.PermissionsChange(principal=group, add=[uc.Privilege.USE_CATALOG, uc.Privilege.SELECT])
    both = w.grants.update("catalog", cat, changes=[add, uc.PermissionsChange(principal=user, add=[uc.Privilege.USE_CATALOG])])
    assert {p.principal: {x.value for x in p.privileges} for p in both.privilege_assignments} == {group: {"USE_CATALOG", "SELECT"}, user: {"USE_CATALOG"}}
    w.grants.update("catalog", cat, changes=[uc.PermissionsChange(principal=group, remove=[uc.Privilege.SELECT])])
    assert {p.principal: [x.value for x in p.privileges] for p in w.grants.get("catalog", cat).privilege_assignments}[group] == ["USE_CATALOG"]
    assert [p.principal for p in w.grants.get("catalog", cat, principal=user).privilege_assignments] == [user]
    effective = w.grants.get_effective("schema", schema).privilege_assignments
    assert {(e.principal, p.inherited_from_name) for e in effective for p in e.privileges} == {(group, cat), (user, cat)}
    assert {p.principal for p in w.grants.list("catalog", cat, page_size=1)} == {user, group}
    with pytest.raises(errors.InvalidParameterValue):
        w.grants.update("catalog", cat, changes=[uc.PermissionsChange(principal=group, add=[uc.Privilege.SELECT], remove=[uc.Privilege.SELECT])])
    with pytest.raises(errors.InvalidParameterValue):
        w.grants.update("catalog", cat, changes=[uc.PermissionsChange(principal=group, add=[uc.Privilege.READ_FILES])])
    with pytest.raises(errors.NotFound):
        w.grants.update("catalog", cat, changes=[uc.PermissionsChange(principal="nobody", add=[uc.Privilege.SELECT])])
    for size in (1, 149, -1):
        with pytest.raises(errors.InvalidParameterValue):
            w.grants.get("catalog", cat, max_results=size)
    assert paged_grantees(w, "catalog", cat, max_results=150) == {user, group}
    with pytest.raises(errors.NotFound):
        w.grants.get("catalog", f"{cat}_missing")
    with pytest.raises(errors.InvalidParameterValue):
        w.grants.get("cupboard", cat)


def test_grants_on_every_securable(w, schema, location, name, people):
    _, group = people
    cat, s = schema.split(".")
    w.volumes.create(cat, s, "v", uc.VolumeType.MANAGED)
    w.connections.create(name=name, connection_type=uc.ConnectionType.MYSQL, options={"host": "h"})
    for kind, full_name, privilege in [
        ("metastore", w.metastores.summary().metastore_id, uc.Privilege.CREATE_CATALOG),
        ("schema", schema, uc.Privilege.USE_SCHEMA), ("volume", f"{schema}.v", uc.Privilege.READ_VOLUME),
        ("external_location", f"{name}_l", uc.Privilege.READ_FILES), ("storage_credential", f"{name}_c", uc.Privilege.READ_FILES),
        ("connection", name, uc.Privilege.USE_CONNECTION),
    ]:
        w.grants.update(kind, full_name, changes=[uc.PermissionsChange(principal=group, add=[privilege])])
        assert group in paged_grantees(w, kind, full_name, max_results=0), kind
    w.connections.delete(name)


def test_lists_are_paged_with_empty_pages_and_a_token_on_the_last_full_one(w, cat):
    for i in range(60):
        w.schemas.create(f"s{i}", cat)
    expected = {f"s{i}" for i in range(60)} | {"default", "information_schema"}
    for size in (None, 0, 1, 7, 31, 62):
        assert {s.name for s in w.schemas.list(cat, max_results=size)} == expected, size
    pages, token, empty = 0, None, 0
    while True:
        query = {"catalog_name": cat, "max_results": 1, **({"page_token": token} if token else {})}
        page = w.api_client.do("GET", "/api/2.1/unity-catalog/schemas", query=query)
        pages += 1
        token = page.get("next_page_token")
        empty += not page.get("schemas")
        if not token:
            break
    assert empty > 1 and pages == 62 + empty, "empty pages on the way, and one after the last full page"
    with pytest.raises(errors.InvalidParameterValue):
        w.api_client.do("GET", "/api/2.1/unity-catalog/schemas", query={"catalog_name": cat, "max_results": -1})
