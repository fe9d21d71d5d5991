"""The figures: what each measures, and how. Each function yields `Figure`s; what a figure means stands in BENCH.md."""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fewest import fewest
from site_under_test import Ended, Lakehold, Workspace

# Calls a second that `--limits real` allows, by the simulator's families: those that a backup meets.
ALLOWED = {"permissions": 100.0, "workspace.export": 60.0, "secrets": 1100 / 60, "scim": 255 / 60}
# Imports a second that it allows.
IMPORTS = 30.0
# What finds out who is asking and what the workspace is, before the plan.
PROBE = (
    "/.well-known/databricks-config",
    "/api/2.0/preview/scim/v2/Me",
    "/api/2.1/unity-catalog/metastore_summary",
    "/api/2.1/unity-catalog/current-metastore-assignment",
)
# What no list shows: the root of the workspace tree, which has permissions like any directory.
ROOT = "/api/2.0/workspace/get-status"
ACCESS = ("/api/2.0/permissions/", "/api/2.0/secrets/acls/list", "/api/2.1/unity-catalog/permissions/",
          "/api/2.1/unity-catalog/bindings/")  # fmt: skip


@dataclass
class Figure:
    """One figure, its target, and whether it is reached."""

    name: str
    value: str
    target: str
    reached: bool

    def __str__(self):
        return f"{self.name:<34} {self.value:>12} {self.target:>12}  {'reached' if self.reached else 'MISSED'}"


def say(text: str):
    print(f"    {text}", flush=True)


def told(name: str, value: float, most: float | None = None, least: float | None = None, form: str = ".3f") -> Figure:
    """A figure that must be at most, or at least, so much."""
    reached = (most is None or value <= most) and (least is None or value >= least)
    target = f"<= {most:{form}}" if most is not None else f">= {least:{form}}"
    return Figure(name, f"{value:{form}}", target, reached)


def backups(programs: Path, folder: Path, items: int) -> Iterator[Figure]:
    """Calls, rate and the unchanged second backup: one workspace with real limits, backed up twice."""
    with Workspace(programs, "--items", str(items), "--limits", "real", "--latency", "20ms") as workspace:
        lakehold = Lakehold.new(programs, folder, workspace.url)
        first = lakehold.run("backup")
        calls = workspace.calls()
        say(f"first backup: {calls['total']} calls, {first.seconds:.0f} s, peak {first.peak_mib:.0f} MiB")
        yield from economy(workspace, calls)
        yield from rate(calls)
        before = lakehold.packs()
        workspace.forget_calls()
        second = lakehold.run("backup")
        say(f"second backup: {workspace.calls()['total']} calls, {second.seconds:.0f} s")
        yield from unchanged(programs, workspace.calls(), second, len(lakehold.packs()) - len(before))


def economy(workspace: Workspace, calls: dict) -> Iterator[Figure]:
    least = fewest(workspace.items())
    say("fewest: " + ", ".join(f"{n} {what}" for what, n in least.items()))
    yield told("calls / fewest", calls["total"] / sum(least.values()), most=1.02)


def rate(calls: dict) -> Iterator[Figure]:
    """The family that bounds the run is the one whose calls need the longest at the rate it is allowed."""
    admitted: dict[str, dict[int, int]] = {family: {} for family in ALLOWED}
    for second in calls["seconds"]:
        if second["method"] == "GET" and second["family"] in admitted:
            admitted[second["family"]][second["second"]] = second["admitted"]
    needs = {family: sum(by.values()) / ALLOWED[family] for family, by in admitted.items()}
    for family, seconds in sorted(needs.items(), key=lambda pair: -pair[1]):
        say(f"{family}: {sum(admitted[family].values())} calls, {seconds:.0f} s at the rate allowed")
    family = max(needs, key=needs.get)
    by = admitted[family]
    # The first and the last second are begun and ended within, and say nothing of the rate.
    whole = range(min(by) + 1, max(by))
    used = sum(by.get(second, 0) for second in whole) / max(1, len(whole))
    yield told(f"rate used / allowed ({family})", used / ALLOWED[family], least=0.90)
    yield told("calls throttled, %", 100 * calls["throttled"] / calls["total"], most=0.5)


def unchanged(programs: Path, calls: dict, ended: Ended, packs: int) -> Iterator[Figure]:
    written = max(packs, find(ended.answer, "packs") or 0)
    yield told("unchanged: packs written", written, most=0, form=".0f")
    table = json.loads(subprocess.run([programs / "lakehold-calls"], capture_output=True, check=True).stdout)
    lists = {shape(path) for row in table for path in row["lists"]}
    uncovered = {shape(path): row for row in table for path in row["uncovered"]}
    others = 0
    for call in calls["calls"]:
        path = shape(call["path"])
        if path in lists or path == ROOT or path.startswith(ACCESS) or path in PROBE:
            continue
        if row := uncovered.get(path):
            say(f"{call['count']} bodies of {row['kind']}: {row['why']}")
        else:
            others += call["count"]
            say(f"neither list nor access list: {call['count']} {call['method']} {path} ({call['status']})")
    yield told("unchanged: calls beyond the rule", others, most=0, form=".0f")


