"""Users, groups, service principals, entitlements."""

import pytest
from databricks.sdk import errors
from databricks.sdk.service import iam

VALUES = iam.PatchSchema.URN_IETF_PARAMS_SCIM_API_MESSAGES_2_0_PATCH_OP


def test_users(w, sim, name):
    user = w.users.create(user_name=f"{name}@example.com", display_name="One", active=True)
    assert w.users.get(user.id).user_name == f"{name}@example.com"
    assert [u.id for u in w.users.list(filter=f'userName eq "{name}@example.com"')] == [user.id]
    with pytest.raises(errors.ResourceConflict):
        w.users.create(user_name=f"{name}@example.com")
    w.users.patch(user.id, schemas=[VALUES], operations=[iam.Patch(op=iam.PatchOp.ADD, path="entitlements", value=[{"value": "allow-cluster-create"}])])
    assert [e.value for e in w.users.get(user.id).entitlements] == ["allow-cluster-create"]
    w.users.update(user.id, user_name=user.user_name, display_name="Two", active=False)
    assert w.users.get(user.id).active is False
    assert len({u.id for u in w.users.list(count=3)}) == len(list(w.users.list())) > 3
    w.users.delete(user.id)
    with pytest.raises(errors.NotFound):
        w.users.get(user.id)


def test_groups(w, name):
    user = w.users.create(user_name=f"{name}@example.com")
    inner = w.groups.create(display_name=f"{name} inner", members=[iam.ComplexValue(value=user.id)])
    outer = w.groups.create(display_name=f"{name} outer", members=[iam.ComplexValue(value=inner.id)],
                            entitlements=[iam.ComplexValue(value="databricks-sql-access")])
    got = w.groups.get(outer.id)
    assert [(m.value, m.ref) for m in got.members] == [(inner.id, f"Groups/{inner.id}")]
    assert [e.value for e in got.entitlements] == ["databricks-sql-access"]
    assert got.meta.resource_type == "WorkspaceGroup"
    w.groups.patch(inner.id, schemas=[VALUES], operations=[iam.Patch(op=iam.PatchOp.REMOVE, path=f'members[value eq "{user.id}"]')])
    assert not w.groups.get(inner.id).members
    names = [g.display_name for g in w.groups.list(attributes="id,displayName")]
    assert {"admins", "users", f"{name} inner", f"{name} outer"} <= set(names)
    w.groups.delete(outer.id)
    with pytest.raises(errors.NotFound):
        w.groups.get(outer.id)


def test_service_principals(w, name):
    sp = w.service_principals.create(display_name=name, active=True)
    assert sp.application_id and sp.id != sp.application_id
    twin = w.service_principals.create(display_name=name)
    assert {sp.id, twin.id} <= {s.id for s in w.service_principals.list(filter=f'displayName eq "{name}"')}
    w.service_principals.update(sp.id, display_name=f"{name} 2", application_id=sp.application_id, active=True)
    assert w.service_principals.get(sp.id).display_name == f"{name} 2"
    w.service_principals.delete(sp.id)
    with pytest.raises(errors.NotFound):
        w.service_principals.get(sp.id)
