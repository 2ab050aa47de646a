"""Predictions for a file of rows: CSV, npy, npz or Parquet in, the same kind out, a batch at a time.

Rule: the result appears whole, by a rename; a row that is refused names itself and nothing is written.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nbaas.config import Settings
from nbaas.deploy.client import predict
from nbaas.deploy.registry import found_endpoint, read_version
from nbaas.errors import InputError, UsageError

ROWS = 256  # in one request
KINDS = (".csv", ".npy", ".npz", ".parquet")


def predict_file(
    settings: Settings,
    name: str,
    source: Path,
    target: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the endpoint's answers to the rows of `source` into `target`; return their number.

    `progress` is told the rows done and the rows there are.  A CSV may begin with a line of names.
    Raises: InputError: a row does not fit.  UsageError: the file's kind is not known.
    """
    for path in (source, target):
        if path.suffix not in KINDS:
            raise UsageError(f"{path.name} is of no known kind", hint="known: " + ", ".join(KINDS))
    record = found_endpoint(settings.endpoints, name)
    signature = read_version(settings.endpoints, name, record.current).signature
    inputs = read_rows(source, [spec.name for spec in signature.inputs])
    inner = {spec.name: spec.shape[1:] for spec in signature.inputs}
    inputs = {key: _shaped(array, inner.get(key, ())) for key, array in inputs.items()}
    total = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, total, ROWS):
        batch = {key: array[start : start + ROWS] for key, array in inputs.items()}
        try:
            parts.append(_named(predict(settings, name, batch)))
        except InputError as wrong:
            last = min(start + ROWS, total)
            raise InputError(
                f"{source.name}, rows {start + 1} to {last}: {wrong.message}", wrong.hint
            ) from wrong
        if progress is not None:
            progress(min(start + ROWS, total), total)
    write_rows(target, {key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
    return total


def _named(answer: Any) -> dict[str, Any]:
    return answer if isinstance(answer, dict) else {"output": answer}


def _shaped(array: Any, inner: tuple[int, ...]) -> Any:
    """Return rows of a table as rows of the input's shape, where their numbers allow it."""
    if len(inner) > 1 and array.ndim == 2 and -1 not in inner:  # noqa: PLR2004 - rows and columns
        size = int(np.prod(inner))
        return array.reshape(len(array), *inner) if array.shape[1] == size else array
    return array


def read_rows(path: Path, names: list[str]) -> dict[str, Any]:
    """Return the inputs that a file holds, by name; raises InputError where it is not readable."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as held:
                found = {key: held[key] for key in held.files}
        elif path.suffix == ".npy":
            found = {names[0]: np.load(path, allow_pickle=False)}
        elif path.suffix == ".csv":
            found = {names[0]: _read_csv(path)}
        else:
            found = {names[0]: _pandas().read_parquet(path).to_numpy()}
    except (OSError, ValueError) as wrong:
        raise InputError(f"{path.name} cannot be read: {wrong}") from wrong
    if not found or not all(array.ndim and len(array) for array in found.values()):
        raise InputError(f"{path.name} holds no row")
    return found


def _read_csv(path: Path) -> Any:
    """Return the numbers of a CSV, its first line left out where that holds names."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    skip = 0 if all(_is_number(cell) for cell in first.split(",")) else 1
    return np.loadtxt(path, delimiter=",", skiprows=skip, ndmin=2)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _pandas() -> Any:
    try:
        import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError as missing:
        raise UsageError(
            "Parquet needs pandas and pyarrow", hint="pip install pandas pyarrow, or use npz"
        ) from missing
    return pd


def write_rows(path: Path, outputs: dict[str, Any]) -> None:
    """Write outputs (rows, ...) by name; a table has a column for each number of a row."""
    draft = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")
    try:
        if path.suffix == ".npz":
            np.savez(draft, **outputs)
        elif path.suffix == ".npy":
            if len(outputs) > 1:
                raise UsageError(
                    f"{path.name} takes one output, there are {len(outputs)}", hint=".npz"
                )
            np.save(draft, next(iter(outputs.values())))
        elif path.suffix == ".csv":
            header, table = zip(*columns(outputs), strict=True)
            cells = np.column_stack(table)
            np.savetxt(
                draft, cells, delimiter=",", header=",".join(header), comments="", fmt="%.9g"
            )
        else:
            _pandas().DataFrame(dict(columns(outputs))).to_parquet(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def columns(outputs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and numbers of each column: 'output' for one, 'output_0', 'output_1' for more."""
    for name, array in outputs.items():
        flat = array.reshape(len(array), -1)
        for i in range(flat.shape[1]):
            yield (name if flat.shape[1] == 1 else f"{name}_{i}"), flat[:, i]
