"""Blobs are written once, hold what their name says, and go when nobody needs them."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np

from nbaas.bundle.blobs import OWN_BLOB, prune_blobs, store_regions
from nbaas.bundle.memory import Region, memory_at

LARGE = OWN_BLOB // 8  # doubles: large enough for a blob of its own


def region_of(array):
    address = array.__array_interface__["data"][0]
    return Region("cpu", address, array.nbytes, memory_at(address, array.nbytes))


def stored(blobs, array):
    return store_regions(blobs, [region_of(array)])[0].file


def bytes_at(blobs, place):
    data = (blobs / place.file).read_bytes()
    return data[place.offset : place.offset + place.nbytes]


def test_a_blob_is_named_by_what_it_holds_and_cannot_be_written(tmp_path):
    array = np.arange(LARGE)
    digest = stored(tmp_path / "blobs", array)
    path = tmp_path / "blobs" / digest
    assert path.read_bytes() == array.tobytes()
    assert hashlib.sha256(array).hexdigest() == digest
    assert path.stat().st_mode & 0o777 == 0o400
    assert [p.name for p in path.parent.iterdir()] == [digest]


def test_equal_memory_elsewhere_finds_the_same_blob(tmp_path):
    array = np.arange(LARGE)
    first = stored(tmp_path, array)
    inode = (tmp_path / first).stat().st_ino
    assert stored(tmp_path, array.copy()) == first
    assert (tmp_path / first).stat().st_ino == inode


def test_memory_that_changed_gets_another_blob(tmp_path):
    array = np.zeros(LARGE)
    first = stored(tmp_path, array)
    array[-1] = 1
    second = stored(tmp_path, array)
    assert first != second
    assert (tmp_path / second).read_bytes() == array.tobytes()


def test_a_damaged_blob_is_written_anew(tmp_path):
    array = np.zeros(LARGE)
    digest = stored(tmp_path, array)
    (tmp_path / digest).chmod(0o600)
    with (tmp_path / digest).open("r+b") as file:
        file.write(b"damage")
    assert stored(tmp_path, array) == digest
    assert (tmp_path / digest).read_bytes() == array.tobytes()


def test_a_blob_that_is_gone_is_written_again(tmp_path):
    array = np.zeros(LARGE)
    digest = stored(tmp_path, array)
    (tmp_path / digest).unlink()
    assert stored(tmp_path, array) == digest
    assert (tmp_path / digest).exists()


def test_pruning_keeps_what_is_used_and_what_is_young(tmp_path):
    names = [stored(tmp_path, np.full(LARGE, float(k))) for k in range(3)]
    long_ago = time.time() - 1000
    for name in names[:2]:
        os.utime(tmp_path / name, (long_ago, long_ago))
    assert prune_blobs(tmp_path, [names[0]], unused_for=500) == LARGE * 8
    assert {p.name for p in tmp_path.iterdir()} == {names[0], names[2]}


def test_a_blob_in_use_again_is_young_again(tmp_path):
    array = np.zeros(LARGE)
    digest = stored(tmp_path, array)
    sealed = (tmp_path / digest).stat().st_mtime_ns
    os.utime(tmp_path / digest, ns=(0, sealed))
    stored(tmp_path, array)
    assert prune_blobs(tmp_path, [], unused_for=500) == 0
    assert (tmp_path / digest).stat().st_mtime_ns == sealed


def test_small_pieces_share_a_blob_and_are_found_again(tmp_path):
    arrays = [np.random.rand(1000 + k) for k in range(200)]
    first = store_regions(tmp_path, [region_of(array) for array in arrays])
    assert len({place.file for place in first}) == 1
    for array, place in zip(arrays, first, strict=True):
        assert bytes_at(tmp_path, place) == array.tobytes()
    arrays[7][3] = -1
    again = store_regions(tmp_path, [region_of(array) for array in arrays])
    # One changed: it alone is left to the caller, being small; all others stay where they were.
    assert again[7] is None
    assert again[:7] + again[8:] == first[:7] + first[8:]


def test_a_blob_of_which_little_is_left_is_given_up(tmp_path):
    arrays = [np.random.rand(20_000) for _ in range(10)]
    first = store_regions(tmp_path, [region_of(array) for array in arrays])
    for array in arrays[:6]:
        array[0] = -1
    again = store_regions(tmp_path, [region_of(array) for array in arrays])
    assert {place.file for place in again}.isdisjoint(place.file for place in first)
    for array, place in zip(arrays, again, strict=True):
        assert bytes_at(tmp_path, place) == array.tobytes()


def test_the_same_values_in_another_kernel_have_the_same_blobs(tmp_path):
    arrays = [np.random.rand(20_000) for _ in range(10)]
    first = store_regions(tmp_path, [region_of(array) for array in arrays])
    copies = [array.copy() for array in arrays]
    assert store_regions(tmp_path, [region_of(array) for array in copies]) == first
