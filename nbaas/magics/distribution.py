"""How a training cell will be distributed, told before it runs: EXPLAIN for `%%train`.

Read from the live objects the cell names and from its source; no code of the user's is run.  What can
only be seen in a run (does f(x)[rows] equal f(x[rows])?) is said to be probed on the first batch.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbaas.magics.tables import Table, size_text

Row = tuple[str, str, str]  # what, how, why
SPLIT = "split: each rank runs its rows"
WHOLE = "replicated: every rank runs the whole batch"
KEPT = "split: every rank fetches the whole batch and keeps its rows"


@dataclass(frozen=True, slots=True)
class Plan:
    """What `%%train --plan` returns: what would travel, and how it would be distributed."""

    shipped: Table
    distributed: Table

    def __repr__(self) -> str:
        return f"{self.shipped!r}\n\n{self.distributed!r}"

    def _repr_html_(self) -> str:
        return self.shipped._repr_html_() + self.distributed._repr_html_()


@dataclass(frozen=True, slots=True)
class Scene:
    """What the cell names, its source and that of the functions it calls, and the ranks it gets."""

    values: Mapping[str, Any]
    trees: Sequence[ast.AST]
    ranks: int

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Yield each call and the last part of what it calls: 'cross_entropy' of F.cross_entropy(...)."""
        for tree in self.trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    yield node, _last_name(node.func)


def distribution(
    source: str, names: Sequence[str], namespace: Mapping[str, Any], ranks: int
) -> Table:
    """Return how what the cell uses will be distributed over `ranks`, a row each, and why."""
    values = {name: namespace[name] for name in names if name in namespace}
    scene = Scene(values, trees_of(source, values), ranks)
    rows = [row for name, value in values.items() for row in _of_value(name, value, scene)]
    rows += _made_in_the_cell(scene)
    rows += _losses_called(scene)
    rows += _operations(scene)
    rows += _unrecognised(rows, values)
    return Table(("what", "how it is distributed", "why"), tuple(dict.fromkeys(rows)))


def trees_of(source: str, values: Mapping[str, Any]) -> list[ast.AST]:
    """Return the syntax of the cell and of the functions it names."""
    trees: list[ast.AST] = [ast.parse(source)]
    for value in values.values():
        if isinstance(value, types.FunctionType) and value.__module__ == "__main__":
            trees += _parsed(value)
    return trees


def _parsed(code: Any) -> list[ast.AST]:
    try:
        return [ast.parse(textwrap.dedent(inspect.getsource(code)))]
    except (OSError, TypeError, SyntaxError):
        return []


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


# ---- live objects -----------------------------------------------------------------------------------


def _of_value(name: str, value: Any, scene: Scene) -> list[Row]:
    torch = sys.modules.get("torch")
    if torch is None:
        return []
    what = f"{name} ({type(value).__name__})"
    if isinstance(value, torch.utils.data.DataLoader):
        return [_loader(what, value, scene.ranks)]
    if isinstance(value, torch.nn.Module):
        return _module(what, value)
    if isinstance(value, torch.optim.Optimizer):
        return [_optimizer(what, value)]
    if isinstance(value, torch.Tensor) and value.dim():
        return [_tensor(f"{name} {tuple(value.shape)}", value, scene.ranks)]
    if isinstance(value, torch.optim.lr_scheduler.LRScheduler):
        return [(what, "replicated", "every rank takes the same steps of it")]
    return _framework(what, value)


def _loader(what: str, loader: Any, ranks: int) -> Row:
    from torch.utils.data import IterableDataset
    from torch.utils.data._utils.collate import default_collate

    size = getattr(loader.batch_sampler, "batch_size", None)
    batch = f"batches of {size}" if size else "its batches"
    if isinstance(loader.dataset, IterableDataset):
        return what, KEPT, "a stream: ranks cannot fetch apart from each other"
    if loader.batch_sampler is None:
        return what, KEPT, "batch_size=None: the dataset makes its own batches"
    if loader.collate_fn is not default_collate:
        return what, KEPT, "its own collate function sees the whole batch, as on one device"
    share = f", {size / ranks:g} rows a rank" if size else ""
    how = f"sharded: {batch}, each rank fetches its rows only{share}"
    return (
        what,
        how,
        "default collate; whole batches if a sample draws random numbers or has strings",
    )


def _module(what: str, module: Any) -> list[Row]:
    from nbaas.parallel.modules import has_foreign_hooks

    count = sum(p.numel() for p in module.parameters())
    if not count:
        functions = [n for n in _functions_of(type(module)) if _has_rule(n)]
        if functions:
            return [
                (what, "sharded", f"{functions[0]} over each rank's rows; its value is the batch's")
            ]
        return [(what, "by its operations", "it owns no parameters")]
    what = f"{what}, {count:,} parameters"
    if has_foreign_hooks(module):
        return [(what, WHOLE, "its hooks see activations, of the whole batch")]
    if line := _reads_numbers(type(module)):
        return [(what, WHOLE, f"its forward reads a number of the batch: {line}")]
    rows = [(what, SPLIT, "if the probe on the first batch agrees")]
    return rows + [(f"  {part}", *told) for part, told in _parts(module)]


def _parts(module: Any) -> list[tuple[str, tuple[str, str]]]:
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    found: dict[str, tuple[str, str]] = {}
    for part in module.modules():
        kind = type(part).__name__
        if isinstance(part, _BatchNorm) and part.track_running_stats:
            found[kind] = "statistics of all ranks' rows", "two small messages a layer and step"
        elif isinstance(part, nn.modules.dropout._DropoutNd) and part.p:  # noqa: SLF001 - the family
            found[kind] = (
                "the masks of one device",
                "drawn for the whole batch, each rank's rows used",
            )
        elif getattr(part, "dropout", 0.0) and isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            found[kind] = "masks of each rank's own", "torch draws them out of sight"
        elif isinstance(part, nn.Embedding) and part.max_norm is not None:
            found[kind] = (
                "replicated with its model",
                "max_norm changes weights of rows that it meets",
            )
    return list(found.items())


