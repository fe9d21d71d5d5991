"""Reads a Lakehold store. Written from proto/FORMAT.md alone, so that the page is known to be enough.

    read_store.py STORE snapshots                          every snapshot, one JSON line each
    read_store.py STORE items ENV SNAPSHOT                 every item of one snapshot, one JSON line each
    read_store.py STORE cat ENV SNAPSHOT KIND KEY ROLE     the plain bytes of one part
    read_store.py STORE check ENV SNAPSHOT                 proves a snapshot: exit 0, or every damage and exit 5

SNAPSHOT is TIME-ID, or "latest": the newest that is not scoped. Numbers in comments are sections of the page.
A store without lakehold.json is opened only with --no-identity.
"""
import argparse, contextlib, hashlib, io, json, re, sys
from collections import namedtuple
from pathlib import Path
import zstandard

MIB = 1 << 20
WINDOW, LINE, PLAIN, SEALED = 8 * MIB, 64 * MIB, 16 * MIB, 17 * MIB  # bounds of sections 1, 4 and 5
MAGIC = b"LHPACK1\n"
ZEROS = bytes(32)
ROLES = {"object", "content", "permissions", "data"}
STANDINGS = {"captured", "excluded", "not-enabled", "unsupported", "forbidden", "failed"}
CLASSES = {"config", "denied", "absent", "conflict", "throttled", "unavailable", "unsupported", "integrity",
           "cancelled", "bug"}
FOLDER = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{32})")
ENVIRONMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
Item = namedtuple("Item", "kind entry packs")


class Damage(Exception):
    """What is stored is not what the page says."""


def need(condition, message):
    if not condition:
        raise Damage(message)


def H(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).digest()


def parse(data):
    document = json.loads(data.decode("utf-8"))
    need(isinstance(document, dict), "not a JSON object")
    return document


def unpack(data):
    """A reader of one zstd frame, and the size that it states (1)."""
    head = zstandard.get_frame_parameters(data)
    need(0 <= head.content_size < 1 << 63, "the zstd frame does not state its size")
    need(head.window_size <= WINDOW, f"the zstd frame needs a window of {head.window_size} bytes")
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True), head.content_size


def json_lines(data, schema, count):
    """The header and the other lines of an index or a page (5)."""
    stream, size = unpack(data)
    stream, lines = io.BufferedReader(stream), []
    while line := stream.readline(LINE + 1):
        size -= len(line)
        need(line.endswith(b"\n"), "a line without its newline, or too long")
        need(size >= 0, "opens to more than it states")
        lines.append(parse(line))
        need(lines[0]["schema"] == schema, f"the schema {lines[0]['schema']} is unknown")
    need(size == 0 and lines, "opens to less than it states")
    need(len(lines) - 1 == lines[0][count], f"the header counts {lines[0][count]} lines, {len(lines) - 1} follow")
    return lines[0], lines[1:]


# Shards (6, 8).

def bucket_of(shard):
    bucket = shard.get("bucket")
    return (bucket["of"], bucket["index"]) if bucket else (0, 0)


# Hashes (7, 10).

def content_hash(parts):
    parts = sorted(parts, key=lambda part: part["role"].encode())
    return H(b"".join(p["role"].encode() + b"\0" + bytes.fromhex(p.get("canonical") or p["sha256"]) for p in parts))


def item_line(kind, entry):
    words = sorted(f"{gap['role']}:{gap['fault']['class']}".encode() for gap in entry.get("gaps", []))
    content = bytes.fromhex(entry["content"]) if "content" in entry else ZEROS
    return H(H(kind) + H(entry["key"])) + content + H(b",".join(words))


def slice_line(kind, piece):
    of, index = bucket_of(piece["shard"])
    bucket = f"{index}/{of}" if of else ""
    return H(H(kind) + H(piece["shard"].get("scope", "")) + H(bucket)) + ZEROS + H(piece["standing"])


def preference(line):
    """Of the lines with one id the least by this is kept: one with content comes before one without."""
    return line[32:64] == ZEROS, line


