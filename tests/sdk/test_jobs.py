"""Jobs and pipelines."""

import pytest
from databricks.sdk import errors
from databricks.sdk.service import jobs, pipelines


def task(i, **more):
    return jobs.Task(task_key=f"t{i:04}", notebook_task=jobs.NotebookTask(notebook_path="/Shared/nb"), **more)


def test_jobs(w, name):
    made = w.jobs.create(name=name, tasks=[task(0), task(1, depends_on=[jobs.TaskDependency(task_key="t0000")])],
                         schedule=jobs.CronSchedule(quartz_cron_expression="0 0 2 * * ?", timezone_id="UTC", pause_status=jobs.PauseStatus.PAUSED))
    got = w.jobs.get(made.job_id)
    assert got.settings.name == name and len(got.settings.tasks) == 2
    w.jobs.update(made.job_id, new_settings=jobs.JobSettings(max_concurrent_runs=3), fields_to_remove=["schedule"])
    got = w.jobs.get(made.job_id)
    assert got.settings.max_concurrent_runs == 3 and got.settings.schedule is None
    w.jobs.reset(made.job_id, jobs.JobSettings(name=f"{name} 2", tasks=[task(7)]))
    assert [t.task_key for t in w.jobs.get(made.job_id).settings.tasks] == ["t0007"]
    assert [j.job_id for j in w.jobs.list(name=f"{name} 2")] == [made.job_id]
    w.jobs.delete(made.job_id)
    # 400 INVALID_PARAMETER_VALUE, which the SDK maps by its text.
    with pytest.raises(errors.ResourceDoesNotExist):
        w.jobs.get(made.job_id)


def test_a_job_of_250_tasks_comes_in_pages(w, name):
    made = w.jobs.create(name=name, tasks=[task(i) for i in range(250)])
    got = w.jobs.get(made.job_id)
    assert [t.task_key for t in got.settings.tasks] == [f"t{i:04}" for i in range(250)]
    raw = w.api_client.do("GET", "/api/2.2/jobs/get", query={"job_id": made.job_id})
    assert len(raw["settings"]["tasks"]) == 100 and raw["next_page_token"]


def test_jobs_are_paged(w, sim):
    ids = [j.job_id for j in w.jobs.list(limit=3)]
    assert len(ids) == len(set(ids)) >= sim.count("job") > 3
    assert all(j.settings.tasks for j in w.jobs.list(expand_tasks=True, limit=5))


def test_a_job_without_tasks_keys_is_refused(w, name):
    with pytest.raises(errors.InvalidParameterValue):
        w.jobs.create(name=name, tasks=[task(0), task(0)])


def test_pipelines(w, name):
    made = w.pipelines.create(name=name, catalog="main", schema="default", development=True,
                              libraries=[pipelines.PipelineLibrary(notebook=pipelines.NotebookLibrary(path="/Shared/nb"))])
    got = w.pipelines.get(made.pipeline_id)
    assert (got.name, got.spec.catalog, got.spec.libraries[0].notebook.path) == (name, "main", "/Shared/nb")
    w.pipelines.update(made.pipeline_id, name=f"{name} 2", catalog="main", schema="default")
    assert w.pipelines.get(made.pipeline_id).spec.name == f"{name} 2"
    ids = [p.pipeline_id for p in w.pipelines.list_pipelines(max_results=1)]
    assert made.pipeline_id in ids and len(ids) == len(set(ids))
    w.pipelines.delete(made.pipeline_id)
    with pytest.raises(errors.NotFound):
        w.pipelines.get(made.pipeline_id)
