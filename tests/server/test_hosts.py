from __future__ import annotations

import os

import pytest

from nbaas.server.hosts import Gpu, gpus_from, held

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
    gpus = held(gpus_from(LISTED), [(1, "digits"), (1, "cats"), (1, "digits")])
    assert [gpu.jobs for gpu in gpus] == [(), ("cats", "digits")]


@pytest.mark.ranks
def test_this_host_is_listed_with_cores_and_memory(server):
    (host,) = server.get("nbaas/api/hosts").json["hosts"]
    assert host["cores"] == len(os.sched_getaffinity(0))
    assert 0 < host["memory_used"] < host["memory_total"]
