"""DataLoaders whose batches are split over ranks; samplers, lengths and seeds stay the user's.

A loader with the default collate function and no random transform fetches only this rank's samples
of each global batch.  Any other loader fetches and collates the whole batch on every rank, and the
rows are cut afterwards: padding, dictionaries and random augmentation then come out as on one device.
"""

from __future__ import annotations

import math
import random
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data._utils.collate import default_collate

from nbaas.parallel import trees
from nbaas.parallel.rows import Rows, split_rows
from nbaas.parallel.sharded import ShardedTensor, shard
from nbaas.parallel.world import World

SLICED, CUT = "sliced", "cut"  # fetched in part; fetched whole and cut


class JoinedBatches:
    """A batch sampler that joins `count` batches into one: each rank gets a batch of its own."""

    def __init__(self, indices: Any, count: int) -> None:
        self.indices = indices
        self.count = count

    def __len__(self) -> int:
        return math.ceil(len(self.indices) / self.count)

    def __iter__(self) -> Iterator[list[Any]]:
        batches = iter(self.indices)
        while joined := [list(batch) for batch in islice(batches, self.count)]:
            yield [index for batch in joined for index in batch]


class SlicedIndices:
    """A batch sampler that yields this rank's indices of each batch and notes the global size."""

    def __init__(self, indices: Any, source: LoaderSource) -> None:
        self.indices = indices
        self.source = source

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> SlicedPass:
        return SlicedPass(iter(self.indices), self.source)


class SlicedPass:
    """One pass over the indices; `totals` holds the global sizes of batches not yet handed out."""

    def __init__(self, batches: Iterator[Any], source: LoaderSource) -> None:
        self.batches = batches
        self.source = source
        self.totals: deque[int] = deque()

    def __iter__(self) -> SlicedPass:
        return self

    def __next__(self) -> list[Any]:
        batch = list(next(self.batches))  # samplers may yield tensors or tuples
        source = self.source
        if source.mode == "":
            source.decide(batch)
        self.totals.append(len(batch))
        if source.mode != SLICED:
            return batch
        rows = source.rows_of(len(batch))
        return batch[rows.offset : rows.offset + rows.valid] or batch[:1]


class RowsFetcher:
    """Takes the rows of a TensorDataset at once, where torch takes and stacks them one by one."""

    def __init__(self, dataset: TensorDataset, places: Sequence[int] | torch.Tensor | None) -> None:
        """Take from `dataset`, whose samples at `places` are those of a subset of it."""
        self.tensors = dataset.tensors
        self.places = places.tolist() if isinstance(places, torch.Tensor) else places

    def fetch(self, indices: list[int]) -> list[torch.Tensor]:
        if self.places is not None:
            places = self.places
            indices = [places[index] for index in indices]
        chosen = torch.tensor(indices)
        return [tensor[chosen] for tensor in self.tensors]


def rows_fetcher(loader: DataLoader) -> RowsFetcher | None:
    """Return the quick way to fetch batches of `loader`, None where it would not be the same."""
    dataset: Any = loader.dataset
    places = None
    if type(dataset) is Subset:
        dataset, places = dataset.dataset, dataset.indices
    if type(dataset) is not TensorDataset or loader.collate_fn is not default_collate:
        return None
    plain = all(_is_plain(tensor) for tensor in dataset.tensors)
    return RowsFetcher(dataset, places) if plain else None


def _is_plain(tensor: torch.Tensor) -> bool:
    kind = type(tensor) is torch.Tensor and tensor.layout is torch.strided
    return kind and tensor.is_contiguous() and not tensor.requires_grad


class LoaderSource:
    """What is known of one DataLoader."""

    def __init__(self, loader: DataLoader, world: World) -> None:
        self.world = world
        self.dataset = loader.dataset
        self.default = loader.collate_fn is default_collate
        self.in_order = getattr(loader, "in_order", True)
        self.mode = ""
        self.why = ""
        self.passes = 0
        self.earlier = 0  # of these passes: those that fed other models before
        iterable = isinstance(loader.dataset, IterableDataset)
        if iterable or loader.batch_sampler is None:
            self.mode = CUT
            self.why = "a stream" if iterable else "no batches of its own"
        elif not self.default:
            self.mode, self.why = CUT, "its own collate function"
        elif not self.in_order:
            self.mode, self.why = CUT, "out of order"
        self.indexed = not iterable and loader.batch_sampler is not None

    def rows_of(self, total: int) -> Rows:
        return split_rows(total, self.world.size, self.world.rank)

    def decide(self, batch: list[Any]) -> None:
        """Look at one sample: random transforms and strings need the whole batch on every rank."""
        before = _random_state()
        sample = self.dataset[batch[0]]
        drew = _differs(before, _random_state())
        _set_random_state(before)
        if drew:
            self.mode, self.why = CUT, "random transforms"
        elif not _only_numbers(sample):
            self.mode, self.why = CUT, "samples with values that are no numbers"
        else:
            self.mode = SLICED

    def wrap(self, batch: Any, total: int | None) -> Any:
        """Return what the loader yielded, of `total` samples, with the meaning of its rows."""
        if total is None:
            return batch
        rows = self.rows_of(total)
        held = rows.valid or 1
        if self.mode == SLICED:
            if type(batch) is list:  # as most are: the general way costs some microseconds
                return [
                    ShardedTensor(t, rows)
                    if type(t) is torch.Tensor and t.dim() and t.shape[0] == held
                    else self.wrap_tree(t, rows, held)
                    for t in batch
                ]
            return self.wrap_tree(batch, rows, held)
        return trees.map_tensors(
            lambda t: shard(t, rows) if t.dim() and t.shape[0] == total else t, batch
        )

    @staticmethod
    def wrap_tree(batch: Any, rows: Rows, held: int) -> Any:
        return trees.map_tensors(
            lambda t: ShardedTensor(t, rows) if t.dim() and t.shape[0] == held else t, batch
        )


