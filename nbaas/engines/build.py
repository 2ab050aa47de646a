"""Horovod's wheel for the installed torch: from PyPI's sources, built once, cached, proven.

Rule: a wheel is bound to the exact torch, Python, CPU features and CUDA it was built for; its
folder in the cache is named by them, and a wheel found there is used without a compiler.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nbaas.config import Settings
from nbaas.engines.horovod import HorovodFactory, built_for, installed
from nbaas.engines.proof import prove
from nbaas.errors import EngineError, EngineMissingError

VERSION = "0.28.1"
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
NEEDS = ("cffi", "cloudpickle", "packaging", "psutil", "pyyaml", "setuptools", "wheel")
OLDEST_CMAKE = (3, 21)  # the first to read CMAKE_TOOLCHAIN_FILE from the environment
JOB_MEMORY = 1 << 30  # bytes that one compiler process takes
TOOLCHAIN = Path(__file__).parent / "toolchain" / "toolchain.cmake"
MEANWHILE = "--engine ddp works meanwhile"
# With `reserve` the list stays empty: Horovod's stall check then looks at no rank at all.
STALL_FIX = ("horovod/common/gloo/gloo_controller.cc", "global_ranks_.reserve(", "resize(")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """What a wheel is bound to."""

    torch: str  # with its local label, '2.13.0+cpu'
    cxx11_abi: bool
    python: str  # 'cp311'
    machine: str  # 'x86_64-avx': an AVX wheel must not reach an older host by a shared home
    cuda: str  # 'cpu', or 'cu130' where nvcc and NCCL are here

    @property
    def folder(self) -> str:
        abi = "cxx11" if self.cxx11_abi else "precxx11"
        return f"torch{self.torch}-{abi}-{self.python}-{self.machine}-{self.cuda}"


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs of a build; empty where missing."""

    compiler: str
    cmake: str
    make: str
    nvcc: str
    nccl: str  # folder with include/ and lib/


def build(settings: Settings, say: Say, *, rebuild: bool = False) -> str:
    """Build or fetch from the cache, install, prove; return the proof as one line.

    Raises: EngineMissingError: torch or a build tool is missing, named in one sentence.
    EngineError: the build or the two-rank proof failed; names the log.
    """
    tools = find_tools(os.environ)
    target = current_target(tools)
    folder = settings.cache / "wheels" / target.folder
    with only_builder(folder, say):
        wheel = None if rebuild else cached_wheel(folder)
        if wheel is None:
            require(tools)
            wheel = build_wheel(target, tools, folder, say)
        else:
            say(f"found {wheel.name} in the cache")
        install(wheel, target, say, again=rebuild)
    HorovodFactory().check()
    started = time.monotonic()
    proof = prove("horovod")
    say(f"{proof} ({time.monotonic() - started:.1f} s)")
    return proof


def current_target(tools: Tools) -> Target:
    """Return what a wheel built here and now is bound to."""
    if importlib.util.find_spec("torch") is None:
        raise EngineMissingError(
            "Horovod is built against torch, and torch is not installed", hint="pip install torch"
        )
    import torch

    cuda = torch.version.cuda if tools.nvcc and tools.nccl else None
    return Target(
        torch=installed("torch") or torch.__version__,
        cxx11_abi=torch.compiled_with_cxx11_abi(),
        python=f"cp{sys.version_info.major}{sys.version_info.minor}",
        machine=platform.machine() + ("-avx" if has_avx() else ""),
        cuda="cu" + cuda.replace(".", "") if cuda else "cpu",
    )


def has_avx() -> bool:
    """Return whether this CPU has what Horovod's fast float16 path needs."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return {"avx", "f16c", "fma"} <= set(flags.group(1).split() if flags else ())


def find_tools(environ: Mapping[str, str]) -> Tools:
    path = os.pathsep.join([environ.get("PATH", os.defpath), str(Path(sys.prefix) / "bin")])
    compiler = environ.get("CXX") or "c++"
    cuda_home = environ.get("CUDA_HOME") or "/usr/local/cuda"
    return Tools(
        compiler=shutil.which(compiler, path=path) or shutil.which("g++", path=path) or "",
        cmake=shutil.which(environ.get("HOROVOD_CMAKE") or "cmake", path=path) or "",
        make=shutil.which("make", path=path) or "",
        nvcc=shutil.which("nvcc", path=os.pathsep.join([path, f"{cuda_home}/bin"])) or "",
        nccl=find_nccl(),
    )


def find_nccl() -> str:
    """Return the folder of the NCCL that torch's CUDA wheels bring along, '' without it."""
    found = importlib.util.find_spec("nvidia") if installed("nvidia-nccl-cu13") else None
    places = (
        [Path(place) / "nccl" for place in (found.submodule_search_locations or [])]
        if found
        else []
    )
    return next((str(place) for place in places if (place / "include" / "nccl.h").is_file()), "")


