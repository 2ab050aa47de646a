"""Rules for reductions, shapes, indexing, products and losses over sharded rows.

Shape letters: N global rows, n rows of this rank, C classes, K elements a row.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from nbaas.parallel import trees
from nbaas.parallel.rows import Rows
from nbaas.parallel.rules import Args, Kwargs, rule
from nbaas.parallel.sharded import GlobalTensor, PartialTensor, ShardedTensor, my_rows
from nbaas.parallel.world import entering, world


def _dims(value: Any, ndim: int) -> tuple[int, ...]:
    dims = value if isinstance(value, (tuple, list, torch.Size)) else (value,)
    return tuple(d % ndim if ndim else 0 for d in dims)


# ---- sums and means -------------------------------------------------------------------------------


@rule("sum", "mean", "nansum", "count_nonzero")
def _sum_or_mean(func: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if isinstance(tensor, PartialTensor):
        return _scalar_reduction(func, args, kwargs)
    if not isinstance(tensor, ShardedTensor):
        return NotImplemented
    dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
    ndim = tensor.part.dim()
    dims = tuple(range(ndim)) if dim is None or dim == () else _dims(dim, ndim)
    if tensor.row_dim not in dims:
        return _along(func, args, kwargs)
    whole_batch = dim is None or dim == ()
    return _over_rows(func, tensor, None if whole_batch else dims, args, kwargs)


def _over_rows(func: Any, tensor: ShardedTensor, dims: Any, args: Args, kwargs: Kwargs) -> Any:
    """Return the part of a sum over rows: world_size times the local sum; of a mean, weighted."""
    rest = {key: value for key, value in kwargs.items() if key not in ("dim", "axis")}
    if len(args) > 2:  # noqa: PLR2004 - keepdim given by position
        rest["keepdim"] = args[2]
    if dims is not None:
        rest["dim"] = dims
    rows = tensor.rows
    if func.__name__ != "mean":
        part = func(tensor.valid, **rest) * world().size
    elif rows.valid:
        part = func(tensor.valid, **rest)
        part = part if rows.even else part * rows.weight
    else:
        rest = {key: value for key, value in rest.items() if key != "mean"}
        part = torch.sum(tensor.valid, **rest)
    return PartialTensor(part)


def _scalar_reduction(func: Any, args: Args, kwargs: Kwargs) -> Any:
    part = func(args[0].part, *args[1:], **kwargs)  # linear, so the part of the result
    result = PartialTensor(part)
    if args[0].value is not None:
        result.value = func(args[0].value, *args[1:], **kwargs)
    return result


# ---- along other dimensions -------------------------------------------------------------------------

_ALONG = ["argmax", "argmin", "max", "min", "amax", "amin", "softmax", "log_softmax", "softmin", "logsumexp", "cumsum", "cumprod", "sort", "argsort", "topk", "norm", "std", "var", "prod", "median", "any", "all", "flip", "unbind", "normalize", "glu", "kthvalue", "mode", "nanmean", "std_mean", "var_mean", "aminmax", "cosine_similarity", "pairwise_distance", "gather", "take_along_dim", "index_select", "roll", "diff", "renorm"]
_DIM_POSITION = {"topk": 2, "norm": 2, "kthvalue": 2, "normalize": 2, "cosine_similarity": 2,
                 "flip": 1, "roll": 2, "index_select": 1}  # fmt: skip
_DIM_DEFAULT = {"topk": -1, "sort": -1, "argsort": -1, "normalize": 1, "glu": -1, "cosine_similarity": 1,
                "pairwise_distance": -1, "unbind": 0, "diff": -1, "median": None}  # fmt: skip
_DIM_NAMES = ("dim", "axis", "dims")


def _dim_of(func: Any, args: Args, kwargs: Kwargs) -> Any:
    name = func.__name__
    for key in _DIM_NAMES:
        if key in kwargs:
            return kwargs[key]
    position = _DIM_POSITION.get(name, 1)
    if len(args) > position and isinstance(args[position], (int, tuple, list)):
        return args[position]
    return _DIM_DEFAULT.get(name)


@rule(*_ALONG)
def _along_rule(func: Any, args: Args, kwargs: Kwargs) -> Any:
    if not isinstance(args[0], ShardedTensor):
        return NotImplemented
    name = func.__name__
    if name in ("max", "min") and len(args) > 1 and isinstance(args[1], torch.Tensor):
        return NotImplemented
    if name == "pairwise_distance" or (name == "norm" and _dim_of(func, args, kwargs) is None):
        return NotImplemented
    return _along(func, args, kwargs)


def _along(func: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    ndim = tensor.part.dim()
    dim = _dim_of(func, args, kwargs)
    if dim is None or tensor.row_dim in _dims(dim, ndim) or kwargs.get("out") is not None:
        return NotImplemented
    others = [_aligned(arg, tensor) for arg in args[1:]]
    named = {key: _aligned(value, tensor) for key, value in kwargs.items()}
    if any(part is NotImplemented for part in (*others, *named.values())):
        return NotImplemented
    if func.__name__ == "unbind" and any(d < tensor.row_dim for d in _dims(dim, ndim)):
        return NotImplemented
    result = func(tensor.part, *others, **named)
    gone = sum(d < tensor.row_dim for d in _dims(dim, ndim))

    def wrap(value: torch.Tensor) -> Any:
        lost = gone if value.dim() < ndim else 0
        return ShardedTensor(value, tensor.rows, tensor.row_dim - lost)

    return trees.map_tensors(wrap, result)


def _aligned(arg: Any, tensor: ShardedTensor) -> Any:
    """Return the local part of a further operand that has the same rows at the same place."""
    if not isinstance(arg, torch.Tensor):
        return arg
    if isinstance(arg, ShardedTensor):
        same = arg.rows == tensor.rows and arg.row_dim == tensor.row_dim
        return arg.part if same else NotImplemented
    if isinstance(arg, PartialTensor):
        return NotImplemented
    if arg.dim() > tensor.row_dim and arg.shape[tensor.row_dim] == tensor.rows.total:
        return my_rows(entering(arg), tensor.rows, tensor.row_dim)
    return NotImplemented


# ---- shapes -------------------------------------------------------------------------------------------


@rule("view", "reshape", "view_as", "reshape_as")
def _view(func: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if isinstance(tensor, PartialTensor):
        return _scalar_reduction(func, args, kwargs)
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
    start = (args[1] if len(args) > 1 else kwargs.get("start_dim", 0)) % max(1, ndim)
    end = (args[2] if len(args) > 2 else kwargs.get("end_dim", -1)) % max(1, ndim)  # noqa: PLR2004
    shape = list(tensor.shape)
    return _reshaped(tensor, [*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]])


@rule(
    "squeeze",
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
        return NotImplemented
    if tensor.rows.total == 1 and func.__name__ == "squeeze":
        return NotImplemented
    try:
        places = _row_places(func, tensor, args, kwargs)
    except (RuntimeError, IndexError, TypeError):
        return NotImplemented
    if places is None:
        return NotImplemented
    found = iter(places)
    result = func(tensor.part, *args[1:], **kwargs)
    return trees.map_tensors(lambda t: ShardedTensor(t, tensor.rows, next(found)), result)


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
    parts = [_aligned(item, first) for item in items]
    if any(part is NotImplemented for part in parts):
        return NotImplemented
    result = func(parts, dim) if func.__name__ != "hstack" else func(parts)
    return ShardedTensor(result, first.rows, first.row_dim + (stacks and dim <= first.row_dim))


# ---- products and layers on rows ------------------------------------------------------------------------


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


_LAYERS = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate", "pad", "layer_norm", "group_norm", "instance_norm", "embedding", "unfold", "fold", "pixel_shuffle", "prelu", "lp_pool2d", "rms_norm", "local_response_norm", "upsample"]


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


# ---- losses -----------------------------------------------------------------------------------------------

_ROW_LOSSES = ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "soft_margin_loss", "hinge_embedding_loss", "margin_ranking_loss", "cosine_embedding_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss"]


@rule(*_ROW_LOSSES)
def _row_loss(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Losses whose mean is over equally many terms a row: local mean, weighted by the rows."""
    if kwargs.get("size_average") is not None or kwargs.get("reduce") is not None:
        return NotImplemented
    operands = _rows_of_all(args, kwargs)
    if operands is None:
        return NotImplemented
    rows, local, named = operands
    sizes = {tuple(t.shape) for t in local[:2] if isinstance(t, torch.Tensor)}
    if len(sizes) > 1 and func.__name__ in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        return NotImplemented  # shapes that broadcast (n, 1) with (n,): the whole matrix is meant
    return _reduced_loss(func, rows, local, named)


