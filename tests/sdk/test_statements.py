"""The SQL statement API: states, results, DDL, and what the server refuses."""

import json
import urllib.error
import urllib.request

import pytest
from databricks.sdk import errors
from databricks.sdk.service import catalog as uc
from databricks.sdk.service import sql

OK, FAILED = sql.StatementState.SUCCEEDED, sql.StatementState.FAILED


@pytest.fixture(scope="session")
def warehouse(w):
    return w.warehouses.create(name="judge statements", cluster_size="Small", max_num_clusters=1,
                               warehouse_type=sql.CreateWarehouseRequestWarehouseType.PRO).id


@pytest.fixture
def run(w, warehouse, name):
    w.catalogs.create(name)
    w.schemas.create("s", name)

    def run(text, warehouse_id=warehouse, **more):
        more = {"catalog": name, "schema": "s", **more}
        return w.statement_execution.execute_statement(statement=text, warehouse_id=warehouse_id, **more)

    def good(text, **more):
        answer = run(text, **more)
        assert answer.status.state == OK, (text, answer.status)
        return answer

    def bad(text, match, **more):
        answer = run(text, **more)
        assert answer.status.state == FAILED, text
        assert match in answer.status.error.message, answer.status.error.message
        return answer

    run.good, run.bad, run.schema = good, bad, f"{name}.s"
    yield run
    w.catalogs.delete(name, force=True)


def test_results_are_inline_strings(run):
    answer = run.good("SELECT 1 AS a, 'x' AS b, NULL AS c, -2.5, current_catalog()")
    assert answer.result.data_array == [["1", "x", None, "-2.5", run.schema.split(".")[0]]]
    assert [c.name for c in answer.manifest.schema.columns][:3] == ["a", "b", "c"]
    named = run.good("SELECT :a AS a, ':a' AS b", parameters=[sql.StatementParameterListItem(name="a", value="it's")])
    assert named.result.data_array == [["it's", ":a"]]


def test_waiting_is_up_to_the_caller(w, run):
    answer = run("SELECT 1", wait_timeout="0s")
    assert answer.status.state == sql.StatementState.PENDING and answer.result is None
    assert w.statement_execution.get_statement(answer.statement_id).result.data_array == [["1"]]
    other = run("SELECT 1", wait_timeout="0s")
    w.statement_execution.cancel_execution(other.statement_id)
    assert w.statement_execution.get_statement(other.statement_id).status.state == sql.StatementState.CANCELED
    with pytest.raises(errors.InvalidParameterValue):
        run("SELECT 1", wait_timeout="3s")
    with pytest.raises(errors.NotFound):
        w.statement_execution.get_statement("00000000-0000-0000-0000-000000000000")
    with pytest.raises(errors.NotFound):
        run("SELECT 1", warehouse_id="0000000000000000")


def test_external_links_are_fetched_without_authorization(run):
    answer = run.good("SHOW CATALOGS", disposition=sql.Disposition.EXTERNAL_LINKS)
    link = answer.result.external_links[0].external_link
    with urllib.request.urlopen(link) as body:
        assert ["main"] in json.loads(body.read())
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(link, headers={"Authorization": "Bearer sim"}))
    assert refused.value.code == 400


def test_long_results_come_in_chunks(w, run):
    for i in range(1001):
        run.good(f"CREATE VOLUME v{i}")
    answer = run.good("SHOW VOLUMES")
    assert answer.manifest.total_chunk_count == 2 and answer.result.next_chunk_index == 1
    rest = w.statement_execution.get_statement_result_chunk_n(answer.statement_id, 1)
    assert len(answer.result.data_array) + len(rest.data_array) == 1001


def test_a_stopped_warehouse_is_started(w, run, warehouse):
    w.warehouses.stop(warehouse)
    run.good("SELECT 1")
    assert w.warehouses.get(warehouse).state == sql.State.RUNNING


def test_failure_is_http_200(run):
    run.bad("SELEC 1", "PARSE_SYNTAX_ERROR")
    run.bad("CREATE TABLE t (a INT", "PARSE_SYNTAX_ERROR")
    run.bad("SELECT 1; SELECT 2", "PARSE_SYNTAX_ERROR")
    run.bad(";", "PARSE_EMPTY_STATEMENT")
    answer = run.bad("SELECT * FROM missing", "TABLE_OR_VIEW_NOT_FOUND")
    assert answer.status.sql_state == "42P01"


