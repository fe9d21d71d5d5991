"""Holds the reader that was written from proto/FORMAT.md alone against real snapshots: of a hostile simulated workspace,
whole, with gaps, and narrowed; against the same snapshots, damaged; and against the examples of the page.

Binaries are found by LAKEHOLD and LAKEHOLD_SIM, else in cargo's target directory.
"""

import json
import os
import pathlib
import random
import re
import shlex
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest

import read_store
from read_store import Damage, H, Item, Store, content_hash, item_line, slice_line

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "proto" / "FORMAT.md").read_text()
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


@pytest.fixture(scope="module")
def sound(site, tmp_path_factory):
    """A copy to be hurt: whoever hurts it mends it."""
    place = tmp_path_factory.mktemp("copy") / "store"
    shutil.copytree(site.store, place)
    prove(place)
    return place


@pytest.fixture
def copy(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "store")
    return tmp_path / "store"


def snapshots(root: pathlib.Path) -> list:
    store = Store(root)
    return [store.snapshot(environment, folder) for environment, folder in store.folders()]


def prove(root: pathlib.Path) -> None:
    """Proves all snapshots, the newest first: it has the most to be hurt."""
    for snapshot in reversed(snapshots(root)):
        snapshot.check()


def run(*words) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, read_store.__file__, *map(str, words)], capture_output=True)


def test_every_snapshot_is_proved(site):
    found = snapshots(site.store)
    assert len(found) == 3
    proofs = [snapshot.check() for snapshot in found]
    whole, hurt, narrow = found
    assert min(proof["items"] for proof in proofs) > 10
    # The narrowed one is compared with the newest full one, and is not the latest.
    assert [proof["chain"] for proof in proofs] == [[], [whole.folder], [hurt.folder, whole.folder]]
    assert Store(site.store).snapshot(hurt.environment).folder == hurt.folder
    assert hurt.manifest["state"] == "partial"
    assert hurt.root() != whole.root()
    assert narrow.manifest["selection"]["kinds"] == ["notebook"] and narrow.manifest["tags"] == ["narrow"]
    assert {kind for kind, _ in narrow.items()} == {"notebook"}
    # The refused permissions are gaps that tell where to find them; the refused lists are no deletions.
    gaps = [gap for (kind, _), item in hurt.items().items() if kind == "job" for gap in item.entry.get("gaps", [])]
    assert any(gap["role"] == "permissions" and gap["last_good"] == whole.manifest["snapshot"] for gap in gaps)
    policies = next(report for report in hurt.manifest["kinds"] if report["kind"] == "cluster_policy")
    assert (policies["standing"], policies["gone"]) == ("forbidden", 0)


def test_the_reader_and_the_program_list_the_same(site):
    for snapshot in snapshots(site.store):
        address = f"{snapshot.environment}@{snapshot.manifest['snapshot'].removeprefix('snap-')}"
        listed = json.loads(site.lakehold("ls", address, "-o", "json"))["items"]
        mine = {(*which, item.entry["name"], item.entry.get("content")) for which, item in snapshot.load().items().items()}
        assert {(item["kind"], item["key"], item["name"], item.get("content")) for item in listed} == mine


def test_a_notebook_reads_back_as_the_workspace_has_it(site):
    whole, compared = snapshots(site.store)[0].load(), 0
    for (kind, key), item in whole.items().items():
        for part in item.entry.get("parts", []):
            if kind == "notebook" and part["role"] == "content" and part.get("format") == "source" and compared < 20:
                assert b"".join(whole.store.plain(item, part)) == exported(site, item.entry["name"])
                compared += 1
    assert compared > 0