def _reduced_loss(func: Any, rows: Rows, local: list[Any], named: Kwargs) -> Any:
    reduction = named.get("reduction", "mean")
    if reduction == "none":
        return ShardedTensor(func(*local, **named), rows)
    if not rows.valid:
        named = {**named, "reduction": "sum"}
    part = func(*local, **named)
    if reduction == "sum":
        return PartialTensor(part * world().size)
    return PartialTensor(part if rows.even else part * rows.weight)


def _rows_of_all(args: Args, kwargs: Kwargs) -> tuple[Rows, list[Any], Kwargs] | None:
    """Return the common rows and the valid local operands, None where they do not line up.

    A plain operand with N leading rows is cut; `weight`s without a row dimension enter as they are.
    """
    first = next((a for a in (*args, *kwargs.values()) if isinstance(a, ShardedTensor)), None)
    if first is None or first.row_dim != 0:
        return None
    rows = first.rows

    def cut(arg: Any) -> Any:
        if not isinstance(arg, torch.Tensor):
            return arg
        if isinstance(arg, ShardedTensor):
            return arg.valid if arg.rows == rows and arg.row_dim == 0 else NotImplemented
        if isinstance(arg, PartialTensor):
            return NotImplemented
        if arg.dim() and arg.shape[0] == rows.total and arg.dim() >= first.part.dim():
            return entering(arg).narrow(0, rows.offset, rows.valid)
        return entering(arg)

    local = [cut(arg) for arg in args]
    named = {key: cut(value) for key, value in kwargs.items()}
    for index, arg in enumerate(args[:2]):
        if isinstance(arg, torch.Tensor) and not isinstance(arg, ShardedTensor):
            if arg.dim() == 0 or arg.shape[0] != rows.total:
                return None
            local[index] = entering(arg).narrow(0, rows.offset, rows.valid)
    if any(value is NotImplemented for value in (*local, *named.values())):
        return None
    return rows, local, named