def test_catalogs_and_schemas(w, run, name):
    run.good(f"CREATE CATALOG IF NOT EXISTS `{name}-2` MANAGED LOCATION 's3://x/y' COMMENT 'it\\'s'")
    run.good(f"CREATE CATALOG IF NOT EXISTS `{name}-2`")
    got = w.catalogs.get(f"{name}-2")
    assert (got.comment, got.storage_root) == ("it's", "s3://x/y")
    run.bad(f"CREATE CATALOG `{name}-2`", "ALREADY_EXISTS")
    run.good(f"CREATE SCHEMA `{name}-2`.`a``b` COMMENT 'c' WITH DBPROPERTIES ('k' = 'v', x.y = 1)")
    assert w.schemas.get(f"{name}-2.a`b").properties == {"k": "v", "x.y": "1"}
    run.bad("CREATE SCHEMA missing_catalog.s", "NO_SUCH_CATALOG")
    run.bad(f"DROP CATALOG `{name}-2`", "not empty")
    run.good(f"COMMENT ON CATALOG `{name}-2` IS 'new'")
    run.good(f"ALTER SCHEMA `{name}-2`.`a``b` SET DBPROPERTIES ('k' = 'w')")
    run.good(f"ALTER SCHEMA `{name}-2`.`a``b` OWNER TO `account users`")
    assert w.schemas.get(f"{name}-2.a`b").owner == "account users"
    run.good(f"ALTER CATALOG `{name}-2` DISABLE PREDICTIVE OPTIMIZATION")
    run.good(f"DROP CATALOG `{name}-2` CASCADE")
    run.good(f"DROP CATALOG IF EXISTS `{name}-2`")
    run.bad(f"DROP CATALOG `{name}-2`", "NO_SUCH_CATALOG")


def test_tables(w, run):
    run.good("""
        CREATE TABLE t (
          id BIGINT NOT NULL COMMENT 'key', -- a comment
          name STRING COLLATE UTF8_BINARY, price DECIMAL(10, 2), at TIMESTAMP DEFAULT current_timestamp(),
          m MAP<STRING, ARRAY<STRUCT<a: INT NOT NULL COMMENT 'in''side', b: STRING>>>,
          g INT GENERATED ALWAYS AS (CAST(id AS INT)), n BIGINT GENERATED BY DEFAULT AS IDENTITY (START WITH 5 INCREMENT BY -1),
          CONSTRAINT pk PRIMARY KEY (id) RELY)
        USING DELTA PARTITIONED BY (name) COMMENT 'a table'
        TBLPROPERTIES ('delta.feature.allowColumnDefaults' = 'supported', 'x' = 'y')""")
    got = w.tables.get(f"{run.schema}.t")
    assert [(c.name, c.type_text) for c in got.columns] == [
        ("id", "bigint"), ("name", "string"), ("price", "decimal(10,2)"), ("at", "timestamp"),
        ("m", "map<string,array<struct<a:int not null,b:string>>>"), ("g", "int"), ("n", "bigint")]
    assert (got.columns[0].nullable, got.columns[0].comment, got.columns[1].partition_index) == (False, "key", 0)
    meta = {c.name: json.loads(c.type_json)["metadata"] for c in got.columns}
    assert meta["at"]["CURRENT_DEFAULT"] == "current_timestamp()"
    assert meta["g"]["delta.generationExpression"] == "CAST(id AS INT)"
    assert (meta["n"]["delta.identity.start"], meta["n"]["delta.identity.step"]) == (5, -1)
    assert got.table_constraints[0].primary_key_constraint.rely is True
    assert (got.table_type, got.comment, got.properties["x"]) == (uc.TableType.MANAGED, "a table", "y")
    run.bad("CREATE TABLE t (a INT)", "ALREADY_EXISTS")
    run.good("CREATE TABLE IF NOT EXISTS t (a INT)")
    run.bad("CREATE TABLE u (a INT DEFAULT 1)", "allowColumnDefaults")
    run.bad("CREATE TABLE u (a NUMBRE)", "UNSUPPORTED_DATATYPE")
    run.bad("CREATE TABLE u (a INT, A STRING)", "COLUMN_ALREADY_EXISTS")
    run.bad("CREATE TABLE u (a INT) USING PARQUET", "Only Delta")
    run.bad("CREATE TABLE missing.u (a INT)", "SCHEMA_NOT_FOUND")
    run.bad("CREATE TABLE u (a INT) PARTITIONED BY (b)", "UNRESOLVED_COLUMN")
    run.good("CREATE OR REPLACE TABLE t (a INT) CLUSTER BY (a)")
    again = w.tables.get(f"{run.schema}.t")
    assert again.table_id == got.table_id and json.loads(again.properties["clusteringColumns"]) == [["a"]]
    shown = run.good("SHOW CREATE TABLE t").result.data_array[0][0]
    run.good("DROP TABLE t")
    run.good(shown)
    assert [c.name for c in w.tables.get(f"{run.schema}.t").columns] == ["a"]


