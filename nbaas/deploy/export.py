"""From a module that lives in a notebook to a version directory, without pickle.

A version directory holds `model.safetensors`, the structure of the object graph, the source of the
classes, golden input and output, and a manifest with the hash of each file.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbaas.deploy.engine_choice import choose_engine
from nbaas.deploy.flatten import Encoder
from nbaas.deploy.keras_models import is_keras
from nbaas.deploy.manifest import (
    GOLDEN,
    SOURCE,
    STRUCTURE,
    WEIGHTS,
    VersionManifest,
    hashed_files,
    write_manifest,
)
from nbaas.deploy.modules import is_local, local_sources
from nbaas.deploy.nested import Factory
from nbaas.deploy.probe import Probed, evaluating, probe
from nbaas.deploy.rebuild import resolve_global
from nbaas.deploy.source import MODULE, NOTEBOOK, NotebookSource
from nbaas.deploy.streamed import generates_only, golden_key
from nbaas.errors import BundleError, DeployError


def export_model(  # noqa: PLR0913 - the flags of %deploy
    model: Any,
    name: str,
    directory: Path,
    *,
    example: Any = None,
    sources: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    pre: Any = None,
    post: Any = None,
    engine: str = "torch",
) -> VersionManifest:
    """Write `model` into the empty `directory` and return the manifest, which is written last.

    `model` is a module, or a function or object that calls one; `pre` and `post` are run around it.
    `sources` maps qualified names of notebook classes to their text, for cells that linecache does
    not hold.  `facts` (job, metrics, data) go into the manifest as they are.
    `engine` is torch, onnx, or auto: the faster one by measurement, if it gives the same answers.
    Raises: DeployError: no module, no usable example, or a part of it that cannot be written down.
    """
    import torch

    module = servable(model, pre, post)
    with evaluating(module):
        probed = probe(module, example)
        encoder, notebook, root = _encoded(module, sources or {})
    files = _source_files(encoder, notebook)
    directory.mkdir(parents=True, exist_ok=True)
    _write_structure(directory, encoder, notebook, root)
    _write_tensors(directory / WEIGHTS, encoder.tensors)
    _write_tensors(directory / GOLDEN, _golden(probed))
    for path, text in files.items():
        target = directory / SOURCE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    manifest = VersionManifest(
        name=name,
        created=time.time(),
        model_class=_shown_class(model),
        signature=probed.signature,
        files={},
        batchable=probed.batchable,
        deterministic=probed.deterministic,
        streams=probed.streams,
        interleaves=probed.interleaves,
        device=str(next((p.device.type for p in module.parameters()), "cpu")),
        parameters=sum(p.numel() for p in module.parameters()),
        versions={"python": platform.python_version(), "torch": torch.__version__}
        | _distributions(encoder),
        facts=dict(facts or {}),
    )
    chosen, notes = choose_engine(directory, manifest, engine)
    manifest = replace(manifest, engine=chosen, engine_notes=notes, files=hashed_files(directory))
    _sync(directory)
    write_manifest(directory, manifest)
    return manifest


def servable(model: Any, pre: Any = None, post: Any = None) -> Any:
    """Return the module that serves `model`: wrappers of torch taken off, steps put around it.

    Raises: DeployError: there is no module in `model`; the line names its type.
    """
    import torch

    from nbaas.deploy.pipeline import Called, Pipeline, checked_step, modules_in

    pre, post = checked_step(pre, "--pre"), checked_step(post, "--post")
    if isinstance(model, torch.nn.Module) and generates_only(bare_module(model)):
        model = bare_module(model).generate
    if isinstance(model, torch.nn.Module):
        module: Any = unparametrized(bare_module(model))
    elif not isinstance(model, type) and callable(model) and (parts := modules_in(model)):
        module = Called(model, parts)
    else:
        what = f"the class {model.__qualname__}" if isinstance(model, type) else _a(type(model))
        raise DeployError(f"{what} cannot be deployed, a torch.nn.Module can", hint=_way_out(model))
    return Pipeline(module, pre, post) if pre or post else module


def bare_module(model: Any) -> Any:
    """Return the module inside wrappers of torch (compiled, data parallel)."""
    import torch

    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if hasattr(model, "_orig_mod"):  # torch.compile
            model = model._orig_mod  # noqa: SLF001 - torch has no public name for it
        elif isinstance(model, wrappers):
            model = model.module
        else:
            return model


def _way_out(model: Any) -> str:
    import torch

    if isinstance(model, type):
        return "make an instance of it first"
    if is_keras(model) and not isinstance(model, torch.nn.Module):
        return "KERAS_BACKEND=torch before Keras is imported"
    return "%deploy model --name digits"


def unparametrized(module: Any) -> Any:
    """Return `module`, a copy of it where weights are computed by a parametrization, as plain ones.

    Its class is made by torch while it runs, and has no name by which it could be found again.
    """
    import torch
    from torch.nn.utils import parametrize

    if not any(parametrize.is_parametrized(each) for each in module.modules()):
        return module
    copied = copy.deepcopy(module).eval()  # spectral norm changes its weight in training mode
    for each in list(copied.modules()):
        if parametrize.is_parametrized(each):
            # Not remove_parametrizations: the copy shares its class with the user's module.
            values = {name: getattr(each, name).detach().clone() for name in each.parametrizations}
            each.__class__ = type(each).__bases__[0]
            del each._modules["parametrizations"]  # noqa: SLF001 - torch has no other way
            for name, value in values.items():
                each.register_parameter(name, torch.nn.Parameter(value))
    return copied


def _shown_class(model: Any) -> str:
    inner = bare_module(model)
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def _a(cls: type) -> str:
    name = cls.__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _encoded(module: Any, sources: Mapping[str, str]) -> tuple[Encoder, NotebookSource, Any]:
    """Return the encoder, filled with the model and every value its notebook code needs."""
    encoder = Encoder({id(t): key for key, t in module.state_dict(keep_vars=True).items()})
    root = encoder.value(module, "model")
    notebook = NotebookSource(sources)
    done: set[str] = set()
    values: dict[str, Any] = {}
    while True:
        fresh = [key for key in encoder.globals_used if key not in done]
        for key in fresh:
            done.add(key)
            item = encoder.globals_used[key]
            if isinstance(item, Factory):
                notebook.add_factory(item)
            elif item.__module__ == NOTEBOOK:
                notebook.add(item, constructed=key in encoder.constructed)
            else:
                _check_importable(key, item)
        notebook.reach(node[2] for node in encoder.nodes if node and node[0] == "method")
        for name in [n for n in notebook.values if n not in values]:
            what = f"{name} (used by {notebook.used_by[name]})"
            values[name] = encoder.value(notebook.values[name], what)
        if not fresh:
            return encoder, notebook, (root, values)


def _check_importable(key: str, item: Any) -> None:
    try:
        found = resolve_global(key)
    except BundleError:
        found = None
    if found is not item:
        module, _, name = key.partition(":")
        hint = "define it at the top of a cell or of a module"
        raise DeployError(f"{name} of {module} cannot be imported again by its name", hint=hint)


def _source_files(encoder: Encoder, notebook: NotebookSource) -> dict[str, str]:
    """Return {path below source/: text}."""
    text = notebook.text()
    modules = {key.partition(":")[0] for key in encoder.globals_used}
    modules |= {node[1] for node in encoder.nodes if node[0] == "module"}
    modules |= set(notebook.modules())
    files = local_sources(sorted(modules))
    return files | ({f"{MODULE}.py": text} if text.strip() else {})


def _write_structure(
    directory: Path, encoder: Encoder, notebook: NotebookSource, root: Any
) -> None:
    model, values = root
    content = {
        "root": model,
        "values": values,
        "nodes": encoder.nodes,
        "notebook": MODULE if notebook.text().strip() or values else "",
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    (directory / STRUCTURE).write_text(text, encoding="utf-8")


def _write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    """Write tensors and arrays, each with memory of its own; complex ones as pairs of reals."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    plain: dict[str, Any] = {}
    for key, value in tensors.items():
        tensor = (
            torch.from_numpy(np.ascontiguousarray(value))
            if isinstance(value, np.ndarray)
            else value
        )
        plain[key] = tensor.detach().to("cpu", copy=True).contiguous()
    save_file(plain, path)


def _golden(probed: Probed) -> dict[str, Any]:
    specs = probed.signature
    inputs = {f"input:{s.name}": x for s, x in zip(specs.inputs, probed.inputs, strict=True)}
    outputs = {f"output:{s.name}": y for s, y in zip(specs.outputs, probed.outputs, strict=True)}
    later = {
        golden_key(spec.name, i): y
        for i, item in enumerate(probed.later, 1)
        for spec, y in zip(specs.outputs, item, strict=True)
    }
    return inputs | outputs | later


def _distributions(encoder: Encoder) -> dict[str, str]:
    """Return {distribution: version} of the installed packages that the model's classes come from."""
    from importlib import metadata

    tops = {key.partition(":")[0].partition(".")[0] for key in encoder.globals_used}
    tops -= {NOTEBOOK, "builtins", "torch"}
    found = {}
    for top in sorted(tops):
        if not is_local(top):
            try:
                found[top] = metadata.version(top)
            except metadata.PackageNotFoundError:
                continue
    return found


def _sync(directory: Path) -> None:
    """Flush every file of the version to the disk: the manifest must not outlive them."""
    for path in directory.rglob("*"):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
