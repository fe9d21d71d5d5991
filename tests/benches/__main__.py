"""Runs the benchmarks: see BENCH.md, and `tests/bench --help`."""

import argparse
import sys
from pathlib import Path

from figures import backups, cleared, memory, restores, verify
from fleet_figures import coordinator, fairness, scale, worker
from postgres import postgres
from site_under_test import Lakehold

GROUPS = ("backups", "memory", "restores", "verify", "scale", "fairness", "coordinator", "worker", "postgres")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/bench", description="Measures the figures that Lakehold promises.")
    parser.add_argument("--programs", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a tenth of the items: to see that it works, not to judge")
    parser.add_argument("--only", choices=GROUPS, action="append", help="some of the figures (verify needs memory's store)")
    fleet = parser.add_argument_group("scale", "sizes; those that the design names: --workspaces 200 --slots 16")
    fleet.add_argument("--workspaces", type=int, default=40, help="in one simulator [default: %(default)s]")
    fleet.add_argument("--notebooks", type=int, default=300, help="in each [default: %(default)s]")
    fleet.add_argument("--per-second", type=float, default=30, help="exports allowed to each [default: %(default)s]")
    fleet.add_argument("--slots", type=int, default=6, help="of each worker [default: %(default)s]")
    fleet.add_argument("--workers", type=int, default=8, help="at most [default: %(default)s]")
    fleet.add_argument("--latency", default="20ms", help="of each call [default: %(default)s]")
    fleet.add_argument("--bucket", action="store_true", help="store in a bucket of SeaweedFS, not in a directory")
    server = parser.add_argument_group("postgres")
    server.add_argument("--megabytes", type=int, default=1000, help="of rows that all back up [default: %(default)s]")
    server.add_argument("--large", type=int, default=2000, help="megabytes, of which the memory is measured [default: %(default)s]")
    server.add_argument("--jobs", type=int, default=4, help="dumps at once [default: %(default)s]")
    server.add_argument("--rounds", type=int, default=3, help="of all programs in turn [default: %(default)s]")
    asked = parser.parse_args()
    scale_down = 10 if asked.quick else 1
    groups = asked.only or GROUPS
    figures = []

    def take(found):
        for figure in found:
            print(figure, flush=True)
            figures.append(figure)

    print(f"{'figure':<34} {'value':>12} {'target':>12}  verdict")
    if "memory" in groups:
        take(memory(asked.programs, cleared(asked.work / "memory"), 10_000 // scale_down, 300_000 // scale_down))
    if "verify" in groups:
        folder = asked.work / "memory" / str(300_000 // scale_down) / "site"
        take(verify(Lakehold(asked.programs, folder)))
    if "backups" in groups:
        take(backups(asked.programs, cleared(asked.work / "backups") / "site", 10_000 // scale_down))
    if "restores" in groups:
        take(restores(asked.programs, cleared(asked.work / "restores"), 1_000 // scale_down, 10_000 // scale_down))
    if "scale" in groups:
        sizes = (asked.workspaces, asked.notebooks // scale_down, asked.per_second, asked.slots, asked.latency, asked.workers, asked.bucket)
        take(scale(asked.programs, cleared(asked.work / "scale"), *sizes))
    if "fairness" in groups:
        take(fairness(asked.programs, cleared(asked.work / "fairness"), 100_000 // scale_down, 100, 99, 3))
    if "coordinator" in groups:
        take(coordinator(asked.programs, 1_000_000 // scale_down))
    if "worker" in groups:
        take(worker(asked.programs, cleared(asked.work / "worker"), 10_000 // scale_down))
    if "postgres" in groups:
        sizes = (asked.megabytes // scale_down, asked.large // scale_down, asked.jobs, asked.rounds)
        take(postgres(asked.programs, cleared(asked.work / "postgres"), *sizes))
    missed = [figure for figure in figures if not figure.reached]
    print(f"{len(figures) - len(missed)} of {len(figures)} figures reached")
    return 1 if missed else 0


sys.exit(main())
