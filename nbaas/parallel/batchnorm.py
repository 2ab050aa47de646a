"""Batch norm over the rows of all ranks, inside a model that runs on this rank's rows.

Statistics and the two sums of the backward pass travel as one small float64 message each
(Ioffe and Szegedy, arXiv:1502.03167; pooled variance by Chan, Golub and LeVeque 1979).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nbaas.parallel.rows import Rows
from nbaas.parallel.world import World


class GlobalBatchNorm(torch.autograd.Function):
    """Normalize (n, C, ...) by the mean and variance of all N rows."""

    @staticmethod
    def forward(
        ctx: Any,
        data: torch.Tensor,
        weight: Any,
        bias: Any,
        moments: tuple[torch.Tensor, torch.Tensor],
        over: tuple[World, Rows, int],
    ) -> torch.Tensor:
        mean, invstd = moments  # (C,), and 1 / standard deviation (C,)
        shape = _channel_shape(data)
        normal = (data - mean.view(shape)) * invstd.view(shape)
        ctx.save_for_backward(normal, weight, invstd)
        (ctx.world, ctx.rows, ctx.elements), ctx.has_bias = over, bias is not None
        result = normal if weight is None else normal * weight.view(shape)
        return result if bias is None else result + bias.view(shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        normal, weight, invstd = ctx.saved_tensors
        shape, dims = _channel_shape(grad), _other_dims(grad)
        sum_grad = grad.sum(dims)
        sum_grad_normal = (grad * normal).sum(dims)
        everyone = ctx.world.mean(torch.cat([sum_grad, sum_grad_normal]).double())
        means = (everyone * (ctx.world.size / ctx.elements)).to(grad.dtype)
        mean_grad, mean_grad_normal = means.chunk(2)
        scale = invstd if weight is None else invstd * weight
        inner = grad - mean_grad.view(shape) - normal * mean_grad_normal.view(shape)
        if not ctx.rows.valid:  # padding had no part in the statistics
            inner = grad
        return (
            inner * scale.view(shape),
            None if weight is None else sum_grad_normal,
            sum_grad if ctx.has_bias else None,
            None,
            None,
        )


def _channel_shape(data: torch.Tensor) -> list[int]:
    return [1, data.shape[1], *([1] * (data.dim() - 2))]


def _other_dims(data: torch.Tensor) -> list[int]:
    return [0, *range(2, data.dim())]


def _global_moments(
    data: torch.Tensor, rows: Rows, world: World
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return mean and biased variance by channel (C,) in float64, and the elements per channel."""
    factor = data.shape[0] // max(1, rows.valid) if rows.valid else 1
    valid = data.narrow(0, 0, rows.valid * factor).detach()
    dims = _other_dims(valid)
    per_row = factor * (valid[0].numel() // valid.shape[1] if valid.numel() else 1)
    if not valid.numel():
        per_row = data[0].numel() // data.shape[1]
    count = rows.valid * per_row
    elements = rows.total * per_row
    if count:
        variance, mean = torch.var_mean(valid, dims, correction=0)
        mean, variance = mean.double(), variance.double()
    else:
        mean = variance = torch.zeros(data.shape[1], dtype=torch.float64, device=data.device)
    sums = torch.cat([mean * count, (variance + mean * mean) * count])
    mean, square = (world.mean(sums) * (world.size / elements)).chunk(2)
    return mean, (square - mean * mean).clamp_min(0), elements


def make_batch_norm(
    world: World, original: Callable[..., torch.Tensor]
) -> Callable[..., torch.Tensor]:
    """Return the stand-in for `torch.nn.functional.batch_norm` in a rank."""

    def batch_norm(
        input: torch.Tensor,  # noqa: A002 - torch's own name, given by keyword too
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,  # noqa: FBT001, FBT002 - torch's signature
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        rows = world.rows
        if rows is None or not training or input.shape[0] % max(1, rows.valid):
            return original(input, running_mean, running_var, weight, bias, training, momentum, eps)
        mean, variance, elements = _global_moments(input, rows, world)
        if elements == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got size {input.shape}"
            )
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                unbiased = variance * (elements / (elements - 1))
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        kind = torch.float32 if input.dtype in (torch.float16, torch.bfloat16) else input.dtype
        invstd = (variance + eps).rsqrt().to(kind)
        result = GlobalBatchNorm.apply(
            input, weight, bias, (mean.to(kind), invstd), (world, rows, elements)
        )
        return result.to(input.dtype)

    return batch_norm


def install(world: World) -> Callable[[], None]:
    """Replace `F.batch_norm` in this process; return what puts the original back."""
    original = nn.functional.batch_norm
    nn.functional.batch_norm = make_batch_norm(world, original)

    def uninstall() -> None:
        nn.functional.batch_norm = original

    return uninstall