def missing(tools: Tools) -> dict[str, str]:
    """Return what a build lacks here, with the Debian package (or command) that brings it."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    lacks = {}
    if not tools.compiler:
        lacks["a C++ compiler"] = "g++"
    if not tools.make:
        lacks["make"] = "make"
    if not tools.cmake:
        lacks["cmake"] = "cmake"
    elif (found := cmake_version(tools.cmake)) < OLDEST_CMAKE:
        lacks[f"cmake 3.21 or newer (here: {'.'.join(map(str, found))})"] = "cmake"
    if not header.is_file():
        lacks[f"the headers of Python {platform.python_version()} (Python.h)"] = "python3-dev"
    if importlib.util.find_spec("pip") is None:
        lacks["pip in this environment"] = "python3-pip"
    return lacks


def require(tools: Tools) -> None:
    lacks = missing(tools)
    if lacks:
        raise EngineMissingError(
            f"Horovod cannot be built here: missing {', '.join(lacks)}",
            hint=f"apt-get install {' '.join(dict.fromkeys(lacks.values()))}; {MEANWHILE}",
        )


def cmake_version(cmake: str) -> tuple[int, ...]:
    shown = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.(\d+)", shown)
    return tuple(map(int, found.groups())) if found else (0, 0)


@contextmanager
def only_builder(folder: Path, say: Say) -> Iterator[None]:
    """Hold the folder's lock: two notebooks that build at once would build twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cached_wheel(folder: Path) -> Path | None:
    """Return the folder's whole wheel, None where there is none or it is damaged."""
    for wheel in sorted(folder.glob("horovod-*.whl")):
        if zipfile.is_zipfile(wheel):
            with zipfile.ZipFile(wheel) as archive:
                if archive.testzip() is None:
                    return wheel
        wheel.unlink()
    return None


def build_wheel(target: Target, tools: Tools, folder: Path, say: Say) -> Path:
    """Return the new wheel in `folder`, with its build.log and build.json beside it."""
    started = time.monotonic()
    log = folder / "build.log"
    log.write_text("")
    install_needs(say)
    with tempfile.TemporaryDirectory(prefix="nbaas-horovod-") as scratch:
        say(f"fetching the sources of Horovod {VERSION}")
        source = fetch_source(Path(scratch), log)
        jobs = parallel_jobs()
        say(f"compiling against torch {target.torch} with {jobs} processes: some minutes")
        environ = build_environment(target, tools, Path(scratch), jobs)
        made = Path(scratch) / "wheel"
        pip(
            "wheel",
            "--no-build-isolation",
            "--no-deps",
            "-w",
            str(made),
            str(source),
            log=log,
            environ=environ,
        )
        wheel = next(made.glob("horovod-*.whl"))
        # Renamed within one file system at the end: a reader sees no half wheel.
        arriving = folder / f".{wheel.name}.new"
        shutil.copyfile(wheel, arriving)
        arriving.replace(folder / wheel.name)
    seconds = round(time.monotonic() - started)
    facts = asdict(target) | asdict(tools) | {"seconds": seconds, "built": time.time()}
    (folder / "build.json").write_text(json.dumps(facts, indent=1))
    say(f"built {wheel.name} in {seconds} s")
    return folder / wheel.name


