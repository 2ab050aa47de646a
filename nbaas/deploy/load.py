"""A model again from its version directory: verify, import the source, rebuild, compare.

Only replicas call this: it runs the version's source.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.deploy.calling import call, outputs_in_order
from nbaas.deploy.keras_models import choose_backend
from nbaas.deploy.manifest import (
    GOLDEN,
    SOURCE,
    STRUCTURE,
    WEIGHTS,
    VersionManifest,
    read_manifest,
    verify_files,
)
from nbaas.deploy.probe import ABSOLUTE, RELATIVE
from nbaas.deploy.rebuild import Decoder, resolve_global
from nbaas.deploy.source import NOTEBOOK
from nbaas.deploy.streamed import first_items, golden_key, items_of
from nbaas.errors import BundleError, DeployError


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to be called, in eval mode on `device`."""

    model: Any
    manifest: VersionManifest
    device: str

    def run(self, inputs: list[Any]) -> list[Any]:
        """Return output tensors on the CPU for input tensors, both in the signature's order."""
        signature = self.manifest.signature
        moved = [x.to(self.device) for x in inputs] if self.device != "cpu" else inputs
        result = call(self.model, moved, signature.inputs, signature.call)
        outputs = outputs_in_order(result, signature)
        return [y.cpu() for y in outputs] if self.device != "cpu" else outputs

    def stream(self, inputs: list[Any]) -> Generator[list[Any]]:
        """Yield the output tensors of each item on the CPU; to be closed."""
        moved = [x.to(self.device) for x in inputs] if self.device != "cpu" else inputs
        for item in items_of(self.model, self.manifest.signature, moved):
            yield [y.cpu() for y in item] if self.device != "cpu" else item


def load_version(directory: Path, device: str = "cpu") -> Loaded:
    """Return the model of a version directory, every hash checked before anything is read.

    Raises: BundleError: a file is damaged or missing, or a library is.
    """
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    return Loaded(rebuilt(directory, device), manifest, device)


def _add_source(directory: Path) -> None:
    sys.dont_write_bytecode = True  # an unlisted file in source/ would be refused at the next load
    sys.path.insert(0, str(directory / SOURCE))
    importlib.invalidate_caches()


def rebuilt(directory: Path, device: str) -> Any:
    """Return the model of a version directory whose files are known to be whole."""
    from safetensors.torch import load_file

    _add_source(directory)
    content = json.loads((directory / STRUCTURE).read_text(encoding="utf-8"))
    if any(node[0] == "keras" for node in content["nodes"]):
        choose_backend()  # before the notebook's source imports it
    tensors = load_file(directory / WEIGHTS)
    notebook = content["notebook"]

    def resolve(name: str) -> Any:
        module, _, qualname = name.partition(":")
        return resolve_global(f"{notebook}:{qualname}" if module == NOTEBOOK else name)

    decoder = Decoder(content["nodes"], tensors, device, resolve)
    if notebook:
        _import_notebook(directory, notebook, content, decoder)
    return decoder.value(content["root"])


def _import_notebook(directory: Path, name: str, content: dict[str, Any], decoder: Decoder) -> None:
    """Run the notebook's module; the values it needs are set before, or after if made of its classes."""
    path = directory / SOURCE / f"{name}.py"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    late = {
        key for key, value in content["values"].items() if _needs_notebook(content["nodes"], value)
    }
    early = [key for key in content["values"] if key not in late]
    for key in early:
        setattr(module, key, decoder.value(content["values"][key]))
    exec(compile(text, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - the version's source
    for key in late:
        setattr(module, key, decoder.value(content["values"][key]))


def _needs_notebook(nodes: list[list[Any]], value: Any) -> bool:
    """Whether rebuilding `value` asks for a class or function of the notebook."""
    queue, seen = [value], set()
    while queue:
        item = queue.pop()
        if isinstance(item, dict):
            if item["ref"] not in seen:
                seen.add(item["ref"])
                queue.append(nodes[item["ref"]])
        elif isinstance(item, list):
            queue.extend(item)
        elif isinstance(item, str) and item.startswith(f"{NOTEBOOK}:"):
            return True
    return False


def check_golden(loaded: Loaded, directory: Path) -> list[Any]:
    """Compare the model's output with the golden one; return the golden input tensors.

    Raises: DeployError: it differs, with the largest difference.
    """
    import torch
    from safetensors.torch import load_file

    golden = load_file(directory / GOLDEN)
    signature = loaded.manifest.signature
    inputs = [golden[f"input:{spec.name}"] for spec in signature.inputs]
    with torch.inference_mode():
        if loaded.manifest.streams:
            _check_items(loaded, golden, inputs)
            return inputs
        outputs = loaded.run(inputs)
    if len(outputs) != len(signature.outputs):
        raise BundleError(f"{len(outputs)} outputs, {len(signature.outputs)} in the signature")
    for spec, output in zip(signature.outputs, outputs, strict=True):
        if loaded.manifest.deterministic:
            _compare(f"output {spec.name!r}", output, golden[golden_key(spec.name)])
    return inputs


def _check_items(loaded: Loaded, golden: dict[str, Any], inputs: list[Any]) -> None:
    """Compare the first items of a stream with the golden ones."""
    signature = loaded.manifest.signature
    for i, item in enumerate(first_items(loaded.model, signature, inputs, loaded.device)):
        for spec, output in zip(signature.outputs, item, strict=True):
            expected = golden.get(golden_key(spec.name, i))
            if not loaded.manifest.deterministic:
                continue
            if expected is None:
                raise DeployError(
                    f"the rebuilt model yields more than the {i} items of the notebook's",
                    hint=_NOT_IN_IT,
                )
            _compare(f"item {i}, output {spec.name!r}", output.cpu(), expected)


_NOT_IN_IT = "the model depends on something that is not in it"


def _compare(what: str, output: Any, expected: Any) -> None:
    import torch

    if output.shape != expected.shape:
        shapes = f"{list(output.shape)}, not {list(expected.shape)}"
        raise DeployError(f"{what} of the rebuilt model is {shapes}", hint=_NOT_IN_IT)
    left, right = output.double(), expected.double()
    if not torch.allclose(left, right, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True):
        difference = (left - right).abs().max().item()
        raise DeployError(
            f"{what} of the rebuilt model differs from the notebook's by {difference:.3g}",
            hint=_NOT_IN_IT,
        )