def _leading_size(batch: Any) -> int | None:
    return next((t.shape[0] for t in trees.tensors(batch) if t.dim()), None)


def _only_numbers(sample: Any) -> bool:
    if isinstance(sample, (torch.Tensor, np.ndarray, np.number, int, float)):
        return True
    if isinstance(sample, dict):
        return all(_only_numbers(value) for value in sample.values())
    return isinstance(sample, (tuple, list)) and all(_only_numbers(value) for value in sample)


def _random_state() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _set_random_state(state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])


def _differs(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    numpy_same = before[1][2] == after[1][2] and bool((before[1][1] == after[1][1]).all())
    return not (torch.equal(before[0], after[0]) and numpy_same and before[2] == after[2])


class GlobalBatches:
    """The iterator a patched DataLoader returns."""

    def __init__(
        self,
        inner: Any,
        source: LoaderSource,
        loaders: Loaders,
        length: int | None,
        quick: RowsFetcher | None,
    ) -> None:
        self._inner = inner
        self._quick = quick
        self._indices: Iterator[Any] = inner._sampler_iter if quick is not None else iter(())
        self.source = source
        self._loaders = loaders
        self.batches = length
        self.batch = 0
        self.rows = 0  # samples of the batch handed out last
        self.ended = False

    def __iter__(self) -> GlobalBatches:
        return self

    def __len__(self) -> int:
        return len(self._inner)

    def __next__(self) -> Any:
        try:
            data = self._next()
        except StopIteration:
            self.ended = True
            raise
        self.batch += 1
        if torch.is_grad_enabled():
            self._loaders.current = self
        source = self.source
        total = (
            self._inner._sampler_iter.totals.popleft() if source.indexed else _leading_size(data)
        )
        self.rows = total or 0
        return source.wrap(data, total) if self._loaders.world.size > 1 else data

    def _next(self) -> Any:
        return next(self._inner) if self._quick is None else self._quick.fetch(next(self._indices))

    def pass_over(self, count: int) -> None:
        """Go on `count` batches without handing them out; raises StopIteration at the end.

        Where the samples are fetched in this process they are not: only their indices are drawn.
        """
        alone = getattr(self._inner, "_num_workers", 0) == 0
        for _ in range(count):
            if alone and self.source.indexed:
                self._inner._next_index()
                self._inner._sampler_iter.totals.popleft()
                self._inner._num_yielded += 1
                self.batch += 1
            else:
                next(self)

    @property
    def epoch(self) -> int:
        """Which pass of the model that trains now this is, from 1."""
        return self.source.passes - self.source.earlier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Loaders:
    """Replaces `DataLoader.__iter__` and its index sampler in a rank."""

    def __init__(self, world: World, *, per_rank: bool) -> None:
        self.world = world
        self.per_rank = per_rank  # a loader's batch size counts the batch of each rank
        self.sources: weakref.WeakKeyDictionary[DataLoader, LoaderSource] = (
            weakref.WeakKeyDictionary()
        )
        self.current: GlobalBatches | None = None  # the pass that feeds training
        self.at_pass: Any = lambda: None  # called on all ranks as a pass begins

    def source_of(self, loader: DataLoader) -> LoaderSource:
        source = self.sources.get(loader)
        if source is None:
            source = self.sources[loader] = LoaderSource(loader, self.world)
        return source

    def facts(self) -> list[str]:
        """Return one line for each loader that does not fetch in part."""
        return sorted(
            f"{type(s.dataset).__name__}: every rank fetches whole batches ({s.why})"
            for s in self.sources.values() if s.mode == CUT
        )  # fmt: skip

    def install(self) -> None:
        loaders = self
        self.originals = (DataLoader.__iter__, DataLoader._index_sampler)
        original_iter, original_sampler = self.originals

        def __iter__(loader: DataLoader) -> Any:  # noqa: N807 - what it replaces
            loaders.at_pass()
            source = loaders.source_of(loader)
            source.passes += 1
            inner: Any = original_iter(loader)
            plain = source.indexed and not loader.num_workers and not loader.pin_memory
            quick = rows_fetcher(loader) if plain else None
            return GlobalBatches(inner, source, loaders, _length(loader), quick)

        def _index_sampler(loader: DataLoader) -> Any:
            indices = original_sampler.fget(loader)  # type: ignore[attr-defined]
            if loaders.per_rank and loader.batch_sampler is not None:
                indices = JoinedBatches(indices, loaders.world.size)
            source = loaders.source_of(loader)
            return SlicedIndices(indices, source) if source.indexed else indices

        DataLoader.__iter__ = __iter__  # type: ignore[method-assign]
        DataLoader._index_sampler = property(_index_sampler)  # type: ignore[method-assign,assignment]

    def uninstall(self) -> None:
        DataLoader.__iter__, DataLoader._index_sampler = self.originals  # type: ignore[method-assign]


def _length(loader: DataLoader) -> int | None:
    try:
        return len(loader)
    except TypeError:  # a stream without a length
        return None