def test_altering_tables(w, run):
    run.good("CREATE TABLE t (a INT, b STRING)")
    run.good("ALTER TABLE t SET TBLPROPERTIES ('p' = '1', 'q' = '2')")
    run.good("ALTER TABLE t UNSET TBLPROPERTIES ('q')")
    run.bad("ALTER TABLE t UNSET TBLPROPERTIES ('q')", "UNSET_NONEXISTENT")
    run.good("ALTER TABLE t UNSET TBLPROPERTIES IF EXISTS ('q')")
    run.good("ALTER TABLE t ADD COLUMNS (c DATE COMMENT 'x', d INT)")
    run.good("ALTER TABLE t DROP COLUMN d")
    run.good("ALTER TABLE t RENAME COLUMN c TO e")
    run.good("ALTER TABLE t ALTER COLUMN a SET NOT NULL")
    run.good("ALTER TABLE t ALTER COLUMN a COMMENT 'first'")
    run.good("COMMENT ON TABLE t IS 'words'")
    run.good("ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0)")
    run.good("ALTER TABLE t OWNER TO `account users`")
    got = w.tables.get(f"{run.schema}.t")
    assert [c.name for c in got.columns] == ["a", "b", "e"]
    assert (got.comment, got.owner, got.columns[0].nullable, got.columns[0].comment) == ("words", "account users", False, "first")
    assert (got.properties["p"], got.properties["delta.constraints.positive"]) == ("1", "a > 0")
    run.good("ALTER TABLE t RENAME TO t2")
    run.bad("ALTER TABLE t SET TBLPROPERTIES ('p' = '1')", "TABLE_OR_VIEW_NOT_FOUND")
    run.bad("ALTER TABLE t2 OWNER TO `nobody@example.com`", "PRINCIPAL_DOES_NOT_EXIST")
    run.bad("ALTER TABLE t2 ALTER COLUMN zz COMMENT 'x'", "UNRESOLVED_COLUMN")
    run.bad("DROP VIEW t2", "WRONG_COMMAND_FOR_OBJECT_TYPE")


def test_keys_want_their_parents_first(w, run):
    run.good("CREATE TABLE p (id INT NOT NULL, x INT)")
    run.good("CREATE TABLE c (pid INT)")
    run.bad("ALTER TABLE c ADD CONSTRAINT fk FOREIGN KEY (pid) REFERENCES p (id)", "primary key")
    run.good("ALTER TABLE p ADD CONSTRAINT pk PRIMARY KEY (id)")
    run.bad("ALTER TABLE c ADD CONSTRAINT fk FOREIGN KEY (pid) REFERENCES p (x)", "do not match")
    run.bad("ALTER TABLE c ADD CONSTRAINT fk FOREIGN KEY (nope) REFERENCES p", "UNRESOLVED_COLUMN")
    run.good("ALTER TABLE c ADD CONSTRAINT fk FOREIGN KEY (pid) REFERENCES p")
    fk = w.tables.get(f"{run.schema}.c").table_constraints[0].foreign_key_constraint
    assert (fk.parent_table, fk.parent_columns) == (f"{run.schema}.p", ["id"])
    run.bad("ALTER TABLE p DROP CONSTRAINT pk", "dependent")
    run.good("ALTER TABLE p DROP PRIMARY KEY CASCADE")
    assert not w.tables.get(f"{run.schema}.c").table_constraints


