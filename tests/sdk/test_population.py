"""What is generated: everything that is named is there, and mean names travel through the SDK."""

from urllib.parse import quote

import pytest
from databricks.sdk.service import catalog as uc


def in_path(name):
    """The SDK puts names into paths as they are; mean ones must be quoted by its caller."""
    return quote(name, safe="")


def walk(w):
    tables, functions, models, volumes = {}, {}, {}, {}
    for c in w.catalogs.list(include_unbound=True):
        for s in w.schemas.list(c.name, max_results=0):
            for t in w.tables.list(c.name, s.name, max_results=0):
                tables[t.full_name] = t
            functions.update({f.full_name: f for f in w.functions.list(c.name, s.name, max_results=0)})
            models.update({m.full_name: m for m in w.registered_models.list(catalog_name=c.name, schema_name=s.name, max_results=0)})
            volumes.update({v.full_name: v for v in w.volumes.list(c.name, s.name, max_results=0)})
    return tables, functions, models, volumes


@pytest.mark.parametrize("more", [[], ["--hostile"]], ids=["plain", "hostile"])
def test_a_population_is_whole(start, more):
    sim = start("--items", "4000", "--seed", "3", *more)
    w = sim.client()
    tables, functions, models, volumes = walk(w)
    found = {"uc_table": tables, "uc_function": functions, "uc_registered_model": models, "uc_volume": volumes}
    for kind, items in found.items():
        assert len(items) == sim.count(kind), kind
    assert {t.table_type for t in tables.values()} == {
        uc.TableType.MANAGED, uc.TableType.EXTERNAL, uc.TableType.VIEW, uc.TableType.MATERIALIZED_VIEW,
        uc.TableType.STREAMING_TABLE, uc.TableType.FOREIGN}
    locations = [x.url.rstrip("/") + "/" for x in w.external_locations.list()]
    masked = filtered = on_views = foreign_keys = 0
    for name, listed in tables.items():
        table = w.tables.get(in_path(name))
        assert (table.full_name, table.columns) == (listed.full_name, listed.columns)
        for dependency in (table.view_dependencies.dependencies or []) if table.view_dependencies else []:
            below = tables[dependency.table.table_full_name]
            on_views += below.table_type == uc.TableType.VIEW
        for column in table.columns or []:
            if column.mask:
                assert column.mask.function_name in functions
                masked += 1
        if table.row_filter:
            assert table.row_filter.function_name in functions
            filtered += 1
        for constraint in table.table_constraints or []:
            if constraint.foreign_key_constraint:
                parent = w.tables.get(in_path(constraint.foreign_key_constraint.parent_table))
                assert any(c.primary_key_constraint for c in parent.table_constraints)
                foreign_keys += 1
        if table.table_type == uc.TableType.EXTERNAL:
            assert any(table.storage_location.startswith(x) for x in locations)
    assert masked and filtered and on_views and foreign_keys
    people = {u.user_name for u in w.users.list()} | {g.display_name for g in w.groups.list()} | {
        s.application_id for s in w.service_principals.list()} | {"account users"}
    granted = 0
    for kind, names in [("table", tables), ("function", functions | models), ("volume", volumes)]:
        for name in names:
            for grant in w.grants.get(kind, in_path(name)).privilege_assignments or []:
                assert grant.principal in people
                granted += 1
    assert granted


def test_the_same_seed_makes_the_same_workspace(start):
    one, two, other = (start("--items", "300", "--seed", s).client() for s in ("5", "5", "6"))
    def names(w):
        return [t.as_dict() for t in walk(w)[0].values()] + [q.as_dict() for q in w.queries.list()] + [d.as_dict() for d in w.lakeview.list()]
    assert names(one) == names(two) != names(other)


def test_changes_are_seen(sim, w):
    before = {t.full_name: t.updated_at for t in walk(w)[0].values()}
    report = sim.ask("mutate", {"kind": "uc_table", "create": 2, "edit": 3, "delete": 1, "seed": 4})
    after = {t.full_name: t.updated_at for t in walk(w)[0].values()}
    assert set(after) - set(before) == set(report["created"]) and len(report["created"]) == 2
    assert set(before) - set(after) == set(report["deleted"])
    assert {n for n in after if n in before and after[n] != before[n]} == set(report["edited"])
    for kind in ("query", "alert", "alert_v2", "dashboard", "warehouse", "secret_scope", "uc_catalog", "uc_schema", "uc_volume",
                 "uc_function", "uc_registered_model", "uc_storage_credential", "uc_external_location", "uc_connection"):
        report = sim.ask("mutate", {"kind": kind, "create": 1, "edit": 1, "seed": 1})
        assert len(report["created"]) == len(report["edited"]) == 1, kind
