"""The table of operations that stay sharded or partial.  It grows; what is missing gathers.

A rule takes (func, args, kwargs) and returns the result, or NotImplemented where it does not fit.
Shape letters: N global rows, n rows of this rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from nbaas.parallel.rows import Rows
from nbaas.parallel.sharded import (
    RULES,
    GlobalTensor,
    PartialTensor,
    Rule,
    ShardedTensor,
    my_rows,
    writes_in_place,
)
from nbaas.parallel.world import entering

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def rule(*functions: str) -> Callable[[Rule], Rule]:
    """Return the decorator that enters a rule for the functions of these names."""

    def register(function: Rule) -> Rule:
        for name in functions:
            RULES[name] = function
        return function

    return register


def names(text: str) -> list[str]:
    return text.split()


# ---- elementwise -------------------------------------------------------------------------------

_UNARY = names(
    """
    abs absolute neg negative exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos
    atan sinh cosh tanh sigmoid relu relu6 gelu silu elu selu celu leaky_relu softplus softsign
    hardtanh mish logsigmoid hardswish hardsigmoid erf erfc square sign sgn ceil floor round trunc
    frac reciprocal isnan isinf isfinite logical_not bitwise_not __neg__ __abs__ __invert__ __pos__
    positive clamp clip clamp_min clamp_max nan_to_num threshold rad2deg deg2rad lgamma digamma erfinv
    to float double half bfloat16 long int short char byte bool cpu cuda type contiguous clone detach
    pin_memory detach_ requires_grad_ relu_ sigmoid_ tanh_ exp_ sqrt_ neg_ abs_ clamp_ zero_ fill_
    round_ floor_ ones_like zeros_like full_like empty_like
    """
)
_BINARY = names(
    """
    add sub subtract mul multiply div divide true_divide floor_divide pow fmod remainder rsub atan2
    maximum minimum fmax fmin eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and
    bitwise_or bitwise_xor where lerp addcmul addcdiv masked_fill hypot not_equal less less_equal
    greater greater_equal __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__
    __div__ __rdiv__ __floordiv__ __rfloordiv__ __mod__ __rmod__ __pow__ __rpow__ __eq__ __ne__ __lt__
    __le__ __gt__ __ge__ __and__ __or__ __xor__ __rand__ __ror__ __rxor__ __iadd__ __isub__ __imul__
    __itruediv__ __idiv__ __iand__ __ior__ add_ sub_ mul_ div_ pow_ masked_fill_ copy_ xlogy logaddexp
    heaviside __lshift__ __rshift__
    """
)


def elementwise(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Broadcast over rows: every operand lies on the rows, or has no row dimension at all."""
    first: ShardedTensor | None = None
    for arg in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(arg, PartialTensor):
            return _partial(func, args, kwargs)
        if isinstance(arg, ShardedTensor) and first is None:
            first = arg
        elif isinstance(arg, (list, tuple)) and any(isinstance(a, GlobalTensor) for a in arg):
            return NotImplemented
    if first is None or kwargs.get("out") is not None or _meets_whole(func.__name__, args, kwargs):
        return NotImplemented
    rows = first.rows
    back = first.part.dim() - first.row_dim  # the row dimension, counted from the right
    operands = [_operand(arg, rows, back) for arg in args]
    named = {key: _operand(value, rows, back) for key, value in kwargs.items()}
    if any(part is NotImplemented for part in (*operands, *named.values())):
        return NotImplemented
    result = func(*operands, **named)
    if not isinstance(result, torch.Tensor):
        return result
    if isinstance(args[0], ShardedTensor) and result is args[0].part:
        args[0].known = None  # an operation in place, or one that had nothing to do
        return args[0]
    return ShardedTensor(result, rows, result.dim() - back)


