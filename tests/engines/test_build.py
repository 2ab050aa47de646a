"""What `nbaas engine build` says and does; the tools are really missing, nothing is patched."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nbaas.engines.build import (
    Tools,
    cached_wheel,
    current_target,
    failing_line,
    find_tools,
    missing,
)
from nbaas.engines.horovod import (
    HorovodFactory,
    build_facts,
    built_for,
    installed,
    without_nccl,
)
from nbaas.engines.proof import slots_of
from nbaas.errors import EngineError, EngineMissingError

NOTHING = Tools(compiler="", cmake="", make="", nvcc="", nccl="")


def test_missing_tools_are_named_in_one_sentence(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    done = cli("engine", "build", PATH=str(tmp_path / "empty"), CXX="no-such-compiler")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "missing a C++ compiler, make" in done.stderr
    assert "apt-get install g++ make" in done.stderr
    assert "--engine ddp works meanwhile" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_missing_names_its_package():
    assert {"a C++ compiler": "g++", "make": "make", "cmake": "cmake"}.items() <= missing(
        NOTHING
    ).items()


def test_an_old_cmake_is_missing_with_its_version(tmp_path):
    cmake = tmp_path / "cmake"
    cmake.write_text("#!/bin/sh\necho cmake version 3.18.4\n")
    cmake.chmod(0o755)
    tools = Tools(compiler="c++", cmake=str(cmake), make="make", nvcc="", nccl="")
    assert "cmake 3.21 or newer (here: 3.18)" in missing(tools)


def test_without_torch_it_says_so(cli, tmp_path):
    # An interpreter that sees nbaas but no site-packages: really no torch.
    import subprocess

    program = "import sys; from nbaas.cli import main; sys.exit(main(['engine', 'build']))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={
            "PATH": os.environ["PATH"],
            "NBAAS_HOME": str(tmp_path),
            "NBAAS_CACHE": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "nbaas: Horovod is built against torch, and torch is not installed (pip install torch)\n"
    )


def test_a_wheel_is_bound_to_torch_python_cpu_and_cuda():
    target = current_target(find_tools(os.environ))
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert target.folder.startswith(f"torch{installed('torch')}-cxx11-{python}-")
    assert current_target(NOTHING).cuda == "cpu"


def test_a_damaged_wheel_in_the_cache_is_thrown_away(tmp_path):
    wheel = tmp_path / "horovod-0.28.1+cpu-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(b"PK\x03\x04 half a wheel")
    assert cached_wheel(tmp_path) is None
    assert not wheel.exists()


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            "a\nx.cc:3: fatal error: torch/x.h: No such file\nmore\nERROR: failed",
            "x.cc:3: fatal error: torch/x.h: No such file",
        ),
        (
            "error: subprocess-exited-with-error\nOSError: [Errno 28] No space left on device\n",
            "OSError: [Errno 28] No space left on device",
        ),
        ("one\ntwo\n\n", "two"),
        ("", "it said nothing"),
    ],
)
def test_the_telling_line_of_a_build_is_shown(output, line):
    assert failing_line(output) == line


def test_the_installed_horovod_says_which_torch_it_is_for():
    assert build_facts()["pytorch"] == built_for() == installed("torch")


@pytest.mark.skipif(not without_nccl(), reason="this Horovod has NCCL, or does not say")
def test_gpus_without_nccl_are_refused_with_a_way_out():
    HorovodFactory().check(slots_of(2))
    with pytest.raises(EngineMissingError, match="without NCCL") as refused:
        HorovodFactory().check([replace(slot, gpu=slot.rank) for slot in slots_of(2)])
    assert "--engine ddp" in refused.value.hint


@pytest.mark.ranks
def test_a_cached_wheel_is_proven_in_seconds_without_a_compiler(cli, tmp_path):
    home = Path(os.environ.get("NBAAS_CACHE") or Path.home() / ".cache" / "nbaas")
    folder = current_target(find_tools(os.environ)).folder
    if cached_wheel(home / "wheels" / folder) is None:
        pytest.skip("no wheel in this user's cache")
    shutil.copytree(home / "wheels" / folder, tmp_path / "cache" / "wheels" / folder)
    done = cli("engine", "build", PATH=str(tmp_path), CXX="no-such-compiler", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2 ranks over horovod: 1 + 2 = 3" in done.stdout


def test_a_failing_pip_is_an_error_with_its_log(tmp_path):
    from nbaas.engines.build import pip

    log = tmp_path / "build.log"
    with pytest.raises(EngineError, match="pip download failed") as failed:
        pip("download", "--no-index", "-d", str(tmp_path), "horovod==0.0.0", log=log)
    assert str(log) in failed.value.hint
    assert "No matching distribution" in failed.value.message