@rule("cross_entropy", "nll_loss")
def _cross_entropy(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Cross entropy by class index (N, ...) or by class probability (N, C, ...).

    The mean divides by the weight of the targets that are not ignored, over *all* ranks.
    """
    if kwargs.get("size_average") is not None or kwargs.get("reduce") is not None or len(args) > 3:  # noqa: PLR2004
        return NotImplemented
    weight = args[2] if len(args) > 2 else kwargs.get("weight")  # noqa: PLR2004
    logits, target = args[0], args[1] if len(args) > 1 else kwargs.get("target")
    both = _rows_of_all((logits, target), {})
    if both is None or logits.dim() < 2 or isinstance(weight, GlobalTensor):  # noqa: PLR2004
        return NotImplemented
    rows, (logits, target), _ = both
    weight = entering(weight) if isinstance(weight, torch.Tensor) else None
    named = {k: v for k, v in kwargs.items() if k not in ("weight", "target", "input")}
    named["weight"] = weight
    if target.is_floating_point() or named.get("reduction", "mean") != "mean":
        return _reduced_loss(func, rows, [logits, target], named)
    return _index_mean(func, rows, logits, target, named)


def _index_mean(
    func: Any, rows: Rows, logits: torch.Tensor, target: torch.Tensor, named: Kwargs
) -> Any:
    weight, ignore = named["weight"], named.get("ignore_index", -100)
    total = func(logits, target, **{**named, "reduction": "sum"})
    if weight is None:
        per_row = target.numel() // rows.valid if rows.valid else math.prod(target.shape[1:])
        result = PartialTensor(total * (world().size / (rows.total * per_row)))
        result.elements = rows.total * per_row
        result.ignored = (target == ignore).sum().to(torch.float64)
    else:
        mine = weight[target[target != ignore]].sum().detach().to(torch.float64)
        result = PartialTensor(total / world().mean(mine).to(total.dtype))
    result.label = type(total.grad_fn).__name__ if total.grad_fn is not None else ""
    return result