def _meets_whole(name: str, args: Args, kwargs: Kwargs) -> bool:
    """Tell whether an operation by this name is not one of rows here: it reads or writes all of them."""
    if name == "where":
        return len(args) + len(kwargs) == 1  # where(condition): the places, as nonzero gives them
    # A plain tensor written in place is written whole, not in this rank's rows alone.
    return not isinstance(args[0], GlobalTensor) and writes_in_place(name)


def _operand(arg: Any, rows: Rows, back: int) -> Any:
    """Return the local operand, NotImplemented where `arg` does not line up with the rows."""
    if not isinstance(arg, torch.Tensor):
        return arg
    if isinstance(arg, ShardedTensor):
        lined_up = arg.rows == rows and arg.part.dim() - arg.row_dim == back
        return arg.part if lined_up else NotImplemented
    if arg.dim() < back or arg.shape[-back] == 1:
        return entering(arg)
    if arg.shape[-back] == rows.total:
        return my_rows(entering(arg), rows, arg.dim() - back)
    return NotImplemented


@rule("broadcast_tensors")
def _broadcast(func: Any, args: Args, kwargs: Kwargs) -> Any:
    first = next((arg for arg in args if isinstance(arg, ShardedTensor)), None)
    if first is None or any(isinstance(arg, PartialTensor) for arg in args):
        return NotImplemented
    back = first.part.dim() - first.row_dim
    operands = [_operand(arg, first.rows, back) for arg in args]
    if any(part is NotImplemented for part in operands):
        return NotImplemented
    return [ShardedTensor(part, first.rows, part.dim() - back) for part in func(*operands)]


# ---- partial values: linear operations stay partial, others take the global value --------------

_LINEAR_UNARY = frozenset(
    names("""neg negative __neg__ __pos__ positive float double clone detach
    detach_ contiguous to cpu cuda requires_grad_ squeeze unsqueeze view reshape flatten""")
)
_ADDITIVE = frozenset(
    names("""add sub subtract __add__ __radd__ __sub__ __rsub__ rsub __iadd__ __isub__
    add_ sub_""")
)
_SCALING = frozenset(
    names("""mul multiply __mul__ __rmul__ __imul__ mul_ div divide true_divide
    __truediv__ __itruediv__ div_ __div__""")
)


def _partial(func: Any, args: Args, kwargs: Kwargs) -> Any:
    name = func.__name__
    globals_ = [arg for arg in args if isinstance(arg, GlobalTensor)]
    if kwargs and any(isinstance(value, torch.Tensor) for value in kwargs.values()):
        return _on_values(func, args, kwargs)
    if any(isinstance(arg, ShardedTensor) for arg in globals_):
        return _on_rows_and_values(func, args, kwargs)
    if name in _ADDITIVE or name in _LINEAR_UNARY:
        return _linear(func, args, kwargs, globals_)
    if name in _SCALING and len(globals_) == 1:
        divides_by_it = "div" in name and args[0] is not globals_[0]
        if not divides_by_it:
            return _linear(func, args, kwargs, globals_)
    return _on_values(func, args, kwargs)


def _linear(func: Any, args: Args, kwargs: Kwargs, globals_: Sequence[Any]) -> Any:
    inplace = writes_in_place(func.__name__)
    if inplace and not isinstance(args[0], PartialTensor):
        return _on_values(func, args, kwargs)
    alone = len([arg for arg in args if isinstance(arg, torch.Tensor)]) == 1
    scales = func.__name__ in _SCALING or func.__name__ in _LINEAR_UNARY
    if not (alone and scales and not inplace):
        for arg in globals_:
            arg.exact()
    local = [_local_of_linear(arg) for arg in args]
    part = func(*local, **kwargs)
    counts = any(not arg.part.is_floating_point() for arg in globals_)
    if counts and part.is_floating_point():
        # A score is a count, exact, divided once: scaled parts would round otherwise, and a tie
        # with the best score would look like progress.
        return _on_values(func, args, kwargs)
    if isinstance(args[0], PartialTensor) and part is args[0].part:
        if inplace:
            args[0].value = None
            args[0].sources = ()
        return args[0]
    result = PartialTensor(part)
    result.ignored, result.elements = globals_[0].ignored, globals_[0].elements
    if all(arg.is_known for arg in globals_):
        with torch.no_grad():
            result.value = func(*[_value_of(arg) for arg in args], **kwargs).detach()
    elif part.requires_grad:
        result.sources = tuple(globals_)
    return result