def exported(site: Site, path: str) -> bytes:
    query = urllib.parse.urlencode({"path": path, "format": "SOURCE", "direct_download": "true"})
    url = f"{site.url}/api/2.0/workspace/export?{query}"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer sim"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def test_one_item_is_had_from_the_shell(site):
    environment, folder = (newest := snapshots(site.store)[-1]).environment, newest.folder
    listed = [json.loads(line) for line in run(site.store, "items", environment, folder).stdout.splitlines()]
    item, part = next((item, part) for item in listed for part in item.get("parts", []) if part["role"] == "content")
    done = run(site.store, "cat", environment, folder, item["kind"], item["key"], part["role"])
    assert (done.returncode, len(done.stdout), H(done.stdout).hex()) == (0, part["size"], part["sha256"])


def named_objects(root: pathlib.Path, room: str) -> list[pathlib.Path]:
    """Objects that a snapshot leads to: a run's leftovers may be hurt without harm."""
    found = set()
    for snapshot in snapshots(root):
        snapshot.load()
        pages = {page["sha256"] for page in snapshot.manifest["pages"]}
        found |= snapshot.packs if room == "packs" else snapshot.indexes | pages
    return sorted(root / room / name[:2] / name for name in found)


def hurts(whole: bytes, other: bytes) -> dict:
    at = random.Random(len(whole)).randrange(len(whole))
    return {
        "first byte": bytes([whole[0] ^ 1]) + whole[1:],
        "any byte": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "last byte": whole[:-1] + bytes([whole[-1] ^ 1]),
        "cut": whole[:-1],
        "longer": whole + b"\0",
        "swapped": other,
        "missing": None,
    }


