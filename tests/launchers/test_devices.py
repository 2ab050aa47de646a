"""What a host offers, read from files and programs that stand in for those of other machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbaas.launchers.devices import cgroup_quota, this_host, usable_cores, visible_gpus


def test_the_quota_of_a_container_is_read_in_both_versions_of_cgroups(tmp_path: Path):
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cgroup_quota(tmp_path) == 0.5


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch):
    """Put a program on PATH that answers as nvidia-smi does on a host with `script`'s GPUs."""

    def put(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return put


def test_gpus_are_counted_as_cuda_shows_them(nvidia_smi, monkeypatch):
    nvidia_smi("echo 'NVIDIA A100'; echo 'NVIDIA T4'")
    assert visible_gpus() == ("NVIDIA A100", "NVIDIA T4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,9")
    assert visible_gpus() == ("NVIDIA T4",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()


def test_a_driver_that_answers_with_an_error_is_no_gpu(nvidia_smi):
    nvidia_smi("echo 'No devices were found'; exit 6")
    assert visible_gpus() == ()


def test_this_host_has_a_core_and_a_name():
    host = this_host()
    assert host.cores == usable_cores() >= 1
    assert host.name