def parallel_jobs() -> int:
    """Return how many compilers run at once: one a core, and no more than memory holds."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(os.sched_getaffinity(0)), free // JOB_MEMORY))


def fetch_source(scratch: Path, log: Path) -> Path:
    """Return the unpacked sources, checked by their digest, with the stall check mended."""
    pip(
        "download",
        "--no-deps",
        "--no-build-isolation",
        "--no-binary",
        "horovod",
        "-d",
        str(scratch),
        f"horovod=={VERSION}",
        log=log,
    )
    archive = scratch / f"horovod-{VERSION}.tar.gz"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        raise EngineError(
            f"the sources of Horovod {VERSION} have digest {digest[:16]}..., "
            f"not {SDIST_SHA256[:16]}...",
            hint="the package index gave other files",
        )
    with tarfile.open(archive) as packed:
        packed.extractall(scratch)  # noqa: S202 - its digest is known; 3.11.2 has no filters
    source = scratch / f"horovod-{VERSION}"
    name, wrong, right = STALL_FIX
    text = (source / name).read_text()
    (source / name).write_text(text.replace(wrong, wrong.replace("reserve(", right)))
    return source


def build_environment(target: Target, tools: Tools, scratch: Path, jobs: int) -> dict[str, str]:
    """Return the environment of Horovod's setup.py."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
    path = [str(Path(sys.prefix) / "bin"), kept.get("PATH", os.defpath)]
    return (
        kept
        | {
            "PATH": os.pathsep.join(path),
            "CXX": tools.compiler,
            "MAKEFLAGS": f"-j{jobs}",
            "CMAKE_GENERATOR": "Unix Makefiles",
            "CMAKE_TOOLCHAIN_FILE": str(TOOLCHAIN),
            "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # CMake 4 refuses Gloo's 2.8 otherwise
            "HOROVOD_CMAKE": tools.cmake,
            "HOROVOD_WITH_PYTORCH": "1",
            "HOROVOD_WITHOUT_TENSORFLOW": "1",
            "HOROVOD_WITHOUT_MXNET": "1",
            "HOROVOD_WITHOUT_MPI": "1",
            "HOROVOD_WITH_GLOO": "1",
            # Never empty: setup.py then asks the compiler what this very CPU can do.
            "HOROVOD_BUILD_ARCH_FLAGS": "-mavx -mf16c -mfma" if has_avx() else "-mtune=generic",
            "HOROVOD_LOCAL_VERSION": "cpu" if target.cuda == "cpu" else f"{target.cuda}.nccl",
        }
        | (
            cuda_environment(tools, scratch)
            if target.cuda != "cpu"
            else {"CUDACXX": "/nonexistent"}
        )
    )


def cuda_environment(tools: Tools, scratch: Path) -> dict[str, str]:
    """Return what makes Horovod use NCCL; the wheel of NCCL has no libnccl.so to link with."""
    import torch

    links = scratch / "nccl"
    links.mkdir()
    (links / "libnccl.so").symlink_to(Path(tools.nccl) / "lib" / "libnccl.so.2")
    found = {torch.cuda.get_device_capability(gpu) for gpu in range(torch.cuda.device_count())}
    kinds = {"HOROVOD_BUILD_CUDA_CC_LIST": ",".join(f"{a}{b}" for a, b in sorted(found))}
    return {
        "HOROVOD_GPU_OPERATIONS": "NCCL",
        "HOROVOD_CUDA_HOME": str(Path(tools.nvcc).resolve().parent.parent),
        "HOROVOD_NCCL_INCLUDE": str(Path(tools.nccl) / "include"),
        "HOROVOD_NCCL_LIB": str(links),
        "HOROVOD_NCCL_LINK": "SHARED",
    } | (kinds if found else {})


def install_needs(say: Say) -> None:
    """Install the Python packages that Horovod's build and its own code import."""
    absent = [package for package in NEEDS if installed(package) is None]
    if absent:
        say(f"installing {', '.join(absent)}")
        pip("install", *absent)


def install(wheel: Path, target: Target, say: Say, *, again: bool) -> None:
    """Install the wheel in this environment, unless that very build is there already."""
    version = wheel.name.split("-")[1]
    if not again and installed("horovod") == version and built_for() == target.torch:
        say(f"horovod {version} is installed for torch {target.torch}")
        return
    install_needs(say)
    pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    importlib.invalidate_caches()
    say(f"installed horovod {version}")


def pip(*arguments: str, log: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Run pip of this environment; raises EngineError with the line that says why it failed."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if log is not None:
        with log.open("a") as kept:
            kept.write(done.stdout)
    if done.returncode:
        raise EngineError(
            f"pip {arguments[0]} failed: {failing_line(done.stdout)}",
            hint=f"the whole log: {log}; {MEANWHILE}" if log else MEANWHILE,
        )


def failing_line(output: str) -> str:
    """Return the first line of a build's output that names an error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = re.compile(r"error:|CMake Error|No space left|Killed|No matching distribution")
    named = [line for line in lines if telling.search(line) and "subprocess-exited" not in line]
    return (named[:1] or lines[-1:] or ["it said nothing"])[0][:300]
