"""Backups of PostgreSQL databases and their restores, beside PostgreSQL's own programs and pgBackRest: what they take, and how much
memory."""

import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, cleared, find, say, told
from site_under_test import Lakehold

# The level of every frame of Lakehold's.
LEVEL = 3
PASSWORD = "the-benchmark-s-own"
# Restores beside what is there, as all others do here.
RESTORE = ("restore", "shop", "--to", "shop", "--apply", "--yes", "--as", "again", "--item")
# Tables by their share of all rows; the rest lies in small ones. Not in the order of their names.
SHARES = {"accounts": 0.10, "events": 0.15, "lines": 0.25, "orders": 0.40}
SMALL = 50
# Bytes of a row as `COPY` writes it, about.
ROW = 132
# A row with an id, a time, some words, a number, and a token that does not compress. No two tables have a row in common.
ROWS = """create table {name} as select i as id, timestamptz '2026-01-01' + i * interval '7 seconds' as at,
    h & 65535 as customer, (array['new', 'paid', 'sent', 'back'])[1 + (h >> 16 & 3)] as state,
    concat_ws(' ', w[1 + (h >> 18 & 15)], w[1 + (h >> 22 & 15)], w[1 + (h >> 26 & 15)], w[1 + (h >> 30 & 15)],
      w[1 + (h >> 34 & 15)], w[1 + (h >> 38 & 15)]) as note,
    ((h >> 42 & 1048575) / 100.0)::numeric(12, 2) as amount, md5(i::text) as token
    from (select {first} + n as i, hashint8extended({first} + n, 0) as h from generate_series(1, {rows}) n) numbers,
      (select array['amber', 'basket', 'copper', 'dozen', 'early', 'fabric', 'gentle', 'harbour', 'island', 'juniper',
        'kettle', 'lantern', 'meadow', 'narrow', 'orchard', 'pebble'] as w) words"""


