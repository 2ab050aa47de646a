"""How the rows of a global batch lie over the ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache


@dataclass(frozen=True)
class Rows:
    """A contiguous split: rank r holds `counts[r]` rows, starting at `offsets[r]`.

    A rank with a count of 0 still carries at least one row of padding, so that models run and
    collectives match; padding never enters a sum.
    """

    counts: tuple[int, ...]
    rank: int

    @cached_property
    def total(self) -> int:
        return sum(self.counts)

    @cached_property
    def offset(self) -> int:
        """The first global row of this rank."""
        return sum(self.counts[: self.rank])

    @property
    def valid(self) -> int:
        """Rows of this rank that count; they are the first ones of its local tensor."""
        return self.counts[self.rank]

    @cached_property
    def even(self) -> bool:
        return len(set(self.counts)) == 1

    @cached_property
    def weight(self) -> float:
        """This rank's share of the rows times the world size: 1.0 when the split is even."""
        return self.valid * len(self.counts) / self.total

    def times(self, factor: int) -> Rows:
        """Return the split after each row became `factor` rows, as in `x.view(-1, C)`."""
        return _rows(tuple(count * factor for count in self.counts), self.rank)


@lru_cache(maxsize=4096)
def _rows(counts: tuple[int, ...], rank: int) -> Rows:
    return Rows(counts, rank)


@lru_cache(maxsize=4096)
def split_rows(total: int, world_size: int, rank: int) -> Rows:
    """Return the split of `total` rows, the first ranks taking one more where it does not divide."""
    share, extra = divmod(total, world_size)
    return _rows(tuple(share + (r < extra) for r in range(world_size)), rank)
