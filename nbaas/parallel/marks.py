"""Where a session is in its random numbers and counts: noted, and gone back to in another process.

All ranks are in step outside models, so one mark, of any rank, is that of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbaas.bundle.ambient import ambient, random_state, set_ambient

if TYPE_CHECKING:
    from nbaas.parallel.session import Session


@dataclass(slots=True)
class Mark:
    """Pickled with the values of the cell: the loaders and optimizers are the cell's own."""

    random: dict[str, Any]  # and, where they were asked for, settings such as the default dtype
    count: dict[str, Any]  # of optimizer steps
    calls: int  # of models: what forks their random numbers
    draws: bool
    passes: list[tuple[Any, int, int]]  # (loader, passes begun, those for earlier models)

    @property
    def steps(self) -> int:
        return int(self.count["steps"])


def mark(session: Session, *, settings: bool = False) -> Mark:
    """Return where the session is now; with `settings`, those of torch and its like as well."""
    return Mark(
        random=ambient() if settings else random_state(),
        count=session.count.state(),
        calls=session.randomness.calls,
        draws=session.randomness.draws,
        passes=[
            (loader, source.passes, source.earlier)
            for loader, source in session.loaders.sources.items()
        ],
    )


def go_to(session: Session, place: Mark) -> None:
    """Put random generators and counts where `mark` found them."""
    set_ambient(place.random)
    session.count.restore(place.count)
    session.randomness.calls, session.randomness.draws = place.calls, place.draws
    for loader, passes, earlier in place.passes:
        source = session.loaders.source_of(loader)
        source.passes, source.earlier = passes, earlier
