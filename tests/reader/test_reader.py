"""Holds the reader that was written from proto/FORMAT.md alone against real snapshots: of a hostile simulated workspace,
whole, with gaps, and narrowed; and against the same snapshots, damaged.

Binaries are found by LAKEHOLD and LAKEHOLD_SIM, else in cargo's target directory.
"""

import json
import os
import pathlib
import shutil
import subprocess
import urllib.parse
import urllib.request

import pytest

import reader

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFUSED = {"type": "error", "status": 403, "error_code": "PERMISSION_DENIED", "message": "no"}
FAULTS = [
    {"path": "/api/2.0/policies/clusters/list", "times": 0, "effect": REFUSED},
    {"path": "/api/2.0/workspace/list", "query": "path=/Users", "nth": 2, "times": 2, "effect": REFUSED},
    {"path": "/api/2.0/permissions/jobs/*", "nth": 2, "times": 3, "effect": REFUSED},
]


def binary(variable: str, name: str) -> str:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return os.environ.get(variable) or str(target / "release" / name)


class Site:
    """A simulated workspace, and a store next to it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.store = folder, folder / "store"
        command = [binary("LAKEHOLD_SIM", "lakehold-sim"), "--listen", "127.0.0.1:0", "--items", "400", "--hostile"]
        self.sim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = next(line.strip() for line in self.sim.stdout if line.startswith("http://"))

    def faults(self, faults: list) -> None:
        request = urllib.request.Request(f"{self.url}/__sim/faults", json.dumps(faults).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def lakehold(self, *words: str, codes=(0,)) -> str:
        """Runs the program with nothing of this machine's own settings."""
        settings = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "DATABRICKS_HOST": self.url, "DATABRICKS_TOKEN": "sim"}
        command = [binary("LAKEHOLD", "lakehold"), "--store", str(self.store), *words]
        ended = subprocess.run(command, cwd=self.folder, env=settings, capture_output=True, text=True, timeout=300)
        assert ended.returncode in codes, ended.stderr
        return ended.stdout

    def stop(self) -> None:
        self.sim.terminate()
        self.sim.wait(10)
        self.sim.stdout.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Three snapshots: as whole as a hostile workspace gives it, with slices and permissions refused, and narrowed."""
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        site.lakehold("backup", codes=(0, 3))
        site.faults(FAULTS)
        site.lakehold("backup", codes=(3,))
        site.lakehold("backup", "--kind", "notebook", "--tag", "narrow", codes=(0, 3))
        yield site
    finally:
        site.stop()


def test_every_snapshot_is_proved(site):
    store = reader.Store(site.store)
    snapshots = store.snapshots()
    assert len(snapshots) == 3
    items = [store.prove(snapshot) for snapshot in snapshots]
    assert min(map(len, items)) > 10
    whole, hurt, narrow = snapshots
    assert hurt.manifest["state"] == "partial"
    assert hurt.manifest["content_root"] != whole.manifest["content_root"]
    assert narrow.manifest["selection"]["kinds"] == ["notebook"] and narrow.manifest["tags"] == ["narrow"]
    assert {kind for kind, _ in items[2]} == {"notebook"}
    # The refused permissions are gaps that tell where to find them; the refused lists are no deletions.
    gaps = [gap for (kind, _), entry in items[1].items() if kind == "job" for gap in entry.get("gaps", [])]
    assert any(gap["role"] == "permissions" and gap["last_good"] == whole.id for gap in gaps)
    policies = next(report for report in hurt.manifest["kinds"] if report["kind"] == "cluster_policy")
    assert (policies["standing"], policies["gone"]) == ("forbidden", 0)
    assert store.prove_chain(snapshots) == 2


def test_the_reader_and_the_program_list_the_same(site):
    store = reader.Store(site.store)
    for snapshot in store.snapshots():
        address = f"{snapshot.environment}@{snapshot.id.removeprefix('snap-')}"
        listed = json.loads(site.lakehold("ls", address, "-o", "json"))["items"]
        mine = {(kind, key, entry["name"], entry.get("content")) for (kind, key), entry in store.prove(snapshot).items()}
        assert {(item["kind"], item["key"], item["name"], item.get("content")) for item in listed} == mine


def test_a_notebook_reads_back_as_the_workspace_has_it(site):
    store = reader.Store(site.store)
    whole = store.snapshots()[0]
    compared = 0
    for sort, line in store.pages(whole):
        if sort != "index" or line["kind"] != "notebook" or compared >= 20:
            continue
        header, entries = store.index(line)
        for entry in entries:
            for part in entry.get("parts", []):
                if part["role"] == "content" and part.get("format") == "source":
                    assert store.part(header, part) == exported(site, entry["name"])
                    compared += 1
    assert compared > 0


def exported(site: Site, path: str) -> bytes:
    query = urllib.parse.urlencode({"path": path, "format": "SOURCE", "direct_download": "true"})
    url = f"{site.url}/api/2.0/workspace/export?{query}"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer sim"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


@pytest.fixture
def copy(site, tmp_path):
    shutil.copytree(site.store, tmp_path / "store")
    return tmp_path / "store"


def prove(root: pathlib.Path) -> None:
    store = reader.Store(root)
    snapshots = store.snapshots()
    for snapshot in snapshots:
        store.prove(snapshot)
    store.prove_chain(snapshots)


def named_objects(root: pathlib.Path, room: str) -> list[pathlib.Path]:
    """Objects that a snapshot leads to: a run's leftovers may be hurt without harm."""
    store = reader.Store(root)
    found = set()
    for snapshot in store.snapshots():
        found.update(page["sha256"] for page in snapshot.manifest["pages"] if room == "indexes")
        for sort, line in store.pages(snapshot):
            if sort == "index":
                found.add(line["sha256"]) if room == "indexes" else found.update(
                    pack["sha256"] for pack in store.index(line)[0]["packs"]
                )
    return sorted(root / room / name[:2] / name for name in found)


