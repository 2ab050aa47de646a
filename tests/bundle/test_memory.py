"""Memory that is referred to twice travels once, and no more of it than is referred to."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from nbaas.bundle.memory import (
    LoadedRegions,
    SpanTable,
    StoredRegion,
    address_of,
    equal_memory,
)
from nbaas.bundle.pages import PAGE

BUFFER = memoryview(bytearray(range(256)) * 4)
START = address_of(BUFFER)
spans = st.tuples(st.integers(0, 900), st.integers(1, 100))


@given(st.lists(spans, min_size=1, max_size=20))
def test_every_span_finds_its_bytes_in_a_region(places):
    table = SpanTable()
    numbers = [table.add(START + offset, size, BUFFER) for offset, size in places]
    regions, placed = table.regions()
    for number, (offset, size) in zip(numbers, places, strict=True):
        region, inside = placed[number]
        assert regions[region].memory[inside : inside + size] == BUFFER[offset : offset + size]


@given(st.lists(spans, min_size=1, max_size=20))
def test_regions_hold_each_byte_once_and_nothing_else(places):
    table = SpanTable()
    for offset, size in places:
        table.add(START + offset, size, BUFFER)
    regions, _ = table.regions()
    wanted = {byte for offset, size in places for byte in range(offset, offset + size)}
    assert sum(region.nbytes for region in regions) == len(wanted) == table.size_from(0)


def test_spans_that_only_touch_stay_apart():
    table = SpanTable()
    table.add(START, 10, BUFFER)
    table.add(START + 10, 10, BUFFER)
    assert len(table.regions()[0]) == 2


def test_equal_memory_sees_the_last_byte():
    other = memoryview(bytearray(BUFFER))
    assert equal_memory(START, address_of(other), len(BUFFER))
    other[-1] ^= 1
    assert not equal_memory(START, address_of(other), len(BUFFER))


def test_what_was_written_is_seen_with_and_without_page_tables(tmp_path):
    size = 16 * PAGE
    (tmp_path / "blob").write_bytes(bytes(range(256)) * (size // 256))
    pieces = [(at, 3000) for at in range(0, size - 3000, 3000)]
    regions = LoadedRegions(
        tuple(StoredRegion("blob", at, length) for at, length in pieces),
        tuple((number, 0) for number in range(len(pieces))),
        lambda name: tmp_path / name,
    )
    views = [regions.memory(number)[0] for number in range(len(pieces))]
    first = address_of(views[0])
    bytes(views[5])  # reading is no writing
    views[3][10] ^= 1
    views[9][0] = views[9][0]  # written with what is there already
    child = os.fork()  # a worker's writes are its own
    if child == 0:
        views[12][0] ^= 1
        os._exit(0)
    os.waitpid(child, 0)

    def changed():
        return [n for n, (at, length) in enumerate(pieces) if regions.changed(first + at, length)]

    assert changed() == [3]
    with regions.watched_pages():
        assert changed() == [3]
    views[4][0] ^= 1
    with regions.watched_pages():
        assert changed() == [3, 4]
