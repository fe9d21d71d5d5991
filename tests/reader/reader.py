"""Reads a Lakehold store. Written from proto/FORMAT.md and nothing else; section numbers are that page's.

It shares no code with the program that wrote the store, so that the page is proved complete. When the page and this
reader disagree with the program, one of the three is wrong, and stores exist that cannot be changed any more.
"""

import hashlib
import json
import pathlib
import re
from dataclasses import dataclass

import zstandard

WINDOW = 8 * 1024 * 1024
MAX_PLAIN = 16 * 1024 * 1024
MAX_SEALED = 17 * 1024 * 1024
MAX_LINE = 64 * 1024 * 1024
KEY = re.compile(r"(?!\.)[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*")
ROLES = {"object", "content", "permissions", "data"}
STANDINGS = {"captured", "excluded", "not-enabled", "unsupported", "forbidden", "failed"}
CLASSES = {
    "config", "denied", "absent", "conflict", "throttled",
    "unavailable", "unsupported", "integrity", "cancelled", "bug",
}


class Damaged(Exception):
    """Something is not what the page says it must be."""


class Newer(Exception):
    """Something is of a version, or sealed in a way, that this reader does not know."""


def sha256(data: bytes | str) -> bytes:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).digest()


def require(sound: bool, what: str) -> None:
    if not sound:
        raise Damaged(what)


def known(schema: object, wanted: str, where: str) -> None:
    if schema != wanted:
        raise Newer(f"{where} is {schema!r}; this reader knows {wanted}")


def load(data: bytes, where: str) -> dict:
    try:
        document = json.loads(data)
    except ValueError as e:
        raise Damaged(f"{where}: {e}") from e
    require(isinstance(document, dict), f"{where} is no object")
    return document


def unpack(sealed: bytes, limit: int, where: str) -> bytes:
    """Opens exactly one zstd frame of at most `limit` plain bytes (1, 4)."""
    try:
        require(zstandard.frame_content_size(sealed) in range(limit + 1), f"{where} states no size, or a larger one")
        opener = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        plain = opener.decompress(sealed)
    except zstandard.ZstdError as e:
        raise Damaged(f"{where}: {e}") from e
    require(opener.eof and not opener.unused_data, f"{where} is not one whole zstd frame")
    return plain


@dataclass
class Snapshot:
    environment: str
    time: str
    id: str
    manifest: dict
    hash: str


