"""Rules for reductions over sharded rows, and along other dimensions."""

from __future__ import annotations

from typing import Any

import torch

from nbaas.parallel import trees
from nbaas.parallel.rules import Args, Kwargs, elementwise, names, rule
from nbaas.parallel.sharded import PartialTensor, ShardedTensor, my_rows
from nbaas.parallel.world import entering, world


def _dims(value: Any, ndim: int) -> tuple[int, ...]:
    dims = value if isinstance(value, (tuple, list, torch.Size)) else (value,)
    return tuple(d % ndim if ndim else 0 for d in dims)


# ---- sums and means ----------------------------------------------------------------------------


@rule("sum", "mean", "nansum", "count_nonzero")
def _sum_or_mean(func: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    if isinstance(tensor, PartialTensor):
        return linear_reduction(func, args, kwargs)
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
        local = func(tensor.valid, **rest)
        part = local * world().size
    elif not tensor.part.requires_grad or not torch.is_grad_enabled():
        return _exact_mean(tensor, rest)
    elif rows.valid:
        local = func(tensor.valid, **rest)
        part = local if rows.even else local * rows.weight
    else:
        local = part = torch.sum(tensor.valid, **rest)
    return labelled(PartialTensor(part), local)


def _exact_mean(tensor: ShardedTensor, rest: Kwargs) -> torch.Tensor:
    """Return a mean that no gradient follows as one device rounds it: the sum, divided once."""
    kind = rest.get("dtype") or tensor.dtype
    sums = torch.sum(tensor.valid, **{**rest, "dtype": torch.float64})
    everyone = world().mean(sums) * world().size
    elements = tensor.numel() // max(1, sums.numel())
    return everyone.to(kind) / elements


def labelled(result: PartialTensor, local: torch.Tensor) -> PartialTensor:
    """Name `result` as autograd names it on one device: by the operation, not by our weighting."""
    result.label = type(local.grad_fn).__name__ if local.grad_fn is not None else ""
    return result


def linear_reduction(func: Any, args: Args, kwargs: Kwargs) -> Any:
    part = func(args[0].part, *args[1:], **kwargs)  # linear, so the part of the result
    result = PartialTensor(part)
    result.ignored, result.elements = args[0].ignored, args[0].elements
    if args[0].is_known:
        result.value = func(args[0].value, *args[1:], **kwargs)
    elif part.requires_grad:
        result.sources = (args[0],)
    return result


# ---- along other dimensions --------------------------------------------------------------------

_ALONG = names("""argmax argmin max min amax amin softmax log_softmax softmin logsumexp cumsum cumprod
    sort argsort topk norm std var prod median any all flip unbind normalize glu kthvalue mode nanmean
    std_mean var_mean aminmax cosine_similarity gather take_along_dim index_select roll diff renorm""")
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
        return elementwise(func, args, kwargs)
    if name in ("all", "any") and len(args) == 1 and not kwargs:
        return _of_all_rows(func, args[0])
    return _along(func, args, kwargs)


@rule("_is_all_true", "_is_any_true")
def _is_true(func: Any, args: Args, kwargs: Kwargs) -> Any:
    return _of_all_rows(func, args[0]) if isinstance(args[0], ShardedTensor) else NotImplemented


def _of_all_rows(func: Any, tensor: ShardedTensor) -> torch.Tensor:
    """Return all or any of the whole batch, on every rank."""
    every = world().gather_objects(bool(func(tensor.valid)))
    told = all(every) if "all" in func.__name__ else any(every)
    return torch.tensor(told, device=tensor.part.device)


def _along(func: Any, args: Args, kwargs: Kwargs) -> Any:
    tensor = args[0]
    ndim = tensor.part.dim()
    dim = _dim_of(func, args, kwargs)
    if dim is None or tensor.row_dim in _dims(dim, ndim) or kwargs.get("out") is not None:
        return NotImplemented
    others = [aligned(arg, tensor) for arg in args[1:]]
    named = {key: aligned(value, tensor) for key, value in kwargs.items()}
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


def aligned(arg: Any, tensor: ShardedTensor) -> Any:
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