def shape(path: str) -> str:
    """A path template without the names of its parameters, whose names differ between programs."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def find(value, name: str):
    """The first member of that name, however deep."""
    if isinstance(value, dict):
        if name in value:
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        return next((found for inner in value if (found := find(inner, name)) is not None), None)
    return None


def memory(programs: Path, folder: Path, few: int, many: int) -> Iterator[Figure]:
    """The peak of a backup of few and of many notebooks, as fast as this machine can."""
    peaks = []
    for count in (few, many):
        lakehold, ended = of_population(programs, folder / str(count), usual(count))
        peaks.append(ended.peak_mib)
        say(f"{count} notebooks: peak {ended.peak_mib:.0f} MiB, {ended.seconds:.0f} s")
    yield told(f"peak memory, {many} / {few}", peaks[1] / peaks[0], most=1.3)
    yield told(f"peak memory at {many}, MiB", peaks[1], most=150, form=".0f")


def usual(count: int) -> dict[str, int]:
    """So many notebooks, in directories and homes in the proportions of a default population."""
    return {"notebook": count, "directory": count // 5, "user": 1 + count // 50}


def of_population(programs: Path, folder: Path, counts: dict[str, int]) -> tuple[Lakehold, Ended]:
    """A backup of a workspace with so many items of each kind."""
    folder.mkdir(parents=True)
    population = folder / "population.json"
    population.write_text(json.dumps({"counts": counts}))
    with Workspace(programs, "--population", str(population), "--limits", "none") as workspace:
        # The limits that Lakehold itself keeps, lifted as they are for a workspace whose vendor raised its limits.
        lakehold = Lakehold.new(programs, folder / "site", workspace.url, "{share: 1, factor: 1000}")
        return lakehold, lakehold.run("backup")


def restores(programs: Path, folder: Path, few: int, many: int) -> Iterator[Figure]:
    """So many notebooks into an empty workspace with real limits: the time, against one import for each at the rate allowed."""
    peaks = []
    for count in (few, many):
        site = folder / str(count)
        lakehold, _ = of_population(programs, site, {"notebook": count, "directory": 20, "user": 2})
        with Workspace(programs, "--empty", "--limits", "real", "--latency", "20ms", "--seed", "2") as target:
            lakehold.also("target", target.url)
            ended = lakehold.run("restore", "sim", "--to", "target", "--kind", "notebook,directory,user", "--apply")
            peaks.append(ended.peak_mib)
            calls = target.calls()
            seconds = ended.answer["seconds"]
            say(f"{count} notebooks: {calls['total']} calls, {seconds:.0f} s, peak {ended.peak_mib:.0f} MiB")
    yield told("restore: fewest / time", many / IMPORTS / seconds, least=0.85)
    yield told("restore: calls throttled, %", 100 * calls["throttled"] / calls["total"], most=0.5)
    yield told(f"restore: peak memory, {many} / {few}", peaks[1] / peaks[0], most=1.3)


def verify(lakehold: Lakehold, times: int = 3) -> Iterator[Figure]:
    """Verify against `zstd -d | sha256sum` on the same frames, turn and turn about; the best of each counts."""
    frames = lakehold.folder / "frames.zst"
    with frames.open("wb") as joined:
        for pack in lakehold.packs():
            # A pack is eight bytes and then zstd frames one behind the other (FORMAT.md, section 4).
            joined.write(pack.read_bytes()[8:])
    ours = theirs = math.inf
    for _ in range(times):
        began = time.monotonic()
        subprocess.run(f"zstd -dcq < '{frames}' | sha256sum", shell=True, check=True, capture_output=True)
        theirs = min(theirs, time.monotonic() - began)
        ours = min(ours, lakehold.run("verify", "--all").seconds)
    plain = int(subprocess.run(f"zstd -dcq < '{frames}' | wc -c", shell=True, check=True, capture_output=True).stdout)
    say(f"{plain / 1e6:.0f} MB in {frames.stat().st_size / 1e6:.0f} MB of frames: "
        f"verify {plain / ours / 1e6:.0f} MB/s, zstd -d | sha256sum {plain / theirs / 1e6:.0f} MB/s")  # fmt: skip
    frames.unlink()
    yield told("verify / (zstd -d | sha256sum)", theirs / ours, least=0.80)


def cleared(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
