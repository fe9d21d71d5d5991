"""Directories, notebooks, workspace files, repos."""

import base64
import io

import pytest
from databricks.sdk import errors
from databricks.sdk.service import workspace as ws

NOTEBOOK = b"# Databricks notebook source\nprint(1)\n"


def b64(data):
    return base64.b64encode(data).decode()


@pytest.fixture
def folder(w, name):
    path = f"/Shared/{name}/deep"
    w.workspace.mkdirs(path)
    yield path
    w.workspace.delete(f"/Shared/{name}", recursive=True)


def test_directories(w, folder, name):
    status = w.workspace.get_status(folder)
    assert status.object_type == ws.ObjectType.DIRECTORY and status.object_id
    assert [o.path for o in w.workspace.list(f"/Shared/{name}")] == [folder]
    assert list(w.workspace.list(folder)) == []
    with pytest.raises(errors.NotFound):
        list(w.workspace.list(f"{folder}/missing"))
    with pytest.raises(errors.NotFound):
        w.workspace.get_status(f"{folder}/missing")


def test_a_full_directory_is_deleted_only_recursively(w, folder, name):
    with pytest.raises(errors.DatabricksError):
        w.workspace.delete(f"/Shared/{name}")


def test_notebooks(w, folder):
    path = f"{folder}/nb"
    w.workspace.import_(path, content=b64(NOTEBOOK), format=ws.ImportFormat.SOURCE, language=ws.Language.PYTHON)
    status = w.workspace.get_status(path)
    assert (status.object_type, status.language) == (ws.ObjectType.NOTEBOOK, ws.Language.PYTHON)
    exported = w.workspace.export(path, format=ws.ExportFormat.SOURCE)
    assert base64.b64decode(exported.content) == NOTEBOOK
    with w.workspace.download(path) as body:
        assert body.read() == NOTEBOOK
    with pytest.raises(errors.DatabricksError, match="already exists"):
        w.workspace.import_(path, content=b64(NOTEBOOK), format=ws.ImportFormat.SOURCE, language=ws.Language.PYTHON)
    w.workspace.import_(path, content=b64(NOTEBOOK + b"print(2)\n"), format=ws.ImportFormat.SOURCE, language=ws.Language.PYTHON, overwrite=True)
    assert w.workspace.get_status(path).object_id == status.object_id
    for form in (ws.ExportFormat.JUPYTER, ws.ExportFormat.DBC, ws.ExportFormat.HTML):
        assert w.workspace.export(path, format=form).content
    w.workspace.delete(path)
    with pytest.raises(errors.NotFound):
        w.workspace.export(path)


def test_import_makes_no_parents(w, name):
    with pytest.raises(errors.NotFound):
        w.workspace.import_(f"/Shared/{name}-missing/nb", content=b64(NOTEBOOK), format=ws.ImportFormat.SOURCE, language=ws.Language.PYTHON)


def test_workspace_files(w, folder):
    path = f"{folder}/data.json"
    w.workspace.upload(path, io.BytesIO(b'{"a": 1}'), format=ws.ImportFormat.AUTO)
    assert w.workspace.get_status(path).object_type == ws.ObjectType.FILE
    with w.workspace.download(path) as body:
        assert body.read() == b'{"a": 1}'
    big = bytes(range(256)) * 80_000
    w.workspace.upload(f"{folder}/big.bin", io.BytesIO(big), format=ws.ImportFormat.RAW, overwrite=True)
    with w.workspace.download(f"{folder}/big.bin", format=ws.ExportFormat.AUTO) as body:
        assert body.read() == big
    with pytest.raises(errors.DatabricksError, match="exceeds the maximum"):
        w.workspace.export(f"{folder}/big.bin", format=ws.ExportFormat.AUTO)


def test_a_marked_file_becomes_a_notebook_unless_it_is_raw(w, folder):
    w.workspace.upload(f"{folder}/auto.py", io.BytesIO(NOTEBOOK), format=ws.ImportFormat.AUTO)
    w.workspace.upload(f"{folder}/raw.py", io.BytesIO(NOTEBOOK), format=ws.ImportFormat.RAW)
    kinds = {o.path.rsplit("/", 1)[1]: o.object_type for o in w.workspace.list(folder)}
    assert kinds == {"auto": ws.ObjectType.NOTEBOOK, "raw.py": ws.ObjectType.FILE}


def test_the_whole_tree_is_walked(w, sim):
    found, queue = {}, ["/"]
    while queue:
        for entry in w.workspace.list(queue.pop()):
            found.setdefault(entry.object_type, set()).add(entry.object_id)
            # The SDK's own recursion stops at the folders of repos.
            if entry.object_type in (ws.ObjectType.DIRECTORY, ws.ObjectType.REPO):
                queue.append(entry.path)
    assert len(found[ws.ObjectType.NOTEBOOK]) == sim.count("notebook") > 100
    assert len(found[ws.ObjectType.FILE]) == sim.count("workspace_file")


def test_paths_with_and_without_prefix_are_one(w, folder):
    assert w.workspace.get_status(f"/Workspace{folder}").object_id == w.workspace.get_status(folder).object_id


def test_repos(w, name):
    made = w.repos.create(url=f"https://github.com/acme/{name}.git", provider="gitHub", path=f"/Repos/operator@example.com/{name}")
    w.repos.update(made.id, branch="main")
    got = w.repos.get(made.id)
    assert (got.branch, got.path) == ("main", f"/Repos/operator@example.com/{name}")
    assert made.id in {r.id for r in w.repos.list(path_prefix="/Repos")}
    w.repos.delete(made.id)
    with pytest.raises(errors.NotFound):
        w.repos.get(made.id)


def test_repos_are_paged(start):
    sim = start("--items", "50")
    w = sim.client()
    for i in range(45):
        w.repos.create(url=f"https://github.com/acme/r{i}.git", provider="gitHub", path=f"/Repos/operator@example.com/r{i}")
    ids = [r.id for r in w.repos.list(path_prefix="/Repos")]
    assert len(ids) == len(set(ids)) >= 45