class Store:
    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        identity = root / "lakehold.json"
        # Only the version is needed, and a store that lost the file is readable (3).
        if identity.exists() and load(identity.read_bytes(), "lakehold.json").get("version", 0) > 1:
            raise Newer("lakehold.json")

    def get(self, key: str) -> bytes:
        require(KEY.fullmatch(key) is not None and ".." not in key.split("/"), f"{key!r} is no key")
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError as e:
            raise Damaged(f"{key} is missing") from e

    def hashed(self, room: str, name: str, size: int | None = None) -> bytes:
        data = self.get(f"{room}/{name[:2]}/{name}")
        require(sha256(data).hex() == name, f"{room} {name} was changed")
        require(size is None or len(data) == size, f"{room} {name} has another size")
        return data

    def lines(self, name: str, size: int, schema: str) -> tuple[dict, list[dict]]:
        """An index or a page (5)."""
        plain = unpack(self.hashed("indexes", name, size), 1 << 40, name)
        *lines, rest = plain.split(b"\n")
        require(not rest and len(lines) > 0, f"{name}: its last line is cut off")
        require(all(len(line) < MAX_LINE for line in lines), f"{name}: a line is too long")
        header, *lines = [load(line, name) for line in lines]
        known(header.get("schema"), schema, name)
        return header, lines

    def snapshots(self, environment: str | None = None) -> list[Snapshot]:
        """Every snapshot, in the order of time (2, 9)."""
        found = []
        for path in sorted(self.root.glob(f"snapshots/{environment or '*'}/*/manifest.json")):
            key = path.relative_to(self.root).as_posix()
            data = self.get(key)
            manifest = load(data, key)
            known(manifest.get("schema"), "lakehold.manifest/v1", key)
            known(manifest.get("hash"), "sha256", key)
            _, name, folder, _ = key.split("/")
            time, digits = folder.split("-", 1)
            mine = (manifest["environment"], manifest["time"], manifest["snapshot"])
            require(mine == (name, time, f"snap-{digits}"), f"{key} is the manifest of another snapshot")
            require(manifest["state"] in ("complete", "partial"), f"{key} has no state")
            found.append(Snapshot(name, time, manifest["snapshot"], manifest, sha256(data).hex()))
        return found

    def pages(self, snapshot: Snapshot):
        """The lines of all pages, in order (8): ('index' | 'unlisted', line)."""
        before = None
        for named in snapshot.manifest["pages"]:
            header, lines = self.lines(named["sha256"], named["size"], "lakehold.page/v1")
            require(header["lines"] == len(lines), "a page counts other lines than it has")
            sorts = [next(iter(line)) for line in lines if len(line) == 1]
            require(len(sorts) == len(lines) and set(sorts) <= {"index", "unlisted"}, "a page has a line of no known sort")
            counted = (sorts.count("index"), sorts.count("unlisted"))
            require(counted == (named["indexes"], named["unlisted"]), "a page has other lines than the manifest says")
            for sort, line in zip(sorts, lines):
                line = line[sort]
                shard = line["shard"] if sort == "index" else line["slice"]["shard"]
                bucket = shard.get("bucket")
                place = (
                    sort == "unlisted",
                    line["by"].encode(),
                    shard.get("scope", "").encode(),
                    (bucket["of"], bucket["index"]) if bucket else (0, 0),
                    line["kind"].encode() if sort == "index" else b"",
                )
                require(before is None or before <= place, "the lines of the pages are not in order")
                before = place
                yield sort, line

    def index(self, named: dict) -> tuple[dict, list[dict]]:
        """An index that a page names (6)."""
        header, entries = self.lines(named["sha256"], named["size"], "lakehold.index/v1")
        require(
            (header["kind"], header["shard"]) == (named["kind"], named["shard"])
            and header["entries"] == named["entries"] == len(entries),
            f"{named['sha256']} is not the index that its page says",
        )
        keys = [entry["key"].encode() for entry in entries]
        require(all(a < b for a, b in zip(keys, keys[1:])), "the entries of an index are not sorted")
        for entry in entries:
            check_entry(entry)
        return header, entries

    def part(self, header: dict, part: dict) -> bytes:
        """The plain bytes of a part."""
        plain = b"".join(self.frame(header, frame) for frame in part["frames"])
        require(len(plain) == part["size"] and sha256(plain).hex() == part["sha256"], "a part is not what its entry says")
        return plain

    def frame(self, header: dict, frame: dict) -> bytes:
        require(0 <= frame["pack"] < len(header["packs"]), "a frame lies in no pack")
        pack = header["packs"][frame["pack"]]
        if "cipher" in pack or "dictionary" in pack:
            raise Newer(f"pack {pack['sha256']} is sealed in a way that this reader does not know")
        offset, length, size = frame["offset"], frame["length"], frame["size"]
        require(offset >= 8 and 1 <= length <= MAX_SEALED and 0 <= size <= MAX_PLAIN, "a frame is out of bounds")
        name = pack["sha256"]
        try:
            with (self.root / "packs" / name[:2] / name).open("rb") as file:
                file.seek(offset)
                sealed = file.read(length)
        except FileNotFoundError as e:
            raise Damaged(f"pack {name} is missing") from e
        require(len(sealed) == length, f"pack {name} is cut off")
        plain = unpack(sealed, size, f"a frame of {name}")
        require(len(plain) == size and sha256(plain).hex() == frame["sha256"], f"a frame of {name} was changed")
        return plain

    def prove(self, snapshot: Snapshot) -> dict[tuple[str, str], dict]:
        """Checks all that a snapshot holds (12). Returns its items: the entry that counts, by kind and key."""
        lines: dict[bytes, list[tuple[bytes, dict | None]]] = {}
        packs, unlisted, counts = set(), 0, {}
        for sort, line in self.pages(snapshot):
            if sort == "unlisted":
                for kind, root_line in unlisted_lines(line["slice"]):
                    lines.setdefault(root_line[:32], []).append((root_line, None))
                    gap = line["slice"]["standing"] in ("forbidden", "failed")
                    counts.setdefault(kind, [0, 0, 0, 0])[2] += gap
                continue
            header, entries = self.index(line)
            packs.update(pack["sha256"] for pack in header["packs"])
            for entry in entries:
                for part in entry.get("parts", []):
                    self.part(header, part)
                root_line = entry_line(header["kind"], entry)
                lines.setdefault(root_line[:32], []).append((root_line, entry | {"kind": header["kind"]}))
        for name in packs:
            require(self.hashed("packs", name)[:8] == b"LHPACK1\n", f"pack {name} does not begin like one")
        # Of several lines with one id one counts: the least that captured something, else the least (10).
        chosen = [min(same, key=lambda one: (one[0][32:64] == bytes(32), one[0])) for _, same in sorted(lines.items())]
        root = sha256(b"".join(line for line, _ in chosen)).hex()
        require(root == snapshot.manifest["content_root"], f"the content root of {snapshot.id} is {root}")
        items = {(entry["kind"], entry["key"]): entry for _, entry in chosen if entry is not None}
        for (kind, _), entry in items.items():
            counted = counts.setdefault(kind, [0, 0, 0, 0])
            counted[0] += 1
            counted[1] += bool(entry.get("gaps"))
            counted[3] += sum(part["size"] for part in entry.get("parts", []))
        self.check_reports(snapshot, counts)
        return items

    @staticmethod
    def check_reports(snapshot: Snapshot, counts: dict[str, list[int]]) -> None:
        reports = {report["kind"]: report for report in snapshot.manifest["kinds"]}
        require(set(counts) <= set(reports), "a kind is captured and not accounted for")
        for kind, report in reports.items():
            require(report["standing"] in STANDINGS, f"{kind} has no standing that this reader knows")
            said = [report["items"], report["gaps"], report.get("unlisted", 0), report["bytes"]]
            # What an excluded kind would have had is nobody's loss.
            if report["standing"] != "excluded":
                require(said == counts.get(kind, [0, 0, 0, 0]), f"{kind}: the manifest counts {said}, not {counts.get(kind)}")
        gaps = any(report["gaps"] + report.get("unlisted", 0) > 0 for report in reports.values())
        require((snapshot.manifest["state"] == "partial") == gaps, "the state does not follow from the gaps")

    def prove_chain(self, snapshots: list[Snapshot]) -> int:
        """Checks that no base was changed since (11). Returns how many links were there to be checked."""
        there = {(one.environment, one.id): one for one in snapshots}
        links = 0
        for snapshot in snapshots:
            base = snapshot.manifest.get("base")
            found = base and there.get((snapshot.environment, base["snapshot"]))
            if found:
                require((found.hash, found.time) == (base["manifest"], base["time"]), f"the base of {snapshot.id} was changed")
                links += 1
        return links