def _optimizer(what: str, optimizer: Any) -> Row:
    from nbaas.parallel.gradients import BUCKET_BYTES

    leaves = [p for group in optimizer.param_groups for p in group["params"]]
    size = sum(p.numel() * p.element_size() for p in leaves)
    when = "launched within backward" if size > BUCKET_BYTES else "in one message after backward"
    why = f"gradients are averaged, {size_text(size)} {when}, the loss with them"
    return what, "replicated: every rank takes the same step", why


def _tensor(what: str, tensor: Any, ranks: int) -> Row:
    rows = tensor.shape[0]
    if rows < 2 * ranks:
        return what, "replicated", "a plain tensor with few rows"
    return (
        what,
        "replicated; split where a model is called with it",
        "a plain tensor of the notebook",
    )


_FRAMEWORKS = {
    "transformers": "its loaders and model are those of one device",
    "lightning": "its loaders and model are those of one device",
    "pytorch_lightning": "its loaders and model are those of one device",
    "ignite": "its update function is ordinary code",
    "keras": "fit and predict call the model, which is split",
}


def _framework(what: str, value: Any) -> list[Row]:
    home = type(value).__module__.partition(".")[0]
    if home not in _FRAMEWORKS:
        return []
    keras = sys.modules.get("keras")
    if home == "keras" and keras is not None and keras.backend.backend() != "torch":
        backend = keras.backend.backend()
        return [
            (what, "replicated", f"Keras runs on {backend}; KERAS_BACKEND=torch distributes it")
        ]
    return [(what, "unchanged", _FRAMEWORKS[home])]


# ---- the source -------------------------------------------------------------------------------------


def _made_in_the_cell(scene: Scene) -> list[Row]:
    rows: list[Row] = []
    for call, name in scene.calls():
        if name == "DataLoader":
            given = {word.arg for word in call.keywords}
            how = "sharded: each rank fetches its rows only"
            if given & {"collate_fn"}:
                how = KEPT
            rows.append((f"DataLoader made in line {call.lineno}", how, "as its dataset allows"))
        elif _is_module_class(scene.values.get(name)):
            line = _reads_numbers(scene.values[name])
            how, why = SPLIT, "if the probe on the first batch agrees"
            if line:
                how, why = WHOLE, f"its forward reads a number of the batch: {line}"
            rows.append((f"{name} made in line {call.lineno}", how, why))
    return rows


def _is_module_class(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, type) and issubclass(value, torch.nn.Module)


def _losses_called(scene: Scene) -> list[Row]:
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return []
    return [
        (
            f"{name} in line {call.lineno}",
            "sharded",
            "over each rank's rows; its value is the batch's",
        )
        for call, name in scene.calls()
        if name.endswith(("_loss", "cross_entropy", "kl_div", "_with_logits")) and _has_rule(name)
    ]


_OF_PYTHON = frozenset(dir(list) + dir(dict) + dir(str) + dir(set))


def _operations(scene: Scene) -> list[Row]:
    """Return the operations of the cell that have no rule: on a batch they gather it."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return []
    found = sorted({
        name for _, name in scene.calls()
        if name not in _OF_PYTHON and not name.startswith("_")
        and (hasattr(torch.Tensor, name) or hasattr(torch.nn.functional, name))
        and not _has_rule(name) and name not in _NOT_ON_A_BATCH
    })  # fmt: skip
    if not found:
        return []
    return [
        (", ".join(found), "gathered where used on a batch", "no rule: slower, the same numbers")
    ]


_NOT_ON_A_BATCH = frozenset(["backward", "size", "dim", "numel", "is_tensor", "register_hook", "apply_",
    "is_floating_point", "is_complex", "get_device", "grad", "element_size"])  # fmt: skip


def _has_rule(name: str) -> bool:
    from nbaas.parallel import activate  # noqa: F401 - all rules are registered with it
    from nbaas.parallel.sharded import RULES

    return name in RULES


def _functions_of(kind: type) -> list[str]:
    calls = [
        node for tree in _parsed(kind) for node in ast.walk(tree) if isinstance(node, ast.Call)
    ]
    return [_last_name(call.func) for call in calls]


def _reads_numbers(kind: type) -> str:
    """Return the line of a class's forward that reads a number of a tensor, '' where none does."""
    if kind.__module__.partition(".")[0] == "torch":
        return ""
    for tree in _parsed(getattr(kind, "forward", None)):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _last_name(node.func) == "item":
                return ast.unparse(node)
    return ""


def _unrecognised(rows: Sequence[Row], values: Mapping[str, Any]) -> list[Row]:
    found: list[Row] = []
    known = {what.partition(" ")[0] for what, _, _ in rows}
    other = [n for n, v in values.items() if n not in known and not isinstance(v, _ORDINARY)]
    if other:
        found.append((", ".join(other), "alike on every rank", "not a kind that is distributed"))
    if not any(
        how.startswith(("sharded: ", KEPT)) or "plain tensor" in why for _, how, why in rows
    ):
        found.append(
            ("data", "not recognised", "no loader or tensor is named before the cell runs")
        )
    if not any(how in (SPLIT, WHOLE) for _, how, _ in rows):
        found.append(("model", "not recognised", "what the cell makes is probed at its first call"))
    return found


_ORDINARY = (int, float, str, bytes, type(None), type, types.FunctionType, types.ModuleType,
             types.BuiltinFunctionType, list, tuple, dict, set)  # fmt: skip
