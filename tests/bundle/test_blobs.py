"""Blobs are written once, hold what their name says, and go when nobody needs them."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np

from nbaas.bundle.blobs import prune_blobs, store_blob


def stored(blobs, array):
    memory = memoryview(array).cast("B")
    return store_blob(blobs, memory, array.__array_interface__["data"][0])


def test_a_blob_is_named_by_what_it_holds_and_cannot_be_written(tmp_path):
    array = np.arange(1 << 16)
    digest = stored(tmp_path / "blobs", array)
    path = tmp_path / "blobs" / digest
    assert path.read_bytes() == array.tobytes()
    assert hashlib.sha256(array).hexdigest() == digest
    assert path.stat().st_mode & 0o777 == 0o400
    assert [p.name for p in path.parent.iterdir()] == [digest]


def test_equal_memory_elsewhere_finds_the_same_blob(tmp_path):
    array = np.arange(1 << 16)
    first = stored(tmp_path, array)
    inode = (tmp_path / first).stat().st_ino
    assert stored(tmp_path, array.copy()) == first
    assert (tmp_path / first).stat().st_ino == inode


def test_memory_that_changed_gets_another_blob(tmp_path):
    array = np.zeros(1 << 16)
    first = stored(tmp_path, array)
    array[-1] = 1
    second = stored(tmp_path, array)
    assert first != second
    assert (tmp_path / second).read_bytes() == array.tobytes()


def test_a_damaged_blob_is_written_anew(tmp_path):
    array = np.zeros(1 << 16)
    digest = stored(tmp_path, array)
    (tmp_path / digest).chmod(0o600)
    with (tmp_path / digest).open("r+b") as file:
        file.write(b"damage")
    assert stored(tmp_path, array) == digest
    assert (tmp_path / digest).read_bytes() == array.tobytes()


def test_a_blob_that_is_gone_is_written_again(tmp_path):
    array = np.zeros(1 << 16)
    digest = stored(tmp_path, array)
    (tmp_path / digest).unlink()
    assert stored(tmp_path, array) == digest
    assert (tmp_path / digest).exists()


def test_pruning_keeps_what_is_used_and_what_is_young(tmp_path):
    names = [stored(tmp_path, np.full(1 << 13, float(k))) for k in range(3)]
    long_ago = time.time() - 1000
    for name in names[:2]:
        os.utime(tmp_path / name, (long_ago, long_ago))
    assert prune_blobs(tmp_path, [names[0]], unused_for=500) == 1 << 16
    assert {p.name for p in tmp_path.iterdir()} == {names[0], names[2]}


def test_a_blob_in_use_again_is_young_again(tmp_path):
    array = np.zeros(1 << 16)
    digest = stored(tmp_path, array)
    sealed = (tmp_path / digest).stat().st_mtime_ns
    os.utime(tmp_path / digest, ns=(0, sealed))
    stored(tmp_path, array)
    assert prune_blobs(tmp_path, [], unused_for=500) == 0
    assert (tmp_path / digest).stat().st_mtime_ns == sealed