@pytest.mark.parametrize("room", ["indexes", "packs"])
@pytest.mark.parametrize("hurt", ["flipped", "cut", "longer", "missing", "swapped"])
def test_damage_is_met(copy, room, hurt):
    prove(copy)
    objects = named_objects(copy, room)
    for victim in objects[:: max(1, len(objects) // 3)]:
        whole = victim.read_bytes()
        if hurt == "flipped":
            at = len(whole) // 2
            victim.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        elif hurt == "cut":
            victim.write_bytes(whole[:-1])
        elif hurt == "longer":
            victim.write_bytes(whole + b"\0")
        elif hurt == "missing":
            victim.unlink()
        else:
            other = next(one for one in objects if one != victim)
            victim.write_bytes(other.read_bytes())
        with pytest.raises(reader.Damaged):
            prove(copy)
        victim.write_bytes(whole)
    prove(copy)


def rewrite(path: pathlib.Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_changed_manifest_breaks_the_chain(copy):
    first = sorted(copy.glob("snapshots/*/*/manifest.json"))[0]
    rewrite(first, tags=["added later"])
    with pytest.raises(reader.Damaged, match="base"):
        prove(copy)


def test_a_changed_root_is_met(copy):
    last = sorted(copy.glob("snapshots/*/*/manifest.json"))[-1]
    rewrite(last, content_root="0" * 64)
    with pytest.raises(reader.Damaged, match="content root"):
        prove(copy)


def test_a_manifest_that_was_copied_elsewhere_is_met(copy):
    first = sorted(copy.glob("snapshots/*/*"))[0]
    shutil.copytree(first, copy / "snapshots" / "other" / first.name)
    with pytest.raises(reader.Damaged, match="another snapshot"):
        prove(copy)


def test_newer_documents_are_told_from_damaged_ones(copy):
    manifest = sorted(copy.glob("snapshots/*/*/manifest.json"))[-1]
    whole = manifest.read_text()
    for fields in ({"schema": "lakehold.manifest/v2"}, {"hash": "blake3"}):
        rewrite(manifest, **fields)
        with pytest.raises(reader.Newer):
            prove(copy)
        manifest.write_text(whole)
    rewrite(copy / "lakehold.json", version=2)
    with pytest.raises(reader.Newer):
        prove(copy)
    # A store that lost the file is readable, and fields that nobody knows are ignored.
    (copy / "lakehold.json").unlink()
    rewrite(manifest, invented={"later": True})
    prove(copy)


def test_a_pack_that_is_sealed_otherwise_is_not_opened(site):
    store = reader.Store(site.store)
    header = {"packs": [{"sha256": "0" * 64, "cipher": "age"}]}
    with pytest.raises(reader.Newer):
        store.frame(header, {"pack": 0, "offset": 8, "length": 9, "size": 0, "sha256": "0" * 64})


def test_the_examples_of_the_page_are_right():
    """Sections 7 and 10."""
    told = [("object", b'{"settings":{"name":"nightly"}}'), ("permissions", b'{"access_control_list":[]}')]
    parts = [{"role": role, "sha256": reader.sha256(body).hex()} for role, body in told]
    content = reader.content_of(parts)
    denied = [{"role": role, "fault": {"class": "denied"}} for role in ("permissions", "object")]
    slice_ = {"kinds": ["volume"], "shard": {"scope": "main.raw"}, "standing": "forbidden"}
    lines = sorted(
        [
            reader.entry_line("job", {"key": "123", "content": content}),
            reader.entry_line("job", {"key": "124", "gaps": denied}),
            next(reader.unlisted_lines(slice_))[1],
        ]
    )
    page = (ROOT / "proto" / "FORMAT.md").read_text()
    for known in (content, reader.sha256(lines[0]).hex(), reader.sha256(b"".join(lines)).hex()):
        assert known in page
