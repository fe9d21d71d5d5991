"""Who is asking, and how a refusal reaches the caller."""

import pytest
from databricks.sdk import errors


def test_personal_access_token(sim, w):
    me = w.current_user.me()
    assert me.user_name and me.active
    assert w.get_workspace_id() == sim.ask("info")["workspace_id"]


def test_oauth_machine_to_machine(sim):
    client = sim.client(client_id="sim", client_secret="sim")
    assert client.config.auth_type == "oauth-m2m"
    me = client.current_user.me()
    assert me.user_name
    assert [g for g in client.groups.list() if g.display_name == "admins"]


def test_wrong_secret_is_refused(sim):
    with pytest.raises(Exception, match="invalid_client|authentication failed"):
        sim.client(client_id="sim", client_secret="wrong").current_user.me()


def test_unknown_token_is_unauthenticated(sim):
    with pytest.raises(errors.Unauthenticated):
        sim.client(token="nobody").current_user.me()


def test_expired_token_is_unauthenticated(sim):
    sim.ask("identities", {"token": "old", "name": "operator@example.com", "admin": True, "expires_at_ms": 1})
    with pytest.raises(errors.Unauthenticated):
        list(sim.client(token="old").clusters.list())


def test_revoked_right_is_permission_denied(sim):
    sim.ask("identities", {"token": "less", "name": "operator@example.com", "admin": True, "denied": ["jobs", "unity-catalog"]})
    client = sim.client(token="less")
    with pytest.raises(errors.PermissionDenied):
        list(client.jobs.list())
    with pytest.raises(errors.PermissionDenied):
        list(client.catalogs.list())
    assert list(client.warehouses.list())


def test_lists_as_non_admin_silently_return_less(sim, w):
    sim.ask("identities", {"token": "few", "name": "operator@example.com", "visible_percent": 30})
    client = sim.client(token="few")
    all_queries, few = list(w.queries.list()), list(client.queries.list())
    assert len(few) < len(all_queries)
    assert {q.id for q in few} <= {q.id for q in all_queries}


def test_throttling_is_retried_after_the_time_told(sim, w):
    sim.ask("faults", {"method": "GET", "path": "/api/2.0/sql/warehouses", "times": 1,
                       "effect": {"type": "error", "status": 429, "error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down",
                                  "retry_after": 1}})
    try:
        assert list(w.warehouses.list())
    finally:
        sim.ask("faults", method="DELETE")
    answered = [c for c in sim.ask("calls")["calls"] if c["path"] == "/api/2.0/sql/warehouses" and c["status"] == 429]
    assert answered


def test_unknown_endpoint_is_not_found(w):
    with pytest.raises(errors.NotFound):
        w.api_client.do("GET", "/api/2.0/no-such-thing")