class Cluster:
    """A server of its own on a free port of the loopback interface; ends with the `with` block, and its data with it."""

    def __init__(self, folder: Path):
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if not versions:
            raise SystemExit("PostgreSQL is missing: run tests/run once, or apt-get install postgresql")
        self.programs, self.folder, self.data = versions[-1].parent, folder, folder / "data"
        self.port = free_port()
        self.server = None

    def __enter__(self):
        # Its user must come to it.
        for parent in (self.folder, *self.folder.parents):
            if not parent.stat().st_mode & 0o001:
                raise SystemExit(f"the server's user cannot enter {parent}: give --work a folder that all may enter")
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        made = [*self.as_server(self.programs / "initdb"), "-A", "scram-sha-256", "-U", "postgres", "--no-sync", "--locale=C.UTF-8",
                "--encoding=UTF8", "-D", self.data, f"--pwfile={password}"]  # fmt: skip
        subprocess.run(made, check=True, capture_output=True, cwd="/")
        settings = {"fsync": "off", "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
                    "shared_buffers": "256MB", "max_wal_size": "8GB", "autovacuum": "off"}  # fmt: skip
        command = [*self.as_server(self.programs / "postgres"), "-D", self.data]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("wb") as log:
            self.server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        patience = time.monotonic() + 60
        while subprocess.run(self.client("pg_isready"), capture_output=True).returncode:
            if self.server.poll() is not None or time.monotonic() > patience:
                raise SystemExit(f"PostgreSQL does not start: see {self.folder / 'server.log'}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        # At once: nobody needs what is in it any more.
        self.server.send_signal(3)
        self.server.wait()
        shutil.rmtree(self.data)

    @staticmethod
    def as_server(program: Path | str) -> list:
        """A program as the server's user: PostgreSQL refuses to run as root."""
        if os.geteuid():
            return [program]
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "KILL", "--", program]

    def client(self, program: str, *arguments) -> list:
        return [self.programs / program, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", *arguments]

    def sql(self, database: str, text: str) -> str:
        command = self.client("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database)
        return subprocess.run(command, input=text, check=True, capture_output=True, text=True, env=known()).stdout

    def fill(self, database: str, megabytes: int):
        """Makes a database with so many megabytes of rows, as `COPY` writes them."""
        self.sql("postgres", f"create database {database}")
        rows = megabytes * 1_000_000 // ROW
        sizes = {name: int(rows * share) for name, share in SHARES.items()}
        sizes |= {f"small_{n}": (rows - sum(sizes.values())) // SMALL for n in range(SMALL)}
        tables = enumerate(sizes.items())
        # The numbers of each table begin far from those of the others.
        self.sql(database, ";".join(ROWS.format(name=name, rows=count, first=n * 10**9) for n, (name, count) in tables))
        # What a first reader would do for all others.
        self.sql(database, "vacuum (freeze, analyze)")
        self.sql("postgres", "checkpoint")


def known() -> dict[str, str]:
    """The variables of this process, without libpq's own, and with the password."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"PGPASSWORD": PASSWORD}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def site(programs: Path, folder: Path, cluster: Cluster, database: str, jobs: int, tools: Path | None = None) -> Lakehold:
    """A configuration for one database, and an empty store."""
    lakehold = Lakehold(programs, cleared(folder))
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    server = {"url": f"postgresql://postgres@127.0.0.1:{cluster.port}/postgres", "password": f"file:{folder / 'password'}",
              "databases": [database], "jobs": jobs} | ({"programs": str(tools)} if tools else {})  # fmt: skip
    config = {"version": 1, "store": str(lakehold.store), "environments": {"shop": {"postgres": server}}}
    # JSON is YAML.
    lakehold.config.write_text(json.dumps(config))
    return lakehold


def without_check(cluster: Cluster, folder: Path) -> Path:
    """PostgreSQL's programs, but a `pg_restore` that reads nothing and is content: the time is one without the check."""
    folder = cleared(folder)
    for name in ("psql", "pg_dump", "pg_dumpall"):
        (folder / name).symlink_to(cluster.programs / name)
    (folder / "pg_restore").write_text("#!/bin/sh\nexit 0\n")
    (folder / "pg_restore").chmod(0o755)
    return folder


def timed(lakehold: Lakehold, *arguments: str) -> float:
    """A command to its end. Nobody looks at its memory meanwhile: that costs time."""
    began = time.monotonic()
    status = lakehold.begin(*arguments).wait()
    seconds = time.monotonic() - began
    if status:
        raise SystemExit(f"`lakehold {' '.join(arguments)}` ended with {status}: see {lakehold.folder}")
    return seconds


def dumped(cluster: Cluster, folder: Path, database: str, jobs: int) -> float:
    """`pg_dump -Fd -j`, then `zstd` at our level, as many at once; then what is left is flushed to disk, as ours is."""
    folder = cleared(folder)
    began = time.monotonic()
    dump = cluster.client("pg_dump", "-Fd", "-Z0", "-j", str(jobs), "--no-sync", "-f", folder / "dump", "-d", database)
    subprocess.run(dump, check=True, env=known())
    subprocess.run(f"find dump -name '*.dat' -print0 | xargs -0 -n 1 -P {jobs} zstd -q --rm -{LEVEL} && sync dump dump/*",
                   shell=True, check=True, cwd=folder)  # fmt: skip
    return time.monotonic() - began


def loaded(cluster: Cluster, folder: Path, database: str, jobs: int) -> float:
    """What `dumped` made, into a new database: `zstd -d`, as many at once, `pg_restore -j`, and statistics, as we gather them."""
    (folder / "plain").mkdir()
    began = time.monotonic()
    subprocess.run(f"find dump -name '*.zst' -print0 | xargs -0 -n 1 -P {jobs} zstd -q -d --output-dir-flat plain",
                   shell=True, check=True, cwd=folder)  # fmt: skip
    cluster.sql("postgres", f"create database {database}")
    subprocess.run(cluster.client("pg_restore", "-j", str(jobs), "-d", database, folder / "plain"), check=True, env=known())
    cluster.sql(database, "analyze")
    return time.monotonic() - began


def physical(cluster: Cluster, folder: Path, jobs: int) -> tuple[float, float] | None:
    """A full backup by pgBackRest at our level, the files of the whole cluster, and its restore into an empty folder, which starts no
    server: seconds of both. `None` where it is not installed."""
    if not shutil.which("pgbackrest"):
        return None
    folder = cleared(folder)
    config = folder / "pgbackrest.conf"
    config.write_text(
        f"[global]\nrepo1-path={folder / 'repo'}\nlog-path={folder}\nspool-path={folder}\nlock-path={folder}\n"
        f"compress-type=zst\ncompress-level={LEVEL}\nprocess-max={jobs}\nrepo1-retention-full=9\nstart-fast=y\n"
        "archive-check=n\nlog-level-console=warn\n"
        f"[bench]\npg1-path={cluster.data}\npg1-port={cluster.port}\npg1-socket-path={cluster.folder}\npg1-user=postgres\n"
    )
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    command = [*cluster.as_server("pgbackrest"), f"--config={config}", "--stanza=bench"]
    subprocess.run([*command, "--no-online", "stanza-create"], check=True, cwd="/", env=known())
    began = time.monotonic()
    subprocess.run([*command, "--type=full", "backup"], check=True, cwd="/", env=known())
    there = time.monotonic()
    subprocess.run([*command, f"--pg1-path={folder / 'restored'}", "restore"], check=True, cwd="/", env=known())
    return there - began, time.monotonic() - there


def postgres(programs: Path, folder: Path, megabytes: int, large: int, jobs: int, rounds: int) -> Iterator[Figure]:
    """All programs in turn, some rounds; the medians count. Then the memory of a backup of 100 MB, and of a large one."""
    # The server's programs do not begin where this one does.
    folder = folder.resolve()
    folder.chmod(0o755)
    with Cluster(cleared(folder / "cluster")) as cluster:
        cluster.fill("shop", megabytes)
        tools = without_check(cluster, folder / "tools")
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            apart = site(programs, folder / "apart", cluster, "shop", jobs, tools)
            checked = site(programs, folder / "checked", cluster, "shop", jobs)
            took = {
                "pg_dump, zstd": dumped(cluster, folder / "dumped", "shop", jobs),
                "lakehold, check apart": timed(apart, "backup"),
                "lakehold": timed(checked, "backup"),
            }
            plain = find(json.loads((checked.folder / "answer.json").read_bytes()), "bytes_read") or megabytes * 1_000_000
            took["zstd -d, pg_restore"] = loaded(cluster, folder / "dumped", "again", jobs)
            cluster.sql("postgres", "drop database again")
            took["lakehold restore"] = timed(checked, *RESTORE, "database/shop")
            cluster.sql("postgres", "drop database again")
            if both := physical(cluster, folder / "physical", jobs):
                took["pgBackRest"], took["pgBackRest restore"] = both
            for name, seconds in took.items():
                times.setdefault(name, []).append(seconds)
        stored = {"lakehold": sum(pack.stat().st_size for pack in checked.packs())}
        for name, kept in (("dumped", "dump"), ("physical", "repo")):
            stored[name] = sum(file.stat().st_size for file in (folder / name / kept).rglob("*") if file.is_file())
        say(f"{plain / 1e6:.0f} MB of rows; stored by lakehold {stored['lakehold'] / 1e6:.0f}, by pg_dump and zstd "
            f"{stored['dumped'] / 1e6:.0f}, by pgBackRest {stored['physical'] / 1e6:.0f} MB")  # fmt: skip
        middle = {name: statistics.median(seconds) for name, seconds in times.items()}
        for name, seconds in times.items():
            say(f"{name}: {plain / middle[name] / 1e6:.0f} MB/s (" + ", ".join(f"{one:.1f}" for one in seconds) + " s)")
        if "pgBackRest" in middle:
            say(f"lakehold / pgBackRest: {middle['pgBackRest'] / middle['lakehold']:.2f}; "
                f"restore: {middle['pgBackRest restore'] / middle['lakehold restore']:.2f}")  # fmt: skip
        else:
            say("pgBackRest is not installed (Debian: apt-get install pgbackrest)")
        say(f"with the check: {middle['pg_dump, zstd'] / middle['lakehold']:.2f} of pg_dump and zstd")
        ratio = middle["pg_dump, zstd"] / middle["lakehold, check apart"]
        yield told("postgres: backup / (pg_dump, zstd)", ratio, least=0.95)
        say(f"restore / (zstd -d, pg_restore): {middle['zstd -d, pg_restore'] / middle['lakehold restore']:.2f}")
        for name in ("apart", "checked", "dumped", "physical"):
            shutil.rmtree(folder / name, ignore_errors=True)
        cluster.sql("postgres", "drop database shop")
        yield from memory(programs, folder, cluster, 100, large, jobs)


def memory(programs: Path, folder: Path, cluster: Cluster, few: int, many: int, jobs: int) -> Iterator[Figure]:
    """The peak of the process `lakehold` alone: PostgreSQL's programs keep nothing of the rows."""
    peaks: dict[str, list[float]] = {"backup": [], "restore": []}
    for megabytes in (few, many):
        cluster.fill("memory", megabytes)
        lakehold = site(programs, folder / "memory", cluster, "memory", jobs)
        ended = {"backup": lakehold.run("backup"), "restore": lakehold.run(*RESTORE, "database/memory")}
        for what, how in ended.items():
            say(f"{what} of {megabytes} MB: peak {how.peak_mib:.0f} MiB, {how.seconds:.0f} s")
            peaks[what].append(how.peak_mib)
        cluster.sql("postgres", "drop database memory; drop database again")
        shutil.rmtree(folder / "memory")
    for what, (small, large) in peaks.items():
        yield told(f"postgres: {what}, peak memory, {many} / {few} MB", large / small, most=1.3)