def _local_of_linear(arg: Any) -> Any:
    if isinstance(arg, PartialTensor):
        return arg.part
    return entering(arg) if isinstance(arg, torch.Tensor) else arg


def _value_of(arg: Any) -> Any:
    return arg.settled() if isinstance(arg, PartialTensor) else arg


def _on_values(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Run on global values; gradients flow where autograd is on."""
    plain = [arg.whole() if isinstance(arg, GlobalTensor) else arg for arg in args]
    named = {k: v.whole() if isinstance(v, GlobalTensor) else v for k, v in kwargs.items()}
    result = func(*plain, **named)
    if writes_in_place(func.__name__) and isinstance(args[0], PartialTensor):
        args[0].part, args[0].value = result, result.detach()
        return args[0]
    return result


def _on_rows_and_values(func: Any, args: Args, kwargs: Kwargs) -> Any:
    settled = tuple(arg.whole() if isinstance(arg, PartialTensor) else arg for arg in args)
    return elementwise(func, settled, kwargs)


rule(*_UNARY, *_BINARY)(elementwise)


@rule("rand_like", "randn_like", "randint_like")
def _random_like(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Draw for all rows, as one device does, and keep this rank's."""
    like = args[0]
    if not isinstance(like, ShardedTensor):
        return NotImplemented
    full = func(torch.empty(like.shape, dtype=like.dtype, device=like.device), *args[1:], **kwargs)
    return ShardedTensor(my_rows(full, like.rows, like.row_dim), like.rows, like.row_dim)


@rule("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")
def _new(func: Any, args: Args, kwargs: Kwargs) -> Any:
    if any(isinstance(arg, GlobalTensor) for arg in args[1:]):
        return NotImplemented
    return func(args[0].part, *args[1:], **kwargs)


# ---- reading a number --------------------------------------------------------------------------

_READ = names("""item __float__ __int__ __bool__ __index__ tolist __format__ numpy __array__ __complex__
    is_nonzero __contains__ equal allclose isclose""")


@rule(*_READ)
def _read(func: Any, args: Args, kwargs: Kwargs) -> Any:
    first = args[0]
    known = isinstance(first, PartialTensor) and first.number is not None
    if known and func.__name__ in ("item", "__float__") and first.part.is_floating_point():
        return first.number
    with torch.no_grad():
        plain = [_settled(arg) for arg in args]
        return func(*plain, **{key: _settled(value) for key, value in kwargs.items()})


def _settled(arg: Any) -> Any:
    if isinstance(arg, PartialTensor):
        return arg.settled()
    return arg.whole() if isinstance(arg, ShardedTensor) else arg


@rule(
    "eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"
)
def _compare(func: Any, args: Args, kwargs: Kwargs) -> Any:
    if any(isinstance(arg, ShardedTensor) for arg in args):
        return elementwise(func, args, kwargs)
    return _read(func, args, kwargs)


@rule("__repr__", "__str__")
def _repr(func: Any, args: Args, kwargs: Kwargs) -> Any:
    value = _settled(args[0])
    text = func(value, **kwargs)
    grad_fn = args[0].part.grad_fn
    if grad_fn is None or not text.endswith(")"):
        return text
    label = getattr(args[0], "label", "") or type(grad_fn).__name__
    return f"{text[:-1]}, grad_fn=<{label}>)"


@rule("__reduce_ex__", "__deepcopy__")
def _copy(func: Any, args: Args, kwargs: Kwargs) -> Any:
    return func(_settled(args[0]), *args[1:], **kwargs)
