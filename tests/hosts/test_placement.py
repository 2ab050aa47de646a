"""Hosts as people write them, hosts as attackers would, and ranks placed on them."""

from __future__ import annotations

import pytest

from nbaas.errors import PlacementError, UsageError
from nbaas.placement import (
    HostResources,
    cluster_hosts,
    configured_hosts,
    describe,
    parse_hosts,
    place_on,
)
from nbaas.records import Host

HOSTILE = [
    "-oProxyCommand=id", "-Jx", "-Fx:2", "a;id", "$(id)", "`id`", "a\nb", "a:2\n", "\n", "user@-x",
    "-u@a", "us er@a", "a b", "a|b", "a&b", "a>b", "a'b", 'a"b', "a\\b", "a*", "a?b", "a#b", "a$b",
    "a%eth0", "[fe80::1%eth0]:2", "[fe80::1", "fe80::1", "[-x]:2", "[a]:2", "a" * 254, "u@v@a", "a/b",
    "a:0", "a:-1", "a:2:3", "a:two", "a:99999", "a:\u0662", "\u0430", "a\0b", "", "@a", "a:", "ssh://-x",
    "ssh://a:0/2", "ssh://a:65536", "ssh://a:22/-1", "ssh://u@-oX:22/2", "{a,b}", "~root", "a=b",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_p66_a_hostile_host_is_refused_as_text(text):
    with pytest.raises(UsageError):
        parse_hosts(text)
    with pytest.raises(UsageError):
        parse_hosts(f"good:2,{text}")
    with pytest.raises(UsageError):
        cluster_hosts({"lab": {"hosts": [text]}}, "lab")


def shown(text: str) -> list[tuple[str, str, int, int | None]]:
    return [(h.host.name, h.host.user, h.host.port, h.slots) for h in parse_hosts(text)]


def test_hosts_are_read_with_user_slots_port_and_ipv6():
    assert shown("a:2, b") == [("a", "", 0, 2), ("b", "", 0, None)]
    assert shown("me@gpu-1.lab.example:4") == [("gpu-1.lab.example", "me", 0, 4)]
    assert shown("ssh://me@a:2222/3,ssh://b/2") == [("a:2222", "me", 2222, 3), ("b", "", 0, 2)]
    assert shown("[fd00::1]:2,10.0.0.7:1") == [("fd00::1", "", 0, 2), ("10.0.0.7", "", 0, 1)]
    assert shown("ssh://[fd00::1]:2222/2") == [("[fd00::1]:2222", "", 2222, 2)]


def test_a_host_listed_twice_is_refused():
    with pytest.raises(UsageError, match="a is listed twice"):
        parse_hosts("a:1,b:1,a:2")


CLUSTERS = {
    "lab": {
        "hosts": ["a:4", {"host": "me@b:2", "python": "/opt/b/bin/python", "address": "10.0.0.2"}],
        "python": "/opt/venv/bin/python",
        "interface": "eth1",
    },
    "other": {"hosts": ["a:1", "c"]},
}


def test_a_cluster_gives_its_hosts_what_they_share_and_what_is_their_own():
    first, second = cluster_hosts(CLUSTERS, "lab")
    assert (first.slots, second.slots) == (4, 2)
    assert first.host == Host("a", python="/opt/venv/bin/python", interface="eth1")
    assert second.host == Host(
        "b", "me", python="/opt/b/bin/python", address="10.0.0.2", interface="eth1"
    )
    assert [entry.host.name for entry in configured_hosts(CLUSTERS)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("clusters", "said"),
    [
        ({}, "no cluster of this name"),
        ({"lab": {}}, "has no list of hosts"),
        ({"lab": {"hosts": "a:2"}}, "has no list of hosts"),
        ({"lab": {"hosts": []}}, "no host is listed"),
        ({"lab": {"hosts": [3]}}, "3 is no host"),
        ({"lab": {"hosts": ["a"], "pyton": "x"}}, "'pyton' is no key"),
        ({"lab": {"hosts": ["a"], "python": "/x y;id"}}, "python = '/x y;id' does not fit"),
        ({"lab": {"hosts": ["a"], "python": "-c"}}, "python = '-c' does not fit"),
        ({"lab": {"hosts": ["a"], "workdir": "$(id)"}}, "does not fit"),
        ({"lab": {"hosts": [{"host": "a", "address": "a;b"}]}}, "does not fit"),
    ],
)
def test_a_cluster_that_does_not_fit_is_named_with_what_is_wrong(clusters, said):
    with pytest.raises(UsageError, match=said.replace("$", r"\$")):
        cluster_hosts(clusters, "lab")


def on(text: str, cores: int = 4, gpus: int = 0, **counts):
    there = [(e, HostResources(e.host.name, cores, ("T4",) * gpus)) for e in parse_hosts(text)]
    return place_on(there, **counts)


def test_ranks_fill_a_host_before_the_next():
    slots = on("a:2,b:2", ranks=3)
    assert [(s.rank, s.host, s.local_rank) for s in slots] == [
        (0, "a", 0),
        (1, "a", 1),
        (2, "b", 0),
    ]
    assert [s.threads for s in slots] == [2, 2, 4]
    assert {s.world_size for s in slots} == {3}
    assert describe(slots) == "3 ranks on the CPUs of a, b"


def test_without_a_count_every_slot_is_used():
    assert [s.host for s in on("a:2,b:1")] == ["a", "a", "b"]
    assert [s.host for s in on("a,b")] == ["a", "b"]


def test_gpus_are_used_where_all_hosts_have_them():
    there = [(e, HostResources(e.host.name, 4, ("T4", "T4"))) for e in parse_hosts("a,b:1")]
    assert [(s.host, s.gpu) for s in place_on(there)] == [("a", 0), ("a", 1), ("b", 0)]
    assert [s.gpu for s in place_on(there, ranks=2)] == [None, None]
    assert [(s.host, s.gpu) for s in place_on(there, gpus=3)][-1] == ("b", 0)
    bare = (parse_hosts("c")[0], HostResources("c", 4))
    with pytest.raises(PlacementError, match="c has no GPU"):
        place_on([*there, bare])
    with pytest.raises(PlacementError, match="c has 0 GPUs"):
        place_on([*there, bare], gpus=2)


def test_more_ranks_than_slots_are_refused_with_both_numbers():
    with pytest.raises(PlacementError, match="5 ranks asked for, 4 slots on a:2, b:2"):
        on("a:2,b:2", ranks=5)
    with pytest.raises(UsageError, match="must be 1 or more"):
        on("a:2", ranks=0)
