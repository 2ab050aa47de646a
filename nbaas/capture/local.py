"""The notebook's own modules, as files that another host needs beside it.

What is installed there is installed there; what lies in the notebook's folder, or on a path that the
notebook added, goes along.
"""

from __future__ import annotations

import ast
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbaas
from nbaas.errors import CaptureError

LARGEST = 8 << 20  # bytes of one file beside a package's modules; larger ones are data
MOST = 256 << 20  # bytes altogether


def local_modules(sources: Iterable[str], folder: Path | None = None) -> dict[str, Path]:
    """Return name below a folder of modules -> file, for what `sources` import, and on from there.

    Modules that the kernel has imported go along too: a value may be of one of their classes.
    """
    roots = list(_roots(folder or Path.cwd()))
    wanted = [name for source in sources for name in _imported(source)]
    wanted += [name.partition(".")[0] for name, module in list(sys.modules.items())
               if _root_of(getattr(module, "__file__", None), roots)]  # fmt: skip
    found: dict[str, Path] = {}
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for relative, path in _files_of(name, roots):
            found[relative] = path
            if path.suffix == ".py":
                wanted += _imported(path.read_text(errors="replace"))
    return found


def write_modules(modules: dict[str, Path], folder: Path) -> None:
    """Copy modules below `folder`; raises CaptureError where they are too large to be modules."""
    total = sum(path.stat().st_size for path in modules.values())
    if total > MOST:
        raise CaptureError(
            f"the notebook's own modules take {total >> 20} MB",
            hint="install them on the other hosts, or keep data out of their folders",
        )
    for name, path in modules.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _roots(folder: Path) -> Iterator[Path]:
    """Yield the folder, and what was added to sys.path: not Python's, nor installed, nor nbaas's."""
    installed = {
        *site.getsitepackages(),
        site.getusersitepackages(),
        *sysconfig.get_paths().values(),
    }
    skipped = {Path(place).resolve() for place in installed}
    skipped.add(Path(nbaas.__file__).parents[1].resolve())
    yield folder.resolve()
    for entry in sys.path:
        place = Path(entry or ".").resolve()
        inside = any(place.is_relative_to(other) for other in skipped)
        if place.is_dir() and not inside and "site-packages" not in place.parts:
            yield place


def _root_of(file: str | None, roots: list[Path]) -> Path | None:
    if not file or not file.endswith(".py") or "site-packages" in file:
        return None
    path = Path(file).resolve()
    return next((root for root in roots if path.is_relative_to(root)), None)


def _imported(source: str) -> list[str]:
    """Return the top-level names that a source imports; none where it is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.append(node.module.partition(".")[0])
    return names


def _files_of(name: str, roots: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the files of a module or package of this name in the first root that has it."""
    for root in roots:
        module, package = root / f"{name}.py", root / name
        if (package / "__init__.py").is_file():
            for path in sorted(package.rglob("*")):
                hidden = any(
                    p.startswith((".", "__pycache__")) for p in path.parts[len(root.parts) :]
                )
                if path.is_file() and not hidden and path.stat().st_size <= LARGEST:
                    yield str(path.relative_to(root)), path
            return
        if module.is_file():
            yield module.name, module
            return
