"""Secret scopes, keys and ACLs."""

import pytest
from databricks.sdk import errors
from databricks.sdk.service import workspace as ws


@pytest.fixture
def scope(w, name):
    w.secrets.create_scope(name)
    yield name
    w.secrets.delete_scope(name)


def test_scopes(w, scope):
    assert scope in {s.name for s in w.secrets.list_scopes()}
    with pytest.raises(errors.ResourceAlreadyExists):
        w.secrets.create_scope(scope)
    with pytest.raises(errors.NotFound):
        w.secrets.delete_scope(f"{scope}-missing")
    with pytest.raises(errors.InvalidParameterValue):
        w.secrets.create_scope("a/b")


def test_secrets_are_listed_and_never_told(w, scope):
    w.secrets.put_secret(scope, "text", string_value="s3cret")
    w.secrets.put_secret(scope, "bytes", bytes_value="AAEC")
    listed = list(w.secrets.list_secrets(scope))
    assert [s.key for s in listed] == ["text", "bytes"] and all(s.last_updated_timestamp for s in listed)
    with pytest.raises(errors.BadRequest):
        w.secrets.get_secret(scope, "text")
    w.secrets.delete_secret(scope, "text")
    assert [s.key for s in w.secrets.list_secrets(scope)] == ["bytes"]
    with pytest.raises(errors.NotFound):
        w.secrets.delete_secret(scope, "text")
    with pytest.raises(errors.NotFound):
        list(w.secrets.list_secrets(f"{scope}-missing"))
    with pytest.raises(errors.InvalidParameterValue):
        w.secrets.put_secret(scope, "big", string_value="x" * (128 * 1024 + 1))


def test_acls(w, scope, people):
    user, group = people
    # The creator manages the scope.
    assert [(a.principal, a.permission) for a in w.secrets.list_acls(scope)] == [(w.current_user.me().user_name, ws.AclPermission.MANAGE)]
    w.secrets.put_acl(scope, group, ws.AclPermission.READ)
    w.secrets.put_acl(scope, user, ws.AclPermission.READ)
    w.secrets.put_acl(scope, user, ws.AclPermission.WRITE)
    assert w.secrets.get_acl(scope, user).permission == ws.AclPermission.WRITE
    assert {a.principal for a in w.secrets.list_acls(scope)} >= {user, group}
    w.secrets.delete_acl(scope, user)
    with pytest.raises(errors.NotFound):
        w.secrets.get_acl(scope, user)
    with pytest.raises(errors.NotFound):
        w.secrets.put_acl(scope, "nobody@example.com", ws.AclPermission.READ)
