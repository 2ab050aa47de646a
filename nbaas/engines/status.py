"""What this host can train with, as facts with a way out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nbaas.config import Settings
from nbaas.engines.base import engine_named
from nbaas.engines.horovod import build_facts, installed
from nbaas.errors import NbaasError


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of `nbaas doctor`; the hint is shown where `ok` is false."""

    name: str
    ok: bool
    text: str
    hint: str = ""
    optional: bool = False  # only tests need it

    def line(self) -> str:
        mark = "ok     " if self.ok else "missing"
        return f"{mark}  {self.name:<18} {self.text}" + (
            f"; {self.hint}" if self.hint and not self.ok else ""
        )


def engine_facts(settings: Settings) -> list[Fact]:
    """Return what is known of torch, Horovod and ddp without importing any of them."""
    return [torch_fact(), horovod_fact(settings), engine_fact("ddp", "torch.distributed: Gloo")]


def torch_fact() -> Fact:
    version = installed("torch")
    return Fact("torch", version is not None, version or "not installed", "pip install torch")


def horovod_fact(settings: Settings) -> Fact:
    facts = build_facts()
    text = ""
    if facts is not None:
        version = installed("horovod") or "of unknown version"
        text = f"{version}, built for torch {facts.get('pytorch')}{built_with(settings, version)}"
    return engine_fact("horovod", text)


def engine_fact(name: str, text: str) -> Fact:
    try:
        engine_named(name).check()
    except NbaasError as error:
        return Fact(f"engine {name}", ok=False, text=error.message, hint=error.hint)
    return Fact(f"engine {name}", ok=True, text=text)


def built_with(settings: Settings, version: str) -> str:
    """Return ', g++, cmake, ...' of the cached wheel of that version, '' where it is not cached."""
    for wheel in (settings.cache / "wheels").glob(f"*/horovod-{version}-*.whl"):
        record = wheel.parent / "build.json"
        if record.is_file():
            facts = json.loads(record.read_text())
            wanted = (installed("torch"), version.partition("+")[2].partition(".")[0])
            if (facts["torch"], facts["cuda"]) == wanted:
                tools = " and ".join(Path(facts[tool]).name for tool in ("compiler", "cmake"))
                device = "CPU" if facts["cuda"] == "cpu" else f"CUDA {facts['cuda'][2:]} with NCCL"
                return f", Gloo, {device}, by {tools} in {facts['seconds']} s"
    return ""