def test_external_tables_take_their_schema_from_the_log(w, run, name):
    bucket = name.replace("_", "-")
    run.bad(f"CREATE TABLE x (a INT) LOCATION 's3://{bucket}/t'", "external location")
    w.storage_credentials.create(f"{name}_c", aws_iam_role=uc.AwsIamRoleRequest(role_arn="arn:aws:iam::123456789012:role/x"))
    w.external_locations.create(f"{name}_l", f"s3://{bucket}", f"{name}_c")
    run.bad(f"CREATE TABLE x USING DELTA LOCATION 's3://{bucket}/t'", "schema is not specified")
    run.good(f"CREATE TABLE x (a INT, b STRING) USING DELTA LOCATION 's3://{bucket}/t'")
    run.good("DROP TABLE x")
    run.bad(f"CREATE TABLE x (a STRING) USING DELTA LOCATION 's3://{bucket}/t'", "does not match")
    run.good(f"CREATE TABLE x USING DELTA LOCATION 's3://{bucket}/t'")
    got = w.tables.get(f"{run.schema}.x")
    assert got.table_type == uc.TableType.EXTERNAL and [c.name for c in got.columns] == ["a", "b"]
    run.good(f"CREATE TABLE y (a INT, p STRING) USING CSV OPTIONS (header 'true') PARTITIONED BY (p) LOCATION 's3://{bucket}/y'")
    assert w.tables.get(f"{run.schema}.y").properties["option.header"] == "true"


def test_views(w, run):
    run.good("CREATE TABLE t (id BIGINT, name STRING)")
    run.good("CREATE VIEW v (i COMMENT 'key', n) COMMENT 'c' TBLPROPERTIES ('a' = 'b') AS\n  SELECT id, upper(name) FROM t -- why\n  WHERE id > 1")
    got = w.tables.get(f"{run.schema}.v")
    assert got.view_definition.startswith("SELECT id, upper(name) FROM t")
    assert [(c.name, c.type_text, c.comment) for c in got.columns] == [("i", "bigint", "key"), ("n", "string", None)]
    assert [d.table.table_full_name for d in got.view_dependencies.dependencies] == [f"{run.schema}.t"]
    assert got.properties["view.catalogAndNamespace.part.1"] == "s"
    run.good("CREATE OR REPLACE VIEW v2 AS WITH q AS (SELECT * FROM v) SELECT q.i, t.* FROM q JOIN t ON q.i = t.id")
    assert {d.table.table_full_name for d in w.tables.get(f"{run.schema}.v2").view_dependencies.dependencies} == {f"{run.schema}.t", f"{run.schema}.v"}
    run.bad("CREATE VIEW w AS SELECT * FROM missing", "TABLE_OR_VIEW_NOT_FOUND")
    run.bad("CREATE VIEW w AS SELECT nope FROM t", "UNRESOLVED_COLUMN")
    run.bad("CREATE VIEW w AS SELECT main.default.nope(id) FROM t", "UNRESOLVED_ROUTINE")
    run.bad("CREATE VIEW w AS", "PARSE_SYNTAX_ERROR")
    run.bad("CREATE OR REPLACE VIEW t AS SELECT 1", "cannot replace")
    run.good("ALTER VIEW v AS SELECT name FROM t")
    assert [c.name for c in w.tables.get(f"{run.schema}.v").columns] == ["name"]
    run.good("DROP VIEW v2")
    run.good("CREATE VIEW mv WITH METRICS LANGUAGE YAML AS $$\nversion: 0.1\nsource: t\n$$")
    assert w.tables.get(f"{run.schema}.mv").table_type == uc.TableType.METRIC_VIEW


def test_materialized_views_want_more_than_a_classic_warehouse(w, run, name):
    classic = w.warehouses.create(name=f"{name} classic", cluster_size="Small", max_num_clusters=1,
                                  warehouse_type=sql.CreateWarehouseRequestWarehouseType.CLASSIC, enable_serverless_compute=False).id
    run.good("CREATE TABLE t (id BIGINT)")
    run.bad("CREATE MATERIALIZED VIEW m AS SELECT * FROM t", "pro or serverless", warehouse_id=classic)
    run.bad("CREATE STREAMING TABLE st AS SELECT * FROM STREAM t", "pro or serverless", warehouse_id=classic)
    run.good("CREATE MATERIALIZED VIEW m SCHEDULE EVERY 1 HOUR AS SELECT * FROM t")
    run.good("CREATE OR REFRESH STREAMING TABLE st AS SELECT * FROM STREAM(t)")
    run.good("CREATE STREAMING TABLE st2 AS SELECT * FROM STREAM t")
    assert w.tables.get(f"{run.schema}.m").pipeline_id
    assert w.tables.get(f"{run.schema}.st2").view_definition == "SELECT * FROM STREAM t"
    run.good("DROP MATERIALIZED VIEW m")