class Store:
    def __init__(self, root, without_identity=False):
        self.root = Path(root)
        if not (self.root / "lakehold.json").is_file():
            need(without_identity, "there is no lakehold.json here; --no-identity reads on without it")
            return
        identity = self.parsed("lakehold.json")
        need(identity["version"] == 1, f"version {identity['version']} of the store is unknown")
        need(identity["schema"] == "lakehold.store/v1", f"the schema {identity['schema']} is unknown")

    def find(self, key):
        path = self.root / key
        need(path.is_file(), f"{key} is not there")
        return path

    def named(self, folder, sha256):
        need(re.fullmatch("[0-9a-f]{64}", sha256), f"{sha256} is no hash")
        return self.find(f"{folder}/{sha256[:2]}/{sha256}")

    def document(self, reference):
        """The bytes of an index or a page (12.3)."""
        path = self.named("indexes", reference["sha256"])
        need(path.stat().st_size == reference["size"], f"has {path.stat().st_size} bytes, not {reference['size']}")
        data = path.read_bytes()
        need(H(data).hex() == reference["sha256"], "does not hash to its name")
        return data

    def parsed(self, key):
        with malformed(key):
            return parse(self.find(key).read_bytes())

    def check_pack(self, sha256):
        with self.named("packs", sha256).open("rb") as pack:
            need(pack.read(8) == MAGIC, "does not begin as a pack")
            pack.seek(0)
            need(hashlib.file_digest(pack, "sha256").hexdigest() == sha256, "does not hash to its name")

    def plain(self, item, part):
        """The plain bytes of a part, frame by frame, each checked before it is given away (4, 6, 12.5, 12.6)."""
        whole, size = hashlib.sha256(), 0
        for frame in part.get("frames", []):
            position, offset, length = frame["pack"], frame["offset"], frame["length"]
            need(0 <= position < len(item.packs), f"pack {position} is not in the list")
            pack = item.packs[position]
            for word in ("cipher", "dictionary"):
                need(not pack.get(word), f"frames of pack {pack['sha256']} have a {word} that this reader does not know")
            need(0 <= frame["size"] <= PLAIN and 1 <= length <= SEALED and offset >= 8, "a frame out of bounds")
            path = self.named("packs", pack["sha256"])
            need(offset + length <= path.stat().st_size, "a frame behind the end of its pack")
            with path.open("rb") as file:
                file.seek(offset)
                stream, stated = unpack(file.read(length))
            need(stated == frame["size"], f"a frame states {stated} plain bytes, not {frame['size']}")
            data = stream.read(stated + 1)
            need(len(data) == stated and H(data).hex() == frame["sha256"], "a frame opens to something else")
            whole.update(data)
            size += stated
            yield data
        need(size == part["size"] and whole.hexdigest() == part["sha256"], "the frames are not the part")

    def folders(self):
        """(environment, folder) of every snapshot, in order of time (2)."""
        for place in sorted(self.root.glob("snapshots/*")):
            for folder in sorted(place.iterdir()) if ENVIRONMENT.fullmatch(place.name) and place.is_dir() else []:
                if FOLDER.fullmatch(folder.name) and (folder / "manifest.json").is_file():
                    yield place.name, folder.name

    def snapshot(self, environment, folder="latest", damages=None):
        need(ENVIRONMENT.fullmatch(environment), f"{environment!a} is no name of an environment")
        if folder != "latest":
            need(FOLDER.fullmatch(folder), f"{folder!a} is no name of a snapshot")
            return Snapshot(self, environment, folder, damages)
        for place, name in reversed(list(self.folders())):
            if place == environment and not (found := Snapshot(self, place, name, damages)).scoped():
                return found
        raise Damage(f"{environment} has no snapshot that is not scoped")


@contextlib.contextmanager
def malformed(where, damages=None):
    """Says where a damage is. With a list it is noted there and the rest goes on; without one it is raised."""
    try:
        yield
    except (Damage, KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError,
            zstandard.ZstdError) as error:
        known = isinstance(error, Damage)
        text = f"{where}: {error if known else 'malformed: ' + repr(error)}"
        if damages is None:
            raise (error if known and where in str(error) else Damage(text)) from error
        damages.append(text)


