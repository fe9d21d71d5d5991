"""Instance pools, cluster policies, clusters with libraries, global init scripts, instance profiles."""

import base64
import json

import pytest
from databricks.sdk import errors
from databricks.sdk.service import compute


def test_instance_pools(w, sim, name):
    made = w.instance_pools.create(instance_pool_name=name, node_type_id="i3.xlarge", min_idle_instances=0, max_capacity=5)
    w.instance_pools.edit(made.instance_pool_id, name, "i3.xlarge", max_capacity=9)
    assert w.instance_pools.get(made.instance_pool_id).max_capacity == 9
    assert made.instance_pool_id in {p.instance_pool_id for p in w.instance_pools.list()}
    w.instance_pools.delete(made.instance_pool_id)
    with pytest.raises(errors.NotFound):
        w.instance_pools.get(made.instance_pool_id)


def test_cluster_policies(w, name):
    definition = json.dumps({"spark_version": {"type": "fixed", "value": "auto:latest-lts"}})
    made = w.cluster_policies.create(name=name, definition=definition)
    w.cluster_policies.edit(made.policy_id, name=f"{name} 2", definition=definition, max_clusters_per_user=2)
    got = w.cluster_policies.get(made.policy_id)
    assert (got.name, got.max_clusters_per_user, got.definition) == (f"{name} 2", 2, definition)
    assert {"Personal Compute", f"{name} 2"} <= {p.name for p in w.cluster_policies.list()}
    w.cluster_policies.delete(made.policy_id)
    with pytest.raises(errors.NotFound):
        w.cluster_policies.get(made.policy_id)


def test_clusters(w, name):
    made = w.clusters.create(cluster_name=name, spark_version="16.4.x-scala2.12", node_type_id="i3.xlarge", num_workers=1,
                             autotermination_minutes=20).response
    got = w.clusters.get(made.cluster_id)
    assert (got.cluster_name, got.num_workers) == (name, 1)
    assert got.spec.node_type_id == "i3.xlarge"
    w.libraries.install(made.cluster_id, [compute.Library(pypi=compute.PythonPyPiLibrary(package="simplejson"))])
    assert [s.library.pypi.package for s in w.libraries.cluster_status(made.cluster_id)] == ["simplejson"]
    w.clusters.edit(made.cluster_id, "16.4.x-scala2.12", cluster_name=f"{name} 2", node_type_id="i3.xlarge", num_workers=2)
    w.clusters.pin(made.cluster_id)
    assert w.clusters.get(made.cluster_id).num_workers == 2
    ours = {c.cluster_id: c for c in w.clusters.list(
        filter_by=compute.ListClustersFilterBy(cluster_sources=[compute.ClusterSource.UI, compute.ClusterSource.API]), page_size=1)}
    assert made.cluster_id in ours
    everything = {c.cluster_id for c in w.clusters.list()}
    assert everything > set(ours), "clusters of jobs are listed unless they are filtered out"
    w.clusters.delete(made.cluster_id)
    w.clusters.unpin(made.cluster_id)
    w.clusters.permanent_delete(made.cluster_id)
    # 400 INVALID_PARAMETER_VALUE, which the SDK maps by its text.
    with pytest.raises(errors.ResourceDoesNotExist):
        w.clusters.get(made.cluster_id)


def test_global_init_scripts(w, name):
    script = base64.b64encode(b"#!/bin/sh\necho hi\n").decode()
    made = w.global_init_scripts.create(name=name, script=script, enabled=False, position=0)
    assert w.global_init_scripts.get(made.script_id).script == script
    w.global_init_scripts.update(made.script_id, name=f"{name}_2", script=script)
    listed = {s.script_id: s.name for s in w.global_init_scripts.list()}
    assert listed[made.script_id] == f"{name}_2"
    w.global_init_scripts.delete(made.script_id)
    with pytest.raises(errors.NotFound):
        w.global_init_scripts.get(made.script_id)


def test_instance_profiles(w):
    arn = "arn:aws:iam::123456789012:instance-profile/judge"
    w.instance_profiles.add(arn, skip_validation=True)
    assert arn in {p.instance_profile_arn for p in w.instance_profiles.list()}
    w.instance_profiles.remove(arn)
    assert arn not in {p.instance_profile_arn for p in w.instance_profiles.list()}
