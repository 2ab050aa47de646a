"""The same sentences hold for every engine and world size, over real ranks."""

from __future__ import annotations

import pytest

from nbaas.engines.base import engine_named
from nbaas.engines.proof import slots_of
from nbaas.errors import UsageError

WORLDS = [
    ("serial", 1),
    ("ddp", 1),
    ("ddp", 2),
    ("ddp", 3),
    ("horovod", 1),
    ("horovod", 2),
    ("horovod", 3),
]
pytestmark = pytest.mark.ranks


@pytest.fixture(params=WORLDS, ids=[f"{name}-{size}" for name, size in WORLDS])
def ranks(request, gang):
    """What each rank said, by rank."""
    ends = gang(*request.param, "collectives_rank")
    assert [end.code for end in ends] == [0] * request.param[1], ends[0].output
    return [end.said for end in ends]


def test_every_rank_knows_its_place(ranks):
    assert [said["world"][1:] for said in ranks] == [[r, len(ranks)] for r in range(len(ranks))]


def test_means_and_sums_are_exact(ranks):
    n = len(ranks)
    total = sum(range(1, n + 1))
    for said in ranks:
        assert said["mean64"] == [value * total / n for value in (1.0, 2.0, 4.0)]
        assert said["sum64"] == [sum(2**53 + 1 + rank for rank in range(n))]
        assert said["sum32"] == [value * n + sum(range(n)) for value in range(3)]
        assert said["complex"] == [[sum(range(n)), n]]
        assert said["strided"] == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
        assert said["scalar"] == 3.0 * n
        assert said["half"] == [2.0 * n] * 2
        assert said["bfloat16"] == [1.5] * 2
        assert said["leaf"] == [n] * 2
        assert said["steps"] == [19.0 * n]


def test_all_ranks_hold_the_same_bits(ranks):
    for name in ("third", "random", "mean64"):
        assert all(said[name] == ranks[0][name] for said in ranks)


def test_the_mean_of_integers_is_refused_by_name(ranks):
    assert all("mean of int64" in said["int mean"] for said in ranks)


def test_rows_are_gathered_whatever_each_rank_has(ranks):
    n = len(ranks)
    for said in ranks:
        assert said["uneven"] == [[rank, rank] for rank in range(n) for _ in range(rank * 2)]
        assert said["bools"] == [value for rank in range(n) for value in (rank == 0, True)]
        assert said["scalars"] == [float(rank) for rank in range(n)]


def test_a_broadcast_reaches_every_rank(ranks):
    n = len(ranks)
    for said in ranks:
        assert said["broadcast"] == [[0.0, 3.0 * n], [1.0 * n, 4.0 * n], [2.0 * n, 5.0 * n]]
        assert said["flag"] is True


def test_objects_travel(ranks):
    n = len(ranks)
    for said in ranks:
        assert said["objects"] == [{"rank": r, "text": "x" * r * 100} for r in range(n)]
        assert said["object"] == ["of", 0]
        assert said["empty"] == [None] * n


def test_serial_refuses_two_ranks(tmp_path):
    with pytest.raises(UsageError, match="one rank, 2 asked for"):
        engine_named("serial").rendezvous(tmp_path, slots_of(2))


def test_an_unknown_engine_names_the_known_ones():
    with pytest.raises(UsageError, match="horovod, ddp, serial"):
        engine_named("nccl")
