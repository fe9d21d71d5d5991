"""Runs the benchmarks: see BENCH.md, and `tests/bench --help`."""

import argparse
import sys
from pathlib import Path

from figures import backups, cleared, memory, restores, verify
from site_under_test import Lakehold

GROUPS = ("backups", "memory", "restores", "verify")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/bench", description="Measures the figures that Lakehold promises.")
    parser.add_argument("--programs", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="a tenth of the items: to see that it works, not to judge")
    parser.add_argument("--only", choices=GROUPS, action="append", help="some of the figures (verify needs memory's store)")
    asked = parser.parse_args()
    scale = 10 if asked.quick else 1
    groups = asked.only or GROUPS
    figures = []

    def take(found):
        for figure in found:
            print(figure, flush=True)
            figures.append(figure)

    print(f"{'figure':<34} {'value':>12} {'target':>12}  verdict")
    if "memory" in groups:
        take(memory(asked.programs, cleared(asked.work / "memory"), 10_000 // scale, 300_000 // scale))
    if "verify" in groups:
        folder = asked.work / "memory" / str(300_000 // scale) / "site"
        take(verify(Lakehold(asked.programs, folder)))
    if "backups" in groups:
        take(backups(asked.programs, cleared(asked.work / "backups") / "site", 10_000 // scale))
    if "restores" in groups:
        take(restores(asked.programs, cleared(asked.work / "restores"), 1_000 // scale, 10_000 // scale))
    missed = [figure for figure in figures if not figure.reached]
    print(f"{len(figures) - len(missed)} of {len(figures)} figures reached")
    return 1 if missed else 0


sys.exit(main())
