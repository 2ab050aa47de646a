"""Rules for losses: this rank's terms, weighted so that the mean over ranks is the global loss.

Shape letters: N global rows, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from nbaas.parallel.reductions import labelled
from nbaas.parallel.rows import Rows
from nbaas.parallel.rules import Args, Kwargs, names, rule
from nbaas.parallel.sharded import GlobalTensor, PartialTensor, ShardedTensor
from nbaas.parallel.world import entering, world

# ---- losses ------------------------------------------------------------------------------------

_ROW_LOSSES = names("""mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy
    binary_cross_entropy_with_logits kl_div poisson_nll_loss gaussian_nll_loss soft_margin_loss
    hinge_embedding_loss margin_ranking_loss cosine_embedding_loss triplet_margin_loss
    triplet_margin_with_distance_loss multi_margin_loss multilabel_margin_loss
    multilabel_soft_margin_loss""")


@rule(*_ROW_LOSSES)
def _row_loss(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Losses whose mean is over equally many terms a row: local mean, weighted by the rows."""
    if kwargs.get("size_average") is not None or kwargs.get("reduce") is not None:
        return NotImplemented
    operands = _rows_of_all(args, kwargs)
    if operands is None or (func.__name__ in _ROW_TARGETS and _has_plain_target(args, kwargs)):
        return NotImplemented
    rows, local, named = operands
    if func.__name__ == "multi_margin_loss" and 0 in rows.counts:
        return NotImplemented  # torch's sum over no rows is what was in memory before
    sizes = {tuple(t.shape) for t in local[:2] if isinstance(t, torch.Tensor)}
    if len(sizes) > 1 and func.__name__ in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        return NotImplemented  # shapes that broadcast (n, 1) with (n,): the whole matrix is meant
    return _reduced_loss(func, rows, local, named)


# Their third operand has an entry a row, of fewer dimensions than the inputs.
_ROW_TARGETS = frozenset(["cosine_embedding_loss", "margin_ranking_loss", "gaussian_nll_loss"])


def _has_plain_target(args: Args, kwargs: Kwargs) -> bool:
    found = args[2] if len(args) > 2 else kwargs.get("target", kwargs.get("var"))  # noqa: PLR2004
    return isinstance(found, torch.Tensor) and not isinstance(found, GlobalTensor)


def _reduced_loss(func: Any, rows: Rows, local: list[Any], named: Kwargs) -> Any:
    reduction = named.get("reduction", "mean")
    if reduction == "none":
        terms = func(*local, **named)
        if not rows.valid:
            terms = torch.cat([terms, terms.new_zeros(1, *terms.shape[1:])])  # a row of padding
        return ShardedTensor(terms, rows)
    if not rows.valid:
        named = {**named, "reduction": "sum"}
    part = func(*local, **named)
    if reduction == "sum":
        return labelled(PartialTensor(part * world().size), part)
    return labelled(PartialTensor(part if rows.even else part * rows.weight), part)


def _rows_of_all(args: Args, kwargs: Kwargs) -> tuple[Rows, list[Any], Kwargs] | None:
    """Return the common rows and the valid local operands, None where they do not line up.

    A plain operand with N leading rows is cut; `weight`s without a row dimension enter as they are.
    """
    first = next((a for a in (*args, *kwargs.values()) if isinstance(a, ShardedTensor)), None)
    if first is None or first.row_dim != 0:
        return None
    rows = first.rows
    if not kwargs and all(
        type(a) is ShardedTensor and a.rows is rows and not a.row_dim for a in args
    ):
        return rows, [arg.valid for arg in args], kwargs

    local = [_cut_rows(arg, rows, first.part.dim()) for arg in args]
    named = {key: _cut_rows(value, rows, first.part.dim()) for key, value in kwargs.items()}
    for index, arg in enumerate(args[:2]):
        if isinstance(arg, torch.Tensor) and not isinstance(arg, ShardedTensor):
            if arg.dim() == 0 or arg.shape[0] != rows.total:
                return None
            local[index] = entering(arg).narrow(0, rows.offset, rows.valid)
    if any(value is NotImplemented for value in (*local, *named.values())):
        return None
    return rows, local, named


def _cut_rows(arg: Any, rows: Rows, ndim: int) -> Any:
    """Return the valid local rows of a loss's operand, NotImplemented where its rows are others."""
    if not isinstance(arg, torch.Tensor):
        return arg
    if isinstance(arg, ShardedTensor):
        return arg.valid if arg.rows == rows and arg.row_dim == 0 else NotImplemented
    if isinstance(arg, PartialTensor):
        return NotImplemented
    if arg.dim() >= max(1, ndim):
        if arg.shape[0] == rows.total:
            return entering(arg).narrow(0, rows.offset, rows.valid)
        return entering(arg) if arg.shape[0] == 1 else NotImplemented
    return entering(arg)


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
    if weight is not None:
        mine = weight[target[target != ignore]].sum().detach().to(torch.float64)
        total = func(logits, target, **{**named, "reduction": "sum"})
        return labelled(PartialTensor(total / world().mean(mine).to(total.dtype)), total)
    # The usual ignore_index is below every class: where no target is, one small operation tells.
    none = ignore < 0 and target.numel() > 0 and target.min().item() >= 0
    ignored = 0 if none else int((target == ignore).sum())
    per_row = target.numel() // rows.valid if rows.valid else math.prod(target.shape[1:])
    if ignored or not rows.valid:
        total = func(logits, target, **{**named, "reduction": "sum"})
        part = total * (world().size / (rows.total * per_row))
    else:
        total = func(logits, target, **named)
        part = total if rows.even else total * rows.weight
    result = labelled(PartialTensor(part), total)
    result.elements, result.ignored = rows.total * per_row, ignored
    return result