class Snapshot:
    def __init__(self, store, environment, folder, damages=None):
        self.store, self.environment, self.folder, self.damages = store, environment, folder, damages
        self.key = f"snapshots/{environment}/{folder}/manifest.json"
        with malformed(self.key):
            self.bytes = store.find(self.key).read_bytes()
            self.manifest = m = parse(self.bytes)
            need(m["schema"] == "lakehold.manifest/v1", f"the schema {m['schema']} is unknown")
            need(m["hash"] == "sha256", f"the hash {m['hash']} is unknown")
            time, name = FOLDER.fullmatch(folder).groups()
            for field, value in (("environment", environment), ("time", time), ("snapshot", "snap-" + name)):
                need(m[field] == value, f"{field} is not that of the key")
        self.entries, self.slices, self.packs, self.indexes, self.kept, self.order = [], [], set(), set(), {}, []

    def attempt(self, where):
        return malformed(where, self.damages)

    def scoped(self):
        selection = self.manifest["selection"]
        return any(selection.get(field) for field in ("kinds", "exclude_kinds", "paths", "shared", "look"))

    def load(self):
        """Reads every page and index (6, 8), and settles which lines and items count (10)."""
        for reference in self.manifest["pages"]:
            with self.attempt(f"page {reference['sha256']}"):
                _, lines = json_lines(self.store.document(reference), "lakehold.page/v1", "lines")
                self.load_page(reference, lines)
        with self.attempt("pages"):
            need(self.order == sorted(self.order), "the lines are not in order")
        return self

    def load_page(self, reference, lines):
        counts, first = {"index": 0, "unlisted": 0}, None
        for line in lines:
            (word, body), = line.items()
            need(word in counts, "a line with an unknown name")
            counts[word] += 1
            shard = body["shard"] if word == "index" else body["slice"]["shard"]
            scope = shard.get("scope", "")
            first = first or [body["by"], scope]
            self.order.append((word == "unlisted", body["by"].encode(), scope.encode(), bucket_of(shard),
                               body.get("kind", "").encode()))
            if word == "unlisted":
                self.slices.append(body["slice"])
                for kind in body["slice"]["kinds"]:
                    self.keep(slice_line(kind, body["slice"]), None)
            else:
                with self.attempt(f"index {body['sha256']}"):
                    self.load_index(body)
        need((counts["index"], counts["unlisted"]) == (reference["indexes"], reference["unlisted"]),
             "the manifest counts other lines")
        need(first == reference["first"], "the manifest gives another first line")

    def load_index(self, named):
        header, entries = json_lines(self.store.document(named), "lakehold.index/v1", "entries")
        same = [(there["kind"], there["entries"], there["shard"].get("scope", ""), bucket_of(there["shard"]))
                for there in (header, named)]
        need(same[0] == same[1], "is not of what the page says")
        keys = [entry["key"].encode() for entry in entries]
        need(all(a < b for a, b in zip(keys, keys[1:])), "the entries are not strictly sorted")
        self.indexes.add(named["sha256"])
        self.packs.update(pack["sha256"] for pack in header["packs"])
        for entry in entries:
            item = Item(named["kind"], entry, header["packs"])
            self.entries.append(item)
            self.keep(item_line(item.kind, entry), item)

    def keep(self, line, item):
        kept = self.kept.get(line[:32])
        if kept is None or preference(line) < preference(kept[0]):
            self.kept[line[:32]] = line, item

    def items(self):
        """The items that count, by kind and key."""
        found = {(item.kind, item.entry["key"]): item for _, item in self.kept.values() if item}
        return dict(sorted(found.items()))

    def root(self):
        return H(b"".join(sorted(line for line, _ in self.kept.values()))).hex()

    # What section 12 asks for, and what the manifest says that can be counted again.

    def check(self):
        with self.attempt(self.key):
            self.load()
        for pack in sorted(self.packs, key=str):
            with self.attempt(f"pack {pack}"):
                self.store.check_pack(pack)
        for item in self.entries:
            with self.attempt(f"{item.kind} {item.entry['key']!a}"):
                self.check_item(item)
        for piece in self.slices:
            with self.attempt("an unlisted slice"):
                need(piece["standing"] in STANDINGS - {"captured"}, f"the standing {piece['standing']!a} is unknown")
                need(piece["fault"]["class"] in CLASSES, f"the class {piece['fault']['class']!a} is unknown")
        with self.attempt(self.key):
            need(self.root() == self.manifest["content_root"], f"content_root: what is here has {self.root()}")
        chain = []
        with self.attempt("chain"):
            chain.extend(self.chain())
        with self.attempt(self.key):
            self.check_reports()
        return {"environment": self.environment, "snapshot": self.folder, "items": len(self.items()),
                "content_root": self.root(), "manifest": H(self.bytes).hex(), "chain": [base.folder for base in chain]}

    def check_item(self, item):
        parts, gaps = item.entry.get("parts", []), item.entry.get("gaps", [])
        roles = [part["role"] for part in parts]
        need(set(roles) <= ROLES and {gap["role"] for gap in gaps} <= ROLES, f"an unknown role among {roles!a}")
        need({gap["fault"]["class"] for gap in gaps} <= CLASSES, "an unknown class of fault")
        need(len(set(roles)) == len(roles), "a role occurs twice")
        for part in parts:
            for _ in self.store.plain(item, part):
                pass
        need(("content" in item.entry) == bool(parts), "content without parts, or parts without it")
        need(not parts or content_hash(parts).hex() == item.entry["content"], "content is not that of the parts")

    def chain(self):
        """The bases that are there, newest first (11)."""
        at = self
        while base := at.manifest.get("base"):
            folder = f"{base['time']}-{base['snapshot'].removeprefix('snap-')}"
            need(FOLDER.fullmatch(folder) and base["time"] < at.manifest["time"], f"{at.folder} has an impossible base")
            if not (self.store.root / "snapshots" / self.environment / folder / "manifest.json").is_file():
                return
            at = Snapshot(self.store, self.environment, folder)
            need(H(at.bytes).hex() == base["manifest"], f"{at.key} has another hash than its successor says")
            yield at

    def check_reports(self):
        """Counts again what the manifest reports of each kind, but for the comparison with its base (9, 12)."""
        items, reports = self.items(), self.manifest["kinds"]
        need({kind for kind, _ in items} <= {report["kind"] for report in reports}, "a kind without a report")
        for report in reports:
            name = report["kind"]
            need(report["standing"] in STANDINGS, f"the standing {report['standing']!a} is unknown")
            need(report.get("fault", {"class": "bug"})["class"] in CLASSES, "an unknown class of fault")
            here = [item.entry for (kind, _), item in items.items() if kind == name]
            counted = {"items": len(here), "gaps": sum(bool(entry.get("gaps")) for entry in here),
                       "unlisted": sum(name in piece["kinds"] and piece["standing"] in ("forbidden", "failed")
                                       for piece in self.slices),
                       "degraded": sum(bool(entry.get("degraded")) for entry in here),
                       "bytes": sum(part["size"] for entry in here for part in entry.get("parts", []))}
            for field, number in counted.items():
                need(report.get(field, 0) == number, f"{name}: reports {field} {report.get(field, 0)}, has {number}")
        state = "partial" if any(report["gaps"] or report.get("unlisted") for report in reports) else "complete"
        need(self.manifest["state"] == state, f"state is {self.manifest['state']!a}, should be {state}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-identity", action="store_true", help="read a store that has no lakehold.json")
    parser.add_argument("store")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (("snapshots", ()), ("items", ("env", "snapshot")), ("check", ("env", "snapshot")),
                        ("cat", ("env", "snapshot", "kind", "key", "role"))):
        command = commands.add_parser(name)
        for word in words:
            command.add_argument(word)
    given = parser.parse_args(arguments)
    damages = []
    try:
        with malformed(given.store):
            run(given, Store(given.store, given.no_identity), damages)
    except Damage as damage:
        damages.append(str(damage))
    for damage in damages:  # JSON, because names in it may hold anything
        print(json.dumps({"damage": damage}), file=sys.stdout if given.command == "check" else sys.stderr)
    return 5 if damages else 0


def run(given, store, damages):
    if given.command == "snapshots":
        for environment, folder in store.folders():
            with malformed(environment, damages):
                manifest = store.snapshot(environment, folder).manifest
                print(json.dumps({"environment": environment, "id": manifest["snapshot"], "time": manifest["time"],
                                  "state": manifest["state"], "content_root": manifest["content_root"]}))
    elif given.command == "check":
        summary = store.snapshot(given.env, given.snapshot, damages).check()
        if not damages:
            print(json.dumps(summary))
    else:
        snapshot = store.snapshot(given.env, given.snapshot).load()
        if given.command == "items":
            for item in snapshot.items().values():
                print(json.dumps({"kind": item.kind, **item.entry}))
            if snapshot.slices:
                print(f"{len(snapshot.slices)} slices could not be listed", file=sys.stderr)
            return
        item = snapshot.items().get((given.kind, given.key))
        need(item, f"{given.kind} {given.key!a} is not in the snapshot")
        part = next((part for part in item.entry.get("parts", []) if part["role"] == given.role), None)
        need(part, f"{given.kind} {given.key!a} has no {given.role!a}")
        for data in store.plain(item, part):
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