@pytest.mark.parametrize("room", ["indexes", "packs"])
def test_damage_is_met(sound, room):
    objects = named_objects(sound, room)
    for victim in objects[:: max(1, len(objects) // 3)]:
        whole, other = victim.read_bytes(), next(one for one in objects if one != victim).read_bytes()
        for how, damaged in hurts(whole, other).items():
            victim.unlink()
            if damaged is not None:
                victim.write_bytes(damaged)
            with pytest.raises(Damage, match=victim.name):
                prove(sound)
                pytest.fail(f"{how} of {victim.name} was not found")
            victim.write_bytes(whole)
    prove(sound)


def test_no_byte_of_a_base_can_change(sound):
    """Its successor has the hash of the whole manifest (11)."""
    _, _, narrow = snapshots(sound)
    for base in narrow.chain():
        path, chance = sound / base.key, random.Random(1)
        for at in {0, len(base.bytes) - 1} | {chance.randrange(len(base.bytes)) for _ in range(100)}:
            path.write_bytes(base.bytes[:at] + bytes([base.bytes[at] ^ 1]) + base.bytes[at + 1 :])
            with pytest.raises(Damage):
                list(narrow.chain())
        path.write_bytes(base.bytes)
    assert len(list(narrow.chain())) == 2


def first(of: str, **fields):
    """Changes the first of a list of the manifest, and the rest of nothing."""
    return lambda manifest: {of: [manifest[of][0] | fields] + manifest[of][1:]}


def counted(field: str):
    return lambda manifest: first("kinds", **{field: manifest["kinds"][0].get(field, 0) + 1})(manifest)


@pytest.mark.parametrize(
    "change",
    [{"schema": "lakehold.manifest/v2"}, {"hash": "blake3"}, {"environment": "other"}, {"time": "20200101T000000Z"},
     {"snapshot": "snap-" + "0" * 32}, {"state": "complete"}, {"state": "fine"}, {"content_root": "0" * 64}, {"pages": []},
     first("pages", size=1), first("pages", indexes=0), first("pages", first=["", ""]), first("kinds", standing="lost"),
     *map(counted, ["items", "gaps", "unlisted", "degraded", "bytes"])],
    ids=str,
)  # fmt: skip
def test_a_changed_newest_manifest_is_met_where_the_store_proves_it(sound, change):
    # The second, which is partial and whole in kinds: checked by itself it is as unproven as the newest.
    newest = sound / snapshots(sound)[1].key
    whole = newest.read_text()
    manifest = json.loads(whole)
    newest.write_text(json.dumps(manifest | (change(manifest) if callable(change) else change)))
    try:
        with pytest.raises(Damage):
            Store(sound).snapshot(newest.parts[-3], newest.parts[-2]).check()
    finally:
        newest.write_text(whole)


def test_a_manifest_that_was_copied_elsewhere_is_met(copy):
    one = sorted(copy.glob("snapshots/*/*"))[0]
    shutil.copytree(one, copy / "snapshots" / "other" / one.name)
    with pytest.raises(Damage, match="environment is not that of the key"):
        prove(copy)


def test_a_folder_without_a_manifest_is_no_snapshot(copy):
    environment, whole = snapshots(copy)[0].environment, snapshots(copy)[1].folder
    (copy / "snapshots" / environment / f"20990101T000000Z-{'0' * 32}").mkdir()
    (copy / "snapshots" / environment / "notes").mkdir()
    assert len(snapshots(copy)) == 3 and Store(copy).snapshot(environment).folder == whole


def test_what_version_1_lets_grow_is_ignored(copy):
    newest = copy / snapshots(copy)[-1].key
    newest.write_text(json.dumps(json.loads(newest.read_text()) | {"invented": {"later": True}}))
    identity = json.loads((copy / "lakehold.json").read_text())
    (copy / "lakehold.json").write_text(json.dumps(identity | {"invented": 1}))
    prove(copy)


def test_a_lost_identity_is_said_and_a_newer_one_is_not_read(copy):
    identity = copy / "lakehold.json"
    identity.unlink()
    refused = run(copy, "snapshots")
    assert refused.returncode == 5 and b"no lakehold.json" in refused.stderr and not refused.stdout
    assert len(run("--no-identity", copy, "snapshots").stdout.splitlines()) == 3
    identity.write_text('{"schema": "lakehold.store/v2", "version": 2}')
    for flags in ([], ["--no-identity"]):
        done = run(*flags, copy, "snapshots")
        assert done.returncode == 5 and b"version 2" in done.stderr and not done.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [({"pack": 1}, "not in the list"), ({"pack": -1}, "not in the list"), ({"size": 2**24 + 1}, "out of bounds"),
     ({"length": 0}, "out of bounds"), ({"length": 17 * 2**20 + 1}, "out of bounds"), ({"offset": 7}, "out of bounds"),
     ({"cipher": "age"}, "cipher that this reader does not know"), ({"dictionary": "0" * 64}, "dictionary that")],
    ids=str,
)  # fmt: skip
def test_a_frame_is_judged_before_anything_is_read(site, change, says):
    pack = {"sha256": "0" * 64} | {word: change[word] for word in ("cipher", "dictionary") if word in change}
    frame = {"pack": 0, "offset": 8, "length": 9, "size": 0, "sha256": "0" * 64} | change
    with pytest.raises(Damage, match=says):
        list(Store(site.store).plain(Item("job", {}, [pack]), {"frames": [frame]}))


# The worked examples of the page.

OBJECT, PERMISSIONS = b'{"settings":{"name":"nightly"}}', b'{"access_control_list":[]}'
CONTENT = "2a9db0bf53b93e8dffe5f87dbefe19d99290a8d3b6a24b5542a958dc73cedb14"


def section(number: int) -> str:
    return PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0]


def abbreviates(text: str, data: bytes) -> bool:
    begin, end = text.split("…")
    return data.hex().startswith(begin) and data.hex().endswith(end)


def test_example_of_section_7():
    told = section(7)
    assert CONTENT in told
    for body, size in ((OBJECT, 31), (PERMISSIONS, 26)):
        hashed = re.search(re.escape(body.decode()) + r"` \((\d+) bytes, hash `([0-9a-f…]+)`\)", told)
        assert int(hashed[1]) == len(body) == size and abbreviates(hashed[2], H(body))
    parts = [{"role": "permissions", "sha256": H(PERMISSIONS).hex()}, {"role": "object", "sha256": H(OBJECT).hex()}]
    assert content_hash(parts).hex() == content_hash(parts[::-1]).hex() == CONTENT
    same = [dict(parts[0], canonical=parts[0]["sha256"], sha256="00" * 32), parts[1]]
    assert content_hash(same).hex() == CONTENT


