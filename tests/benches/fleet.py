"""A fleet on this machine: RabbitMQ and Redis, simulated workspaces in one process, and worker processes."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from site_under_test import Lakehold, Workspace, variables, watched


class Servers:
    """RabbitMQ and Redis, and a server with a bucket if one is wanted; end with the `with` block."""

    def __init__(self, programs: Path, bucket: bool = False):
        command = [programs / "lakehold-servers"] + ["--bucket"] * bucket
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.queue, self.redis, *of_bucket = (self.process.stdout.readline().strip() for _ in range(2 + bucket))
        if not self.redis or of_bucket == [""]:
            raise SystemExit("RabbitMQ, Redis or SeaweedFS did not start: tests/run installs them")
        self.store = ["store: store"]
        if bucket:
            # Where every program looks for them, as for the tools of AWS.
            endpoint, name, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = of_bucket[0].split()
            self.store = [f"store: s3://{name}/bench", f"s3: {{endpoint: '{endpoint}', path_style: true, region: us-east-1}}"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


class Worker:
    """A process of `lakehold-worker`; ended with its fleet."""

    def __init__(self, fleet: "Fleet", slots: int):
        # Only this worker's own lines: a log that another one writes into says nothing of this one.
        self.log = fleet.folder / f"worker-{len(fleet.workers)}.log"
        command = [fleet.programs / "lakehold-worker", "-c", fleet.lakehold.config, "--slots", str(slots)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env=variables())
        self.peak_mib = 0.0
        self._watch = threading.Thread(target=self._watched)
        self._watch.start()

    def _watched(self):
        status, self.peak_mib = watched(self.process.pid)
        self.process.returncode = os.waitstatus_to_exitcode(status)

    def serves(self) -> bool:
        return b"serving" in self.log.read_bytes()

    def end(self):
        # At once: nobody wants what it would still finish.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self._watch.join()


class Fleet:
    """Workers and a coordinator that back up all the workspaces of one simulator into a store of their own."""

    def __init__(self, programs: Path, folder: Path, servers: Servers, workspaces: Workspace, limits: str):
        self.programs, self.folder, self.workers = programs, folder, []
        folder.mkdir(parents=True)
        self.lakehold = Lakehold(programs, folder)
        lines = ["version: 1", *servers.store, f"queue: '{queue_file(folder, servers)}'", f"redis: '{servers.redis}'", "environments:"]
        for n, url in enumerate(workspaces.urls):
            lines.append(f"  w{n}:\n    databricks: {{host: '{url}', token: 'env:SIM_TOKEN'}}\n    limits: {limits}")
        self.lakehold.config.write_text("\n".join(lines) + "\n")
        self.lakehold.run("init")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        for worker in self.workers:
            worker.end()

    def start(self, slots: int):
        self.workers.append(Worker(self, slots))

    def work(self, workers: int, slots: int):
        """Starts so many, and waits until all serve."""
        for _ in range(workers):
            self.start(slots)
        until("the workers to serve", lambda: all(worker.serves() for worker in self.workers))

    def committed(self) -> dict[str, float]:
        """When each environment's first snapshot came to be, by the clock of the file system."""
        manifests = self.lakehold.store.glob("snapshots/*/*/manifest.json")
        return {path.parts[-3]: path.stat().st_mtime for path in manifests}


def queue_file(folder: Path, servers: Servers) -> str:
    """The address of the queue has a password in it, and stands in a file of its own."""
    file = folder / "queue"
    file.write_text(servers.queue)
    return f"file:{file}"


def until(what: str, holds, patience: float = 60.0):
    """Waits until something holds; answers the seconds that took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > patience:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.002)
    return time.monotonic() - began

