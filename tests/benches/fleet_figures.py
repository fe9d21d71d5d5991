"""The figures of a fleet: whether more workers help, whether a huge workspace harms small ones, and what processes need."""

import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, say, told, usual
from fleet import Fleet, Servers, until
from site_under_test import Workspace

# Calls a second that the documented limits allow for exporting, which is what bounds these backups, for access lists, and
# what we believe of listing.
EXPORT, ACCESS, LIST = 60.0, 100.0, 30.0
# What of its limits a workspace gives Lakehold unless told otherwise.
SHARE = 0.97


def scale(
    programs: Path,
    folder: Path,
    workspaces: int,
    notebooks: int,
    per_second: float,
    slots: int,
    latency: str,
    most: int,
    bucket: bool,
) -> Iterator[Figure]:
    """The same backup by one worker, two, four, and so on, within the same limits of each workspace."""
    share = per_second / EXPORT
    limits = folder / "limits.json"
    rules = {"workspace.export": EXPORT, "permissions": ACCESS, "workspace": LIST}
    limits.write_text(json.dumps([
        {"family": family, "methods": ["GET"], "per_second": rate * share, "burst": burst(rate * share)}
        for family, rate in rules.items()
    ]))  # fmt: skip
    counts = {"notebook": notebooks, "directory": max(1, notebooks // 20), "user": 1}
    flags = ["--workspaces", str(workspaces), "--population", str(population(folder, counts))]
    flags += ["--limits", str(limits), "--latency", latency]
    times, used, ones, tens, calls = {}, {}, [], [], 0
    steps = [1 << n for n in range(most.bit_length())]
    for workers in steps:
        with (
            Servers(programs, bucket) as servers,
            Workspace(programs, *flags) as sim,
            Fleet(programs, folder / str(workers), servers, sim, f"{{share: {share * SHARE}}}") as fleet,
        ):
            fleet.work(workers, slots)
            before = cores()
            ended = fleet.lakehold.run("backup", "--all", "--kind", "notebook,directory")
            idle = idle_since(before)
            report = sim.calls(of_all=True)
        times[workers] = ended.seconds
        used[workers] = in_the_middle(report) / (per_second * workspaces)
        peak = next(peak for peak in report["peaks"] if peak["family"] == "workspace.export")
        ones.append(peak["in_one"])
        tens.append(peak["in_ten"])
        calls += report["total"]
        say(
            f"{workers} workers of {slots} slots: {ended.seconds:.1f} s, {report['total']} calls, {report['throttled']} "
            f"throttled, {used[workers]:.2f} of the budgets used, at most {peak['in_one']} in a second, {peak['in_ten']} in ten; "
            f"the machine idle for {100 * idle:.0f} %"
        )
    for workers in steps[1:]:
        name = f"scale-out: time, {workers} / {workers // 2} workers"
        if used[workers // 2] >= 0.9:
            say(f"{name}: the budgets were used up already")
            continue
        yield told(name, times[workers] / times[workers // 2], most=0.7)
    yield told("scale-out: calls / sum of budgets", max(used.values()), least=0.9)
    yield told("any second / budget", max(ones) / per_second, most=1.1)
    yield told("any ten seconds / (budget + burst)", max(tens) / (10 * per_second + burst(per_second)), most=1.0)


def cores() -> list[int]:
    """Time of all cores so far, by what they did; the fourth and fifth are nothing, and waiting for a disk."""
    return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def idle_since(before: list[int]) -> float:
    """The part of the cores' time since then in which they had nothing to do."""
    spent = [now - then for now, then in zip(cores(), before)]
    return (spent[3] + spent[4]) / max(1, sum(spent))


def burst(per_second: float) -> int:
    """What may be made up for at once: a tenth of a second's calls, at least two."""
    return max(2, int(per_second / 10))


def in_the_middle(report: dict) -> float:
    """Exports a second over the middle half of the seconds in which there were any."""
    by: dict[int, int] = {}
    for second in report["seconds"]:
        if second["family"] == "workspace.export":
            by[second["second"]] = by.get(second["second"], 0) + second["admitted"]
    first, last = min(by), max(by)
    quarter = (last - first) // 4
    middle = range(first + max(1, quarter), max(first + 2, last - quarter))
    return sum(by.get(second, 0) for second in middle) / len(middle)


def fairness(programs: Path, folder: Path, huge: int, small: int, others: int, per_second: float) -> Iterator[Figure]:
    """A huge workspace beside many small ones: when the median small one is done, against when it is alone."""
    # More slots than workspaces, and a rate that this machine can serve to all of them: else it, and nobody's greed, is what
    # the small ones wait for.
    workers, slots, share = 4, 32, per_second / EXPORT
    few = {"counts": {"notebook": small, "directory": max(1, small // 20), "user": 1}}
    many = {"counts": {"notebook": huge, "directory": huge // 20, "user": 1}}
    done = {}
    for name, each in {"alone": [few], "small": [few] * others, "all": [many] + [few] * others}.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"each": each}))
        flags = ["--workspaces", str(len(each)), "--population", str(file), "--limits", "real", "--latency", "20ms"]
        with (
            Servers(programs) as servers,
            Workspace(programs, *flags) as sim,
            Fleet(programs, folder / name, servers, sim, f"{{share: {share}}}") as fleet,
        ):
            fleet.work(workers, slots)
            began = time.time()
            running = fleet.lakehold.begin("backup", "--all", "--kind", "notebook,directory")
            wanted = {f"w{n}" for n, one in enumerate(each) if one is few}
            until("the small ones", lambda: fleet.committed().keys() >= wanted, patience=1800)
            committed = fleet.committed()
            # The huge one has shown what it does to the others: its end is of no interest here.
            running.kill()
            running.wait()
        times = sorted(committed[name] - began for name in wanted)
        done[name] = statistics.median(times)
        say(f"{name}: {len(each)} workspaces: a small one is done after {times[0]:.1f}, {done[name]:.1f}, {times[-1]:.1f} s "
            "(first, median, last)")  # fmt: skip
    yield told("fairness: median small / alone", done["all"] / done["alone"], most=1.5)
    yield told("fairness: with / without the huge", done["all"] / done["small"], most=1.5)


def coordinator(programs: Path, tasks: int) -> Iterator[Figure]:
    """A run of so many tasks that do nothing, whose coordinator is killed at nine tenths of them."""
    command = [programs / "lakehold-tasks", "--killed", str(tasks)]
    told_by_it = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    of = {name: float(value) for name, value in (line.split() for line in told_by_it.splitlines())}
    say(f"{of['tasks']:.0f} tasks in {of['seconds']:.0f} s; peaks: coordinator {of['killed-coordinator-mib']:.0f} MiB until it is "
        f"killed, the next one {of['coordinator-mib']:.0f} MiB")  # fmt: skip
    peak = max(of["killed-coordinator-mib"], of["coordinator-mib"])
    yield told("coordinator: peak memory, MiB", peak, most=300, form=".0f")
    yield told("coordinator: recovery, s", of["recovery-seconds"], most=60, form=".1f")
    yield told("worker: 64 no-op slots, MiB", of["worker-mib"], most=80, form=".0f")


def worker(programs: Path, folder: Path, notebooks: int) -> Iterator[Figure]:
    """One worker: how soon it has done its first task, and what it needs for many notebooks."""
    flags = ["--population", str(population(folder, usual(notebooks))), "--limits", "none"]
    with (
        Servers(programs) as servers,
        Workspace(programs, *flags) as sim,
        Fleet(programs, folder / "site", servers, sim, "{share: 1, factor: 1000}") as fleet,
    ):
        running = fleet.lakehold.begin("backup", "--all")
        until("a plan", lambda: any(fleet.lakehold.store.glob("runs/*/plan.json")))
        # All that can be sent without a worker is sent.
        time.sleep(2)
        began = time.monotonic()
        fleet.start(64)
        until("an outcome", lambda: any(fleet.lakehold.store.glob("runs/*/outcomes/*/*/*")))
        first = time.monotonic() - began
        running.wait()
        fleet.end()
        peak = fleet.workers[0].peak_mib
    yield told("worker: start to first outcome, s", first, most=1.0)
    yield told(f"worker: {notebooks} notebooks, MiB", peak, most=150, form=".0f")


def population(folder: Path, counts: dict[str, int]) -> Path:
    file = folder / "population.json"
    file.write_text(json.dumps({"counts": counts}))
    return file