def check_entry(entry: dict) -> None:
    parts, gaps = entry.get("parts", []), entry.get("gaps", [])
    roles = [part["role"] for part in parts]
    require(set(roles) | {gap["role"] for gap in gaps} <= ROLES, "a role that this reader does not know")
    require({gap["fault"]["class"] for gap in gaps} <= CLASSES, "a class of fault that this reader does not know")
    require(len(roles) == len(set(roles)), "two parts of an item have one role")
    require(entry.get("content") == content_of(parts), f"the content hash of {entry['key']!r} does not follow from its parts")


def content_of(parts: list[dict]) -> str | None:
    """The content hash of an item (7)."""
    if not parts:
        return None
    told = sorted((part["role"].encode(), bytes.fromhex(part.get("canonical", part["sha256"]))) for part in parts)
    return sha256(b"".join(role + b"\0" + content for role, content in told)).hex()


def entry_line(kind: str, entry: dict) -> bytes:
    """The line of an item in the content root (10)."""
    words = sorted(f"{gap['role']}:{gap['fault']['class']}".encode() for gap in entry.get("gaps", []))
    content = bytes.fromhex(entry["content"]) if "content" in entry else bytes(32)
    return sha256(sha256(kind) + sha256(entry["key"])) + content + sha256(b",".join(words))


def unlisted_lines(piece: dict):
    """The lines of a slice that could not be listed: one for each kind (10)."""
    require(piece["standing"] in STANDINGS - {"captured"}, "a slice has no standing that this reader knows")
    bucket = piece["shard"].get("bucket")
    bucket = f"{bucket['index']}/{bucket['of']}" if bucket else ""
    for kind in piece["kinds"]:
        told = sha256(kind) + sha256(piece["shard"].get("scope", "")) + sha256(bucket)
        yield kind, sha256(told) + bytes(32) + sha256(piece["standing"])
