"""Cells that start or join ranks of their own: refused by name, before nbaas starts its ranks."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbaas.errors import UsageError

# What is called -> what it does, as the refusal says it.
CALLS = {
    "notebook_launcher": "accelerate's notebook_launcher starts processes of its own",
    "debug_launcher": "accelerate's debug_launcher starts processes of its own",
    "init_process_group": "torch.distributed joins a world of its own",
    "DistributedDataParallel": "DistributedDataParallel averages gradients itself",
    "DDP": "DistributedDataParallel averages gradients itself",
    "FullyShardedDataParallel": "FSDP divides the parameters itself",
    "FSDP": "FSDP divides the parameters itself",
    "fully_shard": "FSDP divides the parameters itself",
    "start_processes": "torch.multiprocessing starts processes of its own",
    "elastic_launch": "torchrun's launcher starts processes of its own",
    "distrib_ctx": "fastai's distrib_ctx joins a world of its own",
}
SPAWNERS = frozenset(["mp", "multiprocessing", "xmp", "xla_multiprocessing"])  # before .spawn(...)
PACKAGES = {
    "horovod": "horovod is driven by hand",
    "deepspeed": "DeepSpeed joins a world of its own",
    "torch_xla": "torch_xla drives its own devices",
    "colossalai": "Colossal-AI joins a world of its own",
    "fairscale": "fairscale divides models itself",
    "ray": "Ray starts processes of its own",
    "fastai": "fastai's Learner is not one of the frameworks that nbaas distributes",
}
PROGRAMS = ("torchrun", "accelerate launch", "deepspeed ", "horovodrun", "mpirun",
            "torch.distributed.run", "torch.distributed.launch")  # fmt: skip
WAY_OUT = "write the loop for one device, which %%train distributes; or --ranks 1"


def refuse_own_ranks(trees: Sequence[ast.AST], values: Mapping[str, Any]) -> None:
    """Return where a cell leaves ranks to nbaas.

    Raises: UsageError naming what starts or joins others, and its line.
    """
    for tree in trees:
        for node in ast.walk(tree):
            for told in (*_called(node), *_imported(node)):
                raise UsageError(f"line {node.lineno}: {told}", hint=WAY_OUT)  # type: ignore[attr-defined]
    for name, value in values.items():
        if told := _held(value):
            raise UsageError(f"{name}: {told}", hint=WAY_OUT)


def _called(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in CALLS:
        yield CALLS[name]
    home = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if name == "spawn" and home.rpartition(".")[2] in SPAWNERS:
        yield f"{home}.spawn starts processes of its own"
    if name in ("Trainer", "Fabric"):
        yield from _several_devices(name, node)
    if name in ("system", "run", "Popen", "check_call", "check_output", "getoutput"):
        yield from _started_program(node)


def _several_devices(name: str, call: ast.Call) -> Iterator[str]:
    """Yield what Lightning's Trainer is told to start."""
    for word in call.keywords:
        value = word.value.value if isinstance(word.value, ast.Constant) else None
        several = isinstance(value, int) and value > 1
        if word.arg in ("devices", "num_nodes") and (several or value == -1):
            yield f"Lightning's {name}({word.arg}={value!r}) starts processes of its own"
        distributed = isinstance(value, str) and value.startswith(("ddp", "fsdp", "deepspeed"))
        if word.arg == "strategy" and distributed:
            yield f"Lightning's {name}(strategy={value!r}) starts processes of its own"


def _started_program(call: ast.Call) -> Iterator[str]:
    words = [c.value for c in ast.walk(call) if isinstance(c, ast.Constant)]
    line = " ".join([word for word in words if isinstance(word, str)])
    yield from (f"{p.strip()} starts processes of its own" for p in PROGRAMS if p in line)


def _imported(node: ast.AST) -> Iterator[str]:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    yield from (PACKAGES[n.partition(".")[0]] for n in names if n.partition(".")[0] in PACKAGES)


def _held(value: Any) -> str:
    """Return what a live value does by itself, '' for nearly all."""
    kind = type(value)
    package = (
        getattr(value, "__name__", "") if kind.__name__ == "module" else kind.__module__
    ) or ""
    package = str(package).partition(".")[0]
    if package in PACKAGES:
        return PACKAGES[package]
    if kind.__name__ in ("DistributedDataParallel", "FullyShardedDataParallel"):
        return CALLS[kind.__name__]
    lightning = package in ("lightning", "pytorch_lightning") and kind.__name__ == "Trainer"
    if lightning and getattr(value, "num_devices", 1) * getattr(value, "num_nodes", 1) > 1:
        return (
            f"Lightning's Trainer has {value.num_devices} devices and starts processes of its own"
        )
    return ""
