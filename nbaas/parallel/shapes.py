"""Rules for shapes, indexing, joining, products and functional layers on sharded rows."""

from __future__ import annotations

import math
from typing import Any

import torch

from nbaas.parallel import trees
from nbaas.parallel.reductions import aligned, linear_reduction
from nbaas.parallel.rules import Args, Kwargs, names, rule
from nbaas.parallel.sharded import GlobalTensor, PartialTensor, ShardedTensor
from nbaas.parallel.world import entering

# ---- shapes ------------------------------------------------------------------------------------


@rule("view", "reshape", "view_as", "reshape_as")
def _view(func: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if isinstance(tensor, PartialTensor):
        return linear_reduction(func, args, kwargs)
    if not isinstance(tensor, ShardedTensor) or tensor.row_dim != 0 or kwargs:
        return NotImplemented
    wanted = args[1].shape if func.__name__.endswith("_as") else args[1:]
    if len(wanted) == 1 and isinstance(wanted[0], (tuple, list, torch.Size)):
        wanted = tuple(wanted[0])
    if not wanted or isinstance(wanted[0], torch.dtype):
        return NotImplemented
    return _reshaped(tensor, [int(size) for size in wanted])


def _reshaped(tensor: ShardedTensor, wanted: list[int]) -> Any:
    total = tensor.rows.total
    if -1 in wanted:
        known = math.prod(size for size in wanted if size != -1)
        if known == 0 or tensor.numel() % known:
            return NotImplemented
        wanted[wanted.index(-1)] = tensor.numel() // known
    if not total or math.prod(wanted) != tensor.numel() or wanted[0] % total:
        return NotImplemented
    factor = wanted[0] // total  # B x T rows out of B: (B, T, V) -> (B * T, V)
    row_elements = tensor.numel() // total
    if math.prod(wanted[1:]) * factor != row_elements:
        return NotImplemented
    local = tensor.part.reshape(tensor.part.shape[0] * factor, *wanted[1:])
    return ShardedTensor(local, tensor.rows.times(factor) if factor != 1 else tensor.rows)


@rule("flatten", "ravel")
def _flatten(func: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if not isinstance(tensor, ShardedTensor) or tensor.row_dim != 0:
        return NotImplemented
    ndim = tensor.dim()
    given = (*args[1:], *kwargs.values())
    if not all(-max(1, ndim) <= dim < max(1, ndim) for dim in given):
        return NotImplemented  # torch says so better
    start = (args[1] if len(args) > 1 else kwargs.get("start_dim", 0)) % max(1, ndim)
    end = (args[2] if len(args) > 2 else kwargs.get("end_dim", -1)) % max(1, ndim)  # noqa: PLR2004
    shape = list(tensor.shape)
    return _reshaped(tensor, [*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]])


@rule("squeeze")
def _squeeze(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Drop dimensions by the shape of the whole: a rank with one row must not lose that."""
    tensor = args[0]
    if isinstance(tensor, PartialTensor):
        return linear_reduction(func, args, kwargs)
    if tensor.rows.total == 1:
        return NotImplemented
    ndim = tensor.dim()
    asked = args[1] if len(args) > 1 else kwargs.get("dim", tuple(range(ndim)))
    asked = asked if isinstance(asked, (tuple, list)) else (asked,)
    if not all(isinstance(dim, int) and -ndim <= dim < ndim for dim in asked):
        return NotImplemented
    row_dim = tensor.row_dim
    dims = [d for d in {dim % ndim for dim in asked} if d != row_dim and tensor.shape[d] == 1]
    result = torch.squeeze(tensor.part, tuple(dims))
    return ShardedTensor(result, tensor.rows, row_dim - sum(d < row_dim for d in dims))


@rule(
    "unsqueeze",
    "transpose",
    "permute",
    "movedim",
    "swapaxes",
    "t",
    "get:T",
    "get:mT",
    "__getitem__",
    "chunk",
    "split",
    "narrow",
    "select",
)
def _shape_shift(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Run on the part, and find the row dimension again by a meta tensor with a tell-tale size."""
    tensor = args[0]
    if not isinstance(tensor, ShardedTensor):
        return NotImplemented
    if any(isinstance(leaf, torch.Tensor) for leaf in trees.tensors((args[1:], kwargs))):
        return _one_of_each_row(func, tensor, args)
    try:
        places = _row_places(func, tensor, args, kwargs)
    except (RuntimeError, IndexError, TypeError):
        return NotImplemented
    if places is None:
        return NotImplemented
    found = iter(places)
    result = func(tensor.part, *args[1:], **kwargs)
    return trees.map_tensors(lambda t: ShardedTensor(t, tensor.rows, next(found)), result)


def _one_of_each_row(func: Any, tensor: ShardedTensor, args: Args) -> Any:
    """t[arange(N), y]: an entry of each row, y given by rows as well."""
    index = args[1]
    rows = tensor.rows
    if func.__name__ != "__getitem__" or not isinstance(index, tuple) or tensor.row_dim:
        return NotImplemented
    first, *others = index
    counts = isinstance(first, torch.Tensor) and not isinstance(first, GlobalTensor)
    if not counts or first.shape != (rows.total,) or first.is_floating_point():
        return NotImplemented
    if not bool((first == torch.arange(rows.total, device=first.device)).all()):
        return NotImplemented
    if not all(isinstance(o, ShardedTensor) and (o.rows, o.dim()) == (rows, 1) for o in others):
        return NotImplemented
    part = tensor.part
    mine = torch.arange(part.shape[0], device=part.device)
    return ShardedTensor(func(part, (mine, *[o.part for o in others])), rows)


def _row_places(func: Any, tensor: ShardedTensor, args: Args, kwargs: Kwargs) -> list[int] | None:
    """Return the row dimension of each output, None where an output does not keep all rows whole."""
    places: list[set[int]] = []
    for marker in (1009, 2003):  # sizes that no other dimension has twice
        shape = list(tensor.part.shape)
        shape[tensor.row_dim] = marker
        outputs = trees.tensors(func(torch.empty(shape, device="meta"), *args[1:], **kwargs))
        found = [{d for d, size in enumerate(out.shape) if size == marker} for out in outputs]
        places = found if not places else [a & b for a, b in zip(places, found, strict=False)]
        if places and len(found) != len(places):
            return None
    if not places or any(len(place) != 1 for place in places):
        return None
    return [place.pop() for place in places]


@rule("cat", "concat", "concatenate", "stack", "hstack")
def _cat(func: Any, args: Args, kwargs: Kwargs) -> Any:
    items = list(args[0])
    first = next((item for item in items if isinstance(item, ShardedTensor)), None)
    if first is None:
        return NotImplemented
    ndim = first.part.dim()
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 1 if func.__name__ == "hstack" else 0)
    stacks = func.__name__ == "stack"
    dim %= ndim + stacks
    if not stacks and dim == first.row_dim:
        return NotImplemented
    parts = [aligned(item, first) for item in items]
    if any(part is NotImplemented for part in parts):
        return NotImplemented
    result = func(parts, dim) if func.__name__ != "hstack" else func(parts)
    return ShardedTensor(result, first.rows, first.row_dim + (stacks and dim <= first.row_dim))


# ---- products and layers on rows ---------------------------------------------------------------


@rule("matmul", "__matmul__", "mm", "linear", "bmm", "baddbmm", "addmm")
def _matmul(func: Any, args: Args, kwargs: Kwargs) -> Any:
    left, *others = args
    if not isinstance(left, ShardedTensor) or left.row_dim != 0 or left.part.dim() < 2:  # noqa: PLR2004
        return NotImplemented
    if func.__name__ in ("addmm", "baddbmm"):
        return NotImplemented
    right = others[0]
    batched = left.part.dim() > 2  # noqa: PLR2004
    if isinstance(right, ShardedTensor):
        fits = (
            batched and right.row_dim == 0 and right.rows == left.rows and right.dim() == left.dim()
        )
        if not fits:
            return NotImplemented
        return ShardedTensor(func(left.part, right.part, **kwargs), left.rows)
    if func.__name__ != "linear" and right.dim() > 2:  # noqa: PLR2004
        return NotImplemented
    plain = [entering(t) if isinstance(t, torch.Tensor) else t for t in others]
    if any(isinstance(t, GlobalTensor) for t in (*plain, *kwargs.values())):
        return NotImplemented
    return ShardedTensor(func(left.part, *plain, **kwargs), left.rows)


_LAYERS = names("""conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_max_pool1d adaptive_max_pool2d interpolate pad layer_norm group_norm instance_norm embedding
    unfold fold pixel_shuffle prelu lp_pool2d rms_norm local_response_norm upsample""")


@rule(*_LAYERS)
def _layer(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Functional layers whose first argument is (N, ...) and whose others are weights."""
    data, *others = args
    if not isinstance(data, ShardedTensor) or data.row_dim != 0:
        return NotImplemented
    if any(isinstance(leaf, GlobalTensor) for leaf in trees.tensors((others, kwargs))):
        return NotImplemented
    if func.__name__ == "pad" and len(others[0]) >= 2 * data.part.dim():
        return NotImplemented
    plain = trees.map_tensors(entering, tuple(others))
    result = func(data.part, *plain, **trees.map_tensors(entering, kwargs))
    return trees.map_tensors(lambda t: ShardedTensor(t, data.rows), result)


@rule("one_hot")
def _one_hot(func: Any, args: Args, kwargs: Kwargs) -> Any:
    classes = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
    if not isinstance(args[0], ShardedTensor) or classes == -1:
        return NotImplemented
    return ShardedTensor(func(args[0].part, classes), args[0].rows, args[0].row_dim)
