"""Endpoints on the disk: immutable version directories, and a journal that says which one is served.

`<home>/endpoints/<name>/versions/<n>-<digest16>/`, `events.jsonl`, `token`, `lock`; the host's own
things lie in `_host`, which is no endpoint name.  Rules: a version appears whole, by a rename, and is
never changed; the journal has one writer, the endpoint host; a rollback is one more line in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbaas.config import own_folder
from nbaas.deploy.manifest import DIGEST_LENGTH, MANIFEST, VersionManifest, read_manifest, sha256_of
from nbaas.errors import BundleError, DeployError, EndpointNotFoundError, UsageError
from nbaas.journal import JournalReader
from nbaas.records import from_json

MINUTE, DAY = 60.0, 86_400.0  # seconds
LARGEST_BODY = 512 << 20  # bytes
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
VERSION_FOLDER = re.compile(rf"([1-9][0-9]*)-([0-9a-f]{{{DIGEST_LENGTH}}})")


@dataclass(frozen=True, slots=True)
class Options:
    """How an endpoint is run; seconds and bytes.  `max_batch` 0: chosen by measurement."""

    replicas: int = 1  # at least
    most: int = 0  # replicas while requests wait; 0: as many as `replicas`
    idle: float = 0.0  # seconds without a request after which no replica is kept; 0: never
    max_batch: int = 0
    max_wait: float = 0.0  # how long a lone row may wait for others; 0 never waits
    max_body: int = 16 << 20
    queue: int = 0  # requests that may wait; 0: four batches for each replica, at least 512
    timeout: float = 60.0  # for one request, or one item of a stream
    max_items: int = 10_000  # of one stream
    device: str = "auto"  # auto | cpu | cuda | cuda:1; with cuda, replicas take the GPUs in turn
    threads: int = 0  # of each replica; 0: cores shared out
    rate: float = 0.0  # requests a second for each token; 0: no limit
    cors: str = ""  # origins whose pages may ask, by comma; * is any; empty: none
    engine: str = "torch"  # torch | onnx | auto: the faster by measurement, which takes its time


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the journal knows it: by its hash."""

    id: str
    hash: str  # SHA-256, hex
    label: str
    created: float  # seconds since the epoch
    expires: float = 0.0  # 0: never
    rate: float = 0.0  # requests a second; 0: what the endpoint says


@dataclass(frozen=True, slots=True)
class Canary:
    """A version beside the current one: a share of the requests, or copies of them for a shadow."""

    version: int
    percent: float
    limit: float = 0.0  # percentage of 5xx answers at which it is withdrawn; 0: never


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """What the journal of an endpoint adds up to; `current` 0 is not served."""

    name: str
    current: int = 0
    previous: int = 0
    options: Options = field(default_factory=Options)
    canary: Canary | None = None
    shadow: Canary | None = None  # its answers are counted and dropped
    notice: str = ""  # what the host did by itself, until the next change
    tokens: tuple[Token, ...] = ()
    history: tuple[int, ...] = ()  # versions that were current, oldest first

    def token_with(self, token_id: str) -> Token | None:
        return next((token for token in self.tokens if token.id == token_id), None)


DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")
MOST_REPLICAS = 256


def checked_options(options: Options) -> Options:
    """Return `options`; raises UsageError with the first value that makes no sense."""
    o = options
    wrong = (
        (not 1 <= o.replicas <= MOST_REPLICAS, f"replicas {o.replicas}", f"1 to {MOST_REPLICAS}"),
        (o.most and not o.replicas <= o.most <= MOST_REPLICAS,
         f"replicas {o.replicas}..{o.most}", "the smaller number first"),
        (o.idle < 0, f"idle {o.idle:g}", "seconds, or 10m; 0 keeps the replicas"),
        (o.max_batch < 0, f"max batch {o.max_batch}", "1 or more; 0 measures"),
        (not 0 <= o.max_wait <= MINUTE, f"max wait {o.max_wait:g} s", "0 to 60000 ms"),
        (not 0 < o.timeout <= DAY, f"timeout {o.timeout:g} s", "over 0, at most a day"),
        (o.max_items < 1, f"max items {o.max_items}", "1 or more"),
        (not 0 < o.max_body <= LARGEST_BODY, f"max body {o.max_body}", "bytes, at most 512 MiB"),
        (o.rate < 0, f"rate {o.rate:g}", "requests a second; 0 is no limit"),
        (o.threads < 0, f"threads {o.threads}", "1 or more; 0 shares out the cores"),
        (DEVICE.fullmatch(o.device) is None, f"device {o.device!r}", "auto, cpu, cuda or cuda:1"),
        (any(c in o.cors for c in "\r\n\0"), f"cors {o.cors!r}", "https://a.example or *"),
    )  # fmt: skip
    for bad, what, hint in wrong:
        if bad:
            raise UsageError(f"{what} makes no sense", hint=hint)
    return options