def test_example_of_section_10():
    denied = [{"role": role, "fault": {"class": "denied"}} for role in ("permissions", "object")]
    lines = [item_line("job", {"key": "123", "content": CONTENT}),
             slice_line("volume", {"shard": {"scope": "main.raw"}, "standing": "forbidden"}),
             item_line("job", {"key": "124", "gaps": denied})]  # fmt: skip
    table = re.findall(r"\| `([0-9a-f]+…[0-9a-f]+)` \| (?:`([0-9a-f]+…[0-9a-f]+)`|zeros) \| `([0-9a-f]+…[0-9a-f]+)` \|", section(10))
    for line, row in zip(lines, table, strict=True):
        assert len(line) == 96
        assert all(abbreviates(text or "00…00", line[at : at + 32]) for text, at in zip(row, (0, 32, 64)))
        assert row[1] or line[32:64] == bytes(32)
    assert lines == sorted(lines)
    for root in (H(b"".join(lines)), H(lines[0])):
        assert root.hex() in section(10)


def shell(script: str, place: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", "-c", script], cwd=place, capture_output=True, text=True)


def by_hand() -> list[str]:
    """The commands of section 15: restore one item; keep the hash of each manifest; prove that nothing was damaged."""
    return re.findall(r"```bash\n(.*?)```", section(15), re.DOTALL)


def test_restore_by_hand(site, tmp_path):
    """A part of each role, empty ones and those of several frames; from the latest, as the newest is narrowed."""
    latest = Store(site.store).snapshot(snapshots(site.store)[0].environment).load()
    names = [(item.kind, item.entry["name"]) for item in latest.items().values()]
    chosen = {(part["role"], part["size"] == 0, len(part["frames"]) > 1): (item.kind, item.entry, part)
              for item in latest.items().values() for part in item.entry.get("parts", [])
              if re.fullmatch(r"[A-Za-z0-9 _./@-]+", item.entry["name"])
              and names.count((item.kind, item.entry["name"])) == 1}  # fmt: skip
    assert {role for role, _, _ in chosen} >= {"object", "content", "permissions"}
    for (role, _, _), (kind, entry, part) in chosen.items():
        script = by_hand()[0]
        for old, new in (("cd /var/lib/lakehold", f"cd {shlex.quote(str(site.store))}"),
                         ("snapshots/prod", f"snapshots/{latest.environment}"), ('"job"', f'"{kind}"'),
                         ('"nightly-etl"', f'"{entry["name"]}"'), ('"object"', f'"{role}"'),
                         ("nightly-etl.json", shlex.quote(str(tmp_path / "part")))):  # fmt: skip
            assert old in script
            script = script.replace(old, new)
        done = shell(script, tmp_path)
        assert done.returncode == 0 and not done.stderr, done.stderr
        taken, expected = done.stdout.splitlines()[-2:]
        assert taken.split()[0] == expected == part["sha256"] == H((tmp_path / "part").read_bytes()).hex(), (kind, role)


def test_prove_by_hand(sound):
    done = shell(by_hand()[1], sound)
    assert done.returncode == 0 and done.stdout == "sound\n", done.stderr
    path = named_objects(sound, "packs")[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:9] + bytes([whole[9] ^ 1]) + whole[10:])
    damaged = shell(by_hand()[1], sound)
    path.write_bytes(whole)
    assert damaged.returncode != 0 and path.name in damaged.stdout


def test_the_hashes_that_prove_manifests_are_told_by_all_alike(site):
    """By the program, by the reader, and by hand: nothing in the store proves the newest."""
    listed = json.loads(site.lakehold("snapshots", "-o", "json"))["snapshots"]
    told = sorted(one["manifest_sha256"] for one in listed)
    assert told == sorted(H(snapshot.bytes).hex() for snapshot in snapshots(site.store))
    assert told == sorted(line.split()[0] for line in shell(by_hand()[2], site.store).stdout.splitlines())
