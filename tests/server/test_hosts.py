from __future__ import annotations

import os

import pytest

from nbaas.server.hosts import Gpu, Holder, HostJob, gpus_from, held, jobs_of, read_hosts

LISTED = """\
0, NVIDIA H200, 1024, 143771, 87, 61
1, NVIDIA H200, 0, 143771, [N/A], [N/A]
"""


def test_gpus_are_read_as_nvidia_smi_lists_them():
    assert gpus_from(LISTED) == [
        Gpu(0, "NVIDIA H200", 1024 << 20, 143771 << 20, 87, 61),
        Gpu(1, "NVIDIA H200", 0, 143771 << 20, None, None),
    ]


@pytest.mark.parametrize("listed", ["", "\n", "No devices were found\n"])
def test_no_gpus_are_listed_where_there_are_none(listed):
    assert gpus_from(listed) == []


def test_a_gpu_names_the_jobs_that_hold_it():
    holders = [Holder("a", 1, name) for name in ("digits", "cats", "digits")]
    gpus = held(gpus_from(LISTED), [*holders, Holder("a", None, "on-the-cpu")])
    assert [gpu.jobs for gpu in gpus] == [(), ("cats", "digits")]


def test_a_host_names_its_jobs_with_their_ranks():
    holders = [Holder("a", None, name) for name in ("digits", "cats", "digits")]
    assert jobs_of(holders) == (HostJob("cats", 1), HostJob("digits", 2))


def test_hosts_of_the_config_file_are_listed_with_who_uses_them(tmp_path, monkeypatch):
    monkeypatch.setenv("NBAAS_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text('[clusters.lab]\nhosts = ["127.0.0.2:4", "127.0.0.3"]\n')
    running = [Holder("here", None, "a"), Holder("127.0.0.2", 0, "b"), Holder("127.0.0.2", 1, "b")]
    here, others = read_hosts(running)
    assert (here.ranks, here.jobs) == (1, (HostJob("a", 1),))
    assert [(one.name, one.slots, one.jobs) for one in others] == [
        ("127.0.0.2", 4, (HostJob("b", 2),)),
        ("127.0.0.3", None, ()),
    ]


@pytest.mark.parametrize("text", ["[clusters.lab", "clusters = 3", '[clusters.lab]\nhosts = "a"'])
def test_a_config_file_that_is_wrong_hides_no_host(tmp_path, monkeypatch, text):
    monkeypatch.setenv("NBAAS_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(text)
    here, others = read_hosts([])
    assert here.free == here.cores
    assert others == []


@pytest.mark.ranks
def test_this_host_is_listed_with_cores_and_memory(server):
    (host,) = server.get("nbaas/api/hosts").json["hosts"]
    assert host["cores"] == len(os.sched_getaffinity(0))
    assert 0 < host["memory_used"] < host["memory_total"]
    assert host["free"] <= host["cores"]


@pytest.mark.ranks
def test_a_check_says_what_this_host_has(server):
    facts = {fact["name"]: fact for fact in server.post("nbaas/api/hosts/check").json["facts"]}
    assert facts["torch"]["ok"]
    assert facts["store"]["ok"]
    assert all(fact["hint"] for fact in facts.values() if not fact["ok"])
