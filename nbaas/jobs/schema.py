"""The SQLite file of the index: how it is opened, what is in it, when it is set aside.

Rules: journals are the truth, so a file that is damaged or of another version costs a rebuild and
nothing else.  Every writing transaction is BEGIN IMMEDIATE: one that begins to read and then writes
fails with 'database is locked' in spite of the time-out.  WAL needs shared memory, hence a local disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from nbaas.config import own_folder

APPLICATION_ID = 0x6E626161  # 'nbaa'
VERSION = 1
BUSY_TIMEOUT = 10.0  # seconds
CHECKPOINT_BYTES = 8 << 20  # of write-ahead log
NETWORK_FILE_SYSTEMS = """
    nfs nfs4 cifs smb3 smbfs 9p ceph lustre gpfs beegfs afs fuse.sshfs fuse.gcsfuse
"""
TABLES = """
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
  since REAL NOT NULL, engine TEXT NOT NULL, world_size INTEGER NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_by_name ON jobs (name, id);
CREATE TABLE sources (
  job TEXT NOT NULL, rank INTEGER NOT NULL, offset INTEGER NOT NULL, rows INTEGER NOT NULL,
  damaged INTEGER NOT NULL, PRIMARY KEY (job, rank)
) WITHOUT ROWID;
CREATE TABLE series (
  number INTEGER PRIMARY KEY, job TEXT NOT NULL, rank INTEGER NOT NULL, kind TEXT NOT NULL,
  name TEXT NOT NULL, UNIQUE (job, rank, kind, name)
);
CREATE TABLE points (
  series INTEGER NOT NULL, row INTEGER NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL,
  value REAL, PRIMARY KEY (series, row)
) WITHOUT ROWID;
CREATE TABLE buckets (
  series INTEGER NOT NULL, size INTEGER NOT NULL, bucket INTEGER NOT NULL, step INTEGER NOT NULL,
  low REAL, high REAL, total REAL NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (series, size, bucket)
) WITHOUT ROWID;
"""


def open_index(path: Path) -> sqlite3.Connection:
    """Return a connection to a whole index; one that is damaged or foreign is set aside first."""
    own_folder(path.parent)
    with _opening(path):
        connection = _connected(path)
        if _is_whole(connection):
            return connection
        connection.close()
        set_aside(path)
        connection = _connected(path)
        _is_whole(connection)
        return connection


@contextlib.contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Hold the lock under which an index is made, checked or set aside."""
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _connected(path: Path) -> sqlite3.Connection:
    # Made here, so that nobody else can read it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Return whether this is an index of ours without damage; an empty file becomes one."""
    try:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty:
            _create(connection)
        elif (owner, version) != (APPLICATION_ID, VERSION) or not _passes(connection):
            return False
        _configure(connection)
    except sqlite3.DatabaseError:
        return False
    return True


def _passes(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")


def _create(connection: sqlite3.Connection) -> None:
    marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    statements = f"BEGIN IMMEDIATE; {TABLES} {marks} COMMIT"
    connection.executescript(statements)


def _configure(connection: sqlite3.Connection) -> None:
    path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
    mode = "DELETE" if is_on_network(path) else "WAL"
    connection.execute(f"PRAGMA journal_mode = {mode}")
    for pragma in (
        "synchronous = NORMAL",  # what a power cut takes is read again from the journals
        "mmap_size = 0",
        "journal_size_limit = 67108864",
        "wal_autocheckpoint = 0",  # `checkpoint` does it
    ):
        connection.execute(f"PRAGMA {pragma}")


def checkpoint(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a long write-ahead log into the file, by one process at a time.

    SQLite before 3.51.3 may damage the file where two connections do it at once.
    """
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size < CHECKPOINT_BYTES:
        return
    fd = os.open(path.with_suffix(".ckpt.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        os.close(fd)


def set_aside(path: Path) -> Path:
    """Move a damaged index out of the way; returns where it lies now."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.replace(aside)
    return aside


def is_on_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Return whether `path` lies on a file system that other hosts may have mounted too."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return False
    real = path.resolve()
    best, kind = -1, ""
    for line in lines:
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if real.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), found
    return kind in NETWORK_FILE_SYSTEMS.split()


@contextlib.contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction that holds the write lock from its beginning."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
