"""A user's exception as the text that IPython would show: the cell's lines, none of our frames."""

from __future__ import annotations

import linecache
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nbaas.records import RankFailure

if TYPE_CHECKING:
    from nbaas.bundle.contents import Cell
    from nbaas.bundle.store import Bundle

OURS = str(Path(__file__).parent.parent) + "/"
CELLS = str(Path(__file__).with_name("cells.py"))  # where the cell is run
CONTEXT = 2  # lines before and after the one that failed
_MACHINERY = (
    "<frozen importlib",
    "<frozen runpy",
    "runpy.py",
    "asyncio/runners.py",
    "asyncio/base_events.py",
)
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def describe_failure(failed: BaseException, rank: int, bundle: Bundle | None) -> RankFailure:
    """Return `failed` as a record: kind, message, and the whole user stack as text."""
    cells = {cell.file_name: cell for cell in _cells(bundle)}
    text = _chain_text(failed, rank, cells, set())
    return RankFailure(rank, type(failed).__name__, _message(failed), text)


def _cells(bundle: Bundle | None) -> Iterator[Cell]:
    if bundle is not None:
        yield from bundle.texts
        yield bundle.cell


def _message(failed: BaseException) -> str:
    try:
        return str(failed)
    except Exception as broken:  # noqa: BLE001 - the user's __str__
        return f"<{type(broken).__name__} in __str__>"


def _chain_text(failed: BaseException, rank: int, cells: dict[str, Cell], seen: set[int]) -> str:
    seen.add(id(failed))
    before, joint = failed.__cause__, _CAUSE
    if before is None and not failed.__suppress_context__:
        before, joint = failed.__context__, _CONTEXT
    text = ""
    if before is not None and id(before) not in seen:
        text = _chain_text(before, rank, cells, seen) + joint
    head = f"Traceback on rank {rank} (most recent call last)"
    kind = type(failed).__name__
    frames = "\n".join(_frame_text(frame, line, cells) for frame, line in user_frames(failed))
    last = "".join(traceback.format_exception_only(failed))
    parts = [f"{kind:<26}{head}\n", frames, "\n" if frames else "", last]
    if isinstance(failed, BaseExceptionGroup):
        parts += [_indented(_chain_text(e, rank, cells, seen)) for e in failed.exceptions]
    return text + "".join(parts)


def _indented(text: str) -> str:
    return "".join("  | " + line for line in text.splitlines(keepends=True))


def user_frames(failed: BaseException) -> list[tuple[types.FrameType, int]]:
    """Return the frames that are the user's or a library's, outermost first, each with its line."""
    every = list(traceback.walk_tb(failed.__traceback__))
    runs = [n for n, (frame, _) in enumerate(every) if frame.f_code.co_filename == CELLS]
    every = every[runs[0] :] if runs else every  # above is the process that runs the cell
    kept = []
    for position, (frame, line) in enumerate(every):
        name = frame.f_code.co_filename
        if name.startswith(OURS) or name.startswith(_MACHINERY) or name.endswith(_MACHINERY):
            continue
        below = every[position + 1][0].f_code.co_filename if position + 1 < len(every) else ""
        if _hands_over(frame, line) and (below.startswith(OURS) or _is_dispatch(below)):
            continue
        kept.append((frame, line))
    return kept


def _is_dispatch(name: str) -> bool:
    return name.endswith(("torch/overrides.py", "torch/_tensor.py"))


def _hands_over(frame: types.FrameType, line: int) -> bool:
    """Tell whether this frame is torch passing a call to the semantic layer."""
    name = frame.f_code.co_filename
    if "/torch/" not in name:
        return False
    text = linecache.getline(name, line)
    return (
        _is_dispatch(name)
        or "torch_function" in text
        or frame.f_code.co_name
        in ("_call_impl", "_wrapped_call_impl", "backward", "_engine_run_backward")
    )


def _frame_text(frame: types.FrameType, line: int, cells: dict[str, Cell]) -> str:
    code = frame.f_code
    where = "" if code.co_name == "<module>" else f", in {code.co_qualname}"
    cell = cells.get(code.co_filename)
    if cell is None:
        head = f"File {_short(code.co_filename)}:{line}{where}\n"
        text = linecache.getline(code.co_filename, line).strip()
        return head + (f"---> {line} {text}\n" if text else "")
    lines = cell.source.split("\n")
    first, last = max(1, line - CONTEXT), min(len(lines), line + CONTEXT)
    shown = [
        f"{'--->' if n == line else '    '} {n:>{len(str(last))}} {lines[n - 1]}".rstrip()
        for n in range(first, last + 1)
        if lines[n - 1].strip() or n == line
    ]
    return f"{cell.label}, line {line}{where}\n" + "\n".join(shown) + "\n"


def _short(name: str) -> str:
    home = str(Path.home()) + "/"
    return "~/" + name.removeprefix(home) if name.startswith(home) and home != "//" else name
