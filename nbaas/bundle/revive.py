"""What pickling leaves behind in library objects, put right after loading."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from typing import Any


def revive(objects: Iterable[Any]) -> None:
    """Give freshly loaded objects what their libraries set up outside of their state."""
    schedulers = sys.modules.get("torch.optim.lr_scheduler")
    if schedulers is None:
        return
    for value in objects:
        if isinstance(value, schedulers.LRScheduler) and hasattr(value, "optimizer"):
            _track_steps(value.optimizer)


def _track_steps(optimizer: Any) -> None:
    """Wrap `step` as a scheduler's constructor does; without it the first `scheduler.step` warns."""
    if hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        return
    step = type(optimizer).step

    @functools.wraps(step)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        optimizer._opt_called = True  # noqa: SLF001 - the name that the scheduler looks for
        return step(optimizer, *args, **kwargs)

    wrapper._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # noqa: SLF001 - likewise
    optimizer.step = wrapper
