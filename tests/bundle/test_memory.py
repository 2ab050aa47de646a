"""Memory that is referred to twice travels once, and no more of it than is referred to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbaas.bundle.memory import SpanTable, address_of, equal_memory

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