def checked_name(name: Any) -> str:
    """Return `name`; raises UsageError where it cannot be an endpoint's."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} is no endpoint name", hint="letters, digits, - and _, at most 63 of them"
        )
    return name


def apply(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:
    """Return `record` after one journal event; an unknown one, or of another shape, changes nothing."""
    change = _CHANGES.get(str(event.get("event")))
    try:
        return change(record, event) if change else record
    except (ValueError, TypeError, LookupError, AttributeError):
        # One folder that somebody else wrote must not hide the other endpoints.
        return record


def _current(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:
    version = int(event["version"])
    options = from_json(Options, event["options"]) if "options" in event else record.options
    canary = record.canary if record.canary and record.canary.version != version else None
    previous = record.current if record.current != version else record.previous
    history = (*(v for v in record.history if v != version), version)
    shadow = record.shadow if record.shadow and record.shadow.version != version else None
    return replace(
        record, current=version, previous=previous, options=options, canary=canary, shadow=shadow,
        history=history, notice="",
    )  # fmt: skip


def _canary(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:
    return replace(record, canary=_share(event), notice=str(event.get("notice", "")))


def _shadow(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:
    return replace(record, shadow=_share(event))


def _share(event: dict[str, Any]) -> Canary | None:
    version, percent = int(event["version"]), float(event["percent"])
    return Canary(version, percent, float(event.get("limit", 0.0))) if version else None


def _options(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:
    return replace(record, options=from_json(Options, event["options"]))


def _token(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:
    token = from_json(Token, event["token"])
    kept = tuple(t for t in record.tokens if t.id != token.id)
    return replace(record, tokens=(*kept, token))


def _revoked(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:
    return replace(record, tokens=tuple(t for t in record.tokens if t.id != event["id"]))


def _removed(record: EndpointRecord, event: dict[str, Any]) -> EndpointRecord:  # noqa: ARG001
    return EndpointRecord(record.name, history=record.history)


_CHANGES: dict[str, Callable[[EndpointRecord, dict[str, Any]], EndpointRecord]] = {
    "current": _current,
    "canary": _canary,
    "shadow": _shadow,
    "options": _options,
    "token": _token,
    "revoked": _revoked,
    "removed": _removed,
}


@dataclass(frozen=True, slots=True)
class EndpointPaths:
    """The files of one endpoint, `<home>/endpoints/<name>` (0700)."""

    root: Path

    @property
    def versions(self) -> Path:
        return self.root / "versions"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def token(self) -> Path:
        """The first token of the endpoint, readable by its owner only."""
        return self.root / "token"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def log(self, replica: str) -> Path:
        return self.root / "logs" / f"{replica}.log"


def endpoint_paths(endpoints: Path, name: str) -> EndpointPaths:
    return EndpointPaths(endpoints / checked_name(name))


def read_endpoint(endpoints: Path, name: str) -> EndpointRecord:
    """Return the state of an endpoint, replayed from its journal; an empty one where there is none."""
    record = EndpointRecord(checked_name(name))
    for event in JournalReader(endpoint_paths(endpoints, name).events).read():
        record = apply(record, event)
    return record


def read_endpoints(endpoints: Path) -> list[EndpointRecord]:
    """Return the endpoints that are served, by name."""
    folders = sorted(endpoints.iterdir()) if endpoints.is_dir() else []
    names = [f.name for f in folders if NAME.fullmatch(f.name) and f.is_dir()]
    records = [read_endpoint(endpoints, name) for name in names]
    return [record for record in records if record.current]


def found_endpoint(endpoints: Path, name: str) -> EndpointRecord:
    """Return the record of a served endpoint; EndpointNotFoundError names those there are."""
    record = read_endpoint(endpoints, name)
    if not record.current:
        known = ", ".join(r.name for r in read_endpoints(endpoints)) or "none"
        raise EndpointNotFoundError(f"there is no endpoint {name!r}", hint=f"served: {known}")
    return record


# ---------------------------------------------------------------- versions


def version_folders(endpoints: Path, name: str) -> dict[int, Path]:
    """Return the version directories of an endpoint by number."""
    folder = endpoint_paths(endpoints, name).versions
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := VERSION_FOLDER.fullmatch(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def version_folder(endpoints: Path, name: str, version: int) -> Path:
    """Return the directory of a version; DeployError names those there are."""
    folders = version_folders(endpoints, name)
    if version not in folders:
        known = ", ".join(map(str, folders)) or "none"
        raise DeployError(f"{name} has no version {version}", hint=f"there are: {known}")
    return folders[version]


def read_version(endpoints: Path, name: str, version: int) -> VersionManifest:
    return read_manifest(version_folder(endpoints, name, version))


def publish(endpoints: Path, name: str, write: Callable[[Path], object]) -> tuple[int, Path]:
    """Return number and directory of a new version, whose files `write` makes in a folder given.

    The directory appears whole or not at all; its last file is the manifest.
    """
    paths = endpoint_paths(endpoints, name)
    own_folder(paths.versions)
    draft = paths.root / f".draft-{secrets.token_hex(8)}"
    draft.mkdir(mode=0o700)
    try:
        write(draft)
        digest = sha256_of(draft / MANIFEST)[:DIGEST_LENGTH]
        with _locked(paths.lock):
            number = max(version_folders(endpoints, name), default=0) + 1
            target = paths.versions / f"{number}-{digest}"
            draft.rename(target)
            sync_folder(paths.versions)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return number, target


def discard(endpoints: Path, name: str, version: int) -> None:
    """Remove a version that never became ready."""
    with contextlib.suppress(DeployError, BundleError):
        shutil.rmtree(version_folder(endpoints, name, version), ignore_errors=True)


def write_secret(path: Path, text: str) -> None:
    """Write `text` so that its owner alone can read it and no reader sees half of it."""
    own_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