def test_functions_masks_and_filters(w, run):
    run.good("CREATE FUNCTION mask(v STRING COMMENT 'in', k INT DEFAULT 3) RETURNS STRING COMMENT 'hides' RETURN CASE WHEN k > 2 THEN '***' ELSE v END")
    got = w.functions.get(f"{run.schema}.mask")
    assert got.routine_definition == "CASE WHEN k > 2 THEN '***' ELSE v END"
    assert [(p.name, p.type_text, p.parameter_default) for p in got.input_params.parameters] == [("v", "string", None), ("k", "int", "3")]
    run.good("CREATE FUNCTION eu(r STRING) RETURNS BOOLEAN RETURN r = 'EU'")
    run.good("CREATE OR REPLACE FUNCTION py(s STRING) RETURNS STRING LANGUAGE PYTHON AS $$\nreturn s + '\\n'\n$$")
    assert w.functions.get(f"{run.schema}.py").external_language == "PYTHON"
    run.good("CREATE TABLE src (id INT)")
    run.good("CREATE FUNCTION tab() RETURNS TABLE (id INT) RETURN SELECT id FROM src")
    assert [d.table.table_full_name for d in w.functions.get(f"{run.schema}.tab").routine_dependencies.dependencies] == [f"{run.schema}.src"]
    run.bad("CREATE FUNCTION mask(v STRING) RETURNS STRING RETURN v", "ALREADY_EXISTS")
    run.bad("CREATE FUNCTION f(v STRING) RETURNS STRING RETURN (", "PARSE_SYNTAX_ERROR")
    run.good("CREATE TABLE t (name STRING MASK mask USING COLUMNS (region), region STRING) WITH ROW FILTER eu ON (region)")
    table = w.tables.get(f"{run.schema}.t")
    assert (table.columns[0].mask.function_name, table.row_filter.function_name) == (f"{run.schema}.mask", f"{run.schema}.eu")
    run.good("ALTER TABLE t DROP ROW FILTER")
    run.good("ALTER TABLE t ALTER COLUMN name DROP MASK")
    run.bad("ALTER TABLE t SET ROW FILTER nope ON (region)", "UNRESOLVED_ROUTINE")
    run.bad("ALTER TABLE t SET ROW FILTER eu ON (nope)", "UNRESOLVED_COLUMN")
    run.good("ALTER TABLE t SET ROW FILTER eu ON (region)")
    run.good("ALTER TABLE t ALTER COLUMN name SET MASK mask USING COLUMNS (region)")
    assert w.tables.get(f"{run.schema}.t").columns[0].mask.using_column_names == ["region"]
    run.good("DROP FUNCTION IF EXISTS py")
    run.bad("DROP FUNCTION py", "ROUTINE_NOT_FOUND")


def test_volumes(w, run, name):
    run.good("CREATE VOLUME v COMMENT 'files'")
    assert w.volumes.read(f"{run.schema}.v").volume_type == uc.VolumeType.MANAGED
    run.bad("CREATE EXTERNAL VOLUME x", "storage_location")
    run.bad("CREATE VOLUME v", "ALREADY_EXISTS")
    run.good("ALTER VOLUME v RENAME TO v2")
    run.good("DROP VOLUME v2")


def test_grants(w, run, people):
    user, group = people
    run.good(f"GRANT USE SCHEMA, SELECT ON SCHEMA {run.schema} TO `{group}`")
    run.good("CREATE TABLE t (a INT)")
    run.good(f"GRANT ALL PRIVILEGES ON TABLE t TO `{user}`")
    run.good(f"GRANT USE CATALOG ON CATALOG {run.schema.split('.')[0]} TO `{user}`")
    run.good(f"GRANT CREATE CATALOG ON METASTORE TO `{group}`")
    got = w.grants.get("schema", run.schema).privilege_assignments
    assert [(g.principal, {p.value for p in g.privileges}) for g in got] == [(group, {"USE_SCHEMA", "SELECT"})]
    run.good(f"REVOKE SELECT ON SCHEMA {run.schema} FROM `{group}`")
    assert [p.value for p in w.grants.get("schema", run.schema).privilege_assignments[0].privileges] == ["USE_SCHEMA"]
    run.bad("GRANT SELECT ON TABLE t TO `nobody@example.com`", "PRINCIPAL_DOES_NOT_EXIST")
    run.bad(f"GRANT READ VOLUME ON TABLE t TO `{group}`", "not applicable")
    run.bad(f"GRANT SELECT ON TABLE missing TO `{group}`", "TABLE_OR_VIEW_NOT_FOUND")
    assert run.good("SHOW GRANTS ON TABLE t").result.data_array == [[user, "ALL PRIVILEGES", "TABLE", f"{run.schema}.t"]]
