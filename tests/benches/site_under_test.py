"""A simulated workspace in a process of its own, and the program under measurement in another."""

import contextlib
import itertools
import json
import os
import select
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Ended:
    """How a command ended."""

    status: int
    answer: dict
    seconds: float
    peak_mib: float


class Workspace:
    """`lakehold-sim` on a free port of the loopback interface; ends with the `with` block."""

    def __init__(self, programs: Path, *flags: str):
        command = [programs / "lakehold-sim", "--listen", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = iter(self.process.stdout.readline, "")
        # A line for each workspace, and then how to sign in.
        self.urls = [line.strip() for line in itertools.takewhile(lambda line: line.startswith("http"), lines)]
        if not self.urls:
            raise SystemExit("the simulated workspace did not start")
        self.url = self.urls[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def ask(self, path: str, method: str = "GET") -> dict:
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def items(self) -> dict[str, int]:
        """Items by kind, as the simulator counts them."""
        return self.ask("/__sim/info")["items"]

    def calls(self, of_all: bool = False) -> dict:
        """What was asked of it, or of all workspaces, since the last reset."""
        return self.ask("/__sim/calls" + ("?all=true" if of_all else ""))

    def forget_calls(self):
        self.ask("/__sim/calls/reset", "POST")


class Lakehold:
    """The program, with a configuration and a store of its own below `folder`."""

    def __init__(self, programs: Path, folder: Path):
        self.program, self.folder, self.store = programs / "lakehold", folder, folder / "store"
        self.config = folder / "lakehold.yaml"

    @classmethod
    def new(cls, programs: Path, folder: Path, url: str, limits: str | None = None):
        """With a configuration for the workspace at `url`, and no store yet."""
        made = cls(programs, folder)
        folder.mkdir(parents=True)
        limits = f"\n    limits: {limits}" if limits else ""
        made.config.write_text(
            "version: 1\nstore: store\nenvironments:\n"
            f"  sim:\n    databricks: {{host: '{url}', token: 'env:SIM_TOKEN'}}{limits}\n"
        )
        return made

    def also(self, name: str, url: str):
        """One more workspace, which needs no word to be changed."""
        with self.config.open("a") as config:
            config.write(f"  {name}:\n    databricks: {{host: '{url}', token: 'env:SIM_TOKEN'}}\n    protection: none\n")

    def run(self, *arguments: str) -> Ended:
        """Runs a command to its end. Its peak of resident memory is the kernel's own mark of it: see `watched`."""
        began = time.monotonic()
        process = self.begin(*arguments)
        status, peak_mib = watched(process.pid)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):
            raise SystemExit(f"`lakehold {' '.join(arguments)}` ended with {process.returncode}: see {self.folder / 'log'}")
        return Ended(process.returncode, json.loads((self.folder / "answer.json").read_bytes()), seconds, peak_mib)

    def begin(self, *arguments: str) -> subprocess.Popen:
        """Begins a command, whose answer goes to `answer.json` and whose messages to `log`."""
        command = [self.program, "-c", self.config, "-o", "json", *arguments]
        with (self.folder / "answer.json").open("wb") as out, (self.folder / "log").open("ab") as err:
            return subprocess.Popen(command, stdout=out, stderr=err, env=variables())

    def packs(self) -> list[Path]:
        return sorted(self.store.glob("packs/??/*"))


def variables() -> dict[str, str]:
    """Those of this process, without what would change what a program does, and with the token of every workspace."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("DATABRICKS_", "LAKEHOLD_", "ARM_"))}
    return ours | {"SIM_TOKEN": "sim"}


def watched(pid: int) -> tuple[int, float]:
    """Waits for a child; answers its status and its peak of resident memory in MiB.

    What the kernel tells of a child that has ended (`ru_maxrss`) begins at the peak of the process that started it, which
    shared its memory until the program took its place. `VmHWM` begins with the program, and is gone when it ends: it is
    read now and then, and being a mark that only rises, the last one read is the peak but for the very end. Each look takes
    of the cores that are measured, so a long command is looked at less often.
    """
    mark, pause = 0, 0.005
    with open(os.pidfd_open(pid), "rb", buffering=0) as ended:
        while not select.select([ended], [], [], pause)[0]:
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                mark = max([mark, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))])
            pause = min(1.2 * pause, 0.05)
    return os.waitpid(pid, 0)[1], mark / 1024
