"""Starts `lakehold-sim` and gives the official SDK a client for it.

The simulator is found by the variable LAKEHOLD_SIM, else in cargo's target directory.
"""

import json
import os
import pathlib
import subprocess
import urllib.request
import uuid

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config

ROOT = pathlib.Path(__file__).resolve().parents[2]


def binary():
    named = os.environ.get("LAKEHOLD_SIM")
    if named:
        return named
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    for profile in ("release", "dist", "debug"):
        found = target / profile / "lakehold-sim"
        if found.exists():
            return str(found)
    pytest.exit(f"no lakehold-sim in {target}: cargo build --release -p lakehold-sim, or set LAKEHOLD_SIM", 2)


class Sim:
    """One simulator process, which may hold several workspaces."""

    def __init__(self, *args):
        self.process = subprocess.Popen(
            [binary(), "--listen", "127.0.0.1:0", *args], stdout=subprocess.PIPE, text=True
        )
        self.urls = []
        for line in self.process.stdout:
            if line.startswith("http://"):
                self.urls.append(line.strip())
            if line.startswith("oauth:"):
                break
        if not self.urls:
            raise RuntimeError("lakehold-sim did not start")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def client(self, i=0, **auth):
        auth = auth or {"token": "sim"}
        # No ambient variables or profiles: only what the test says.
        config = Config(host=self.urls[i], retry_timeout_seconds=60, config_file="/dev/null", **auth)
        return WorkspaceClient(config=config)

    def ask(self, path, body=None, method=None, i=0):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.urls[i]}/__sim/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def count(self, kind, i=0):
        return self.ask("info", i=i)["items"][kind]


@pytest.fixture(scope="session", autouse=True)
def no_ambient_credentials():
    for name in [n for n in os.environ if n.startswith(("DATABRICKS_", "ARM_", "GOOGLE_"))]:
        del os.environ[name]


@pytest.fixture(scope="session")
def sim():
    sim = Sim("--items", "600", "--seed", "7")
    yield sim
    sim.stop()


@pytest.fixture(scope="session")
def w(sim):
    return sim.client()


@pytest.fixture
def start():
    """Starts further simulators, stopped at the end of the test."""
    running = []

    def start(*args):
        running.append(Sim(*args))
        return running[-1]

    yield start
    for sim in running:
        sim.stop()


@pytest.fixture
def name():
    """A name nothing else has."""
    return f"judge_{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def people(w):
    """A user and a group to grant things to."""
    user = w.users.create(user_name=f"judge-{uuid.uuid4().hex[:8]}@example.com", display_name="Judge")
    group = w.groups.create(display_name=f"judges-{uuid.uuid4().hex[:8]}")
    return user.user_name, group.display_name
