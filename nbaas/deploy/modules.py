"""Which modules are the user's own files, and their text: they travel with the version."""

from __future__ import annotations

import ast
import site
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path

OWN_PACKAGE = "nbaas"


@cache
def _installed_roots() -> tuple[Path, ...]:
    roots = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix}
    roots |= {*site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(root).resolve() for root in roots if root and Path(root).parent != Path(root))


def is_local(module: str) -> bool:
    """Whether `module` is loaded from a file that no installation brought."""
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if not file or module in ("__main__", OWN_PACKAGE) or module.startswith(OWN_PACKAGE + "."):
        return False
    path = Path(file).resolve()
    if path.suffix != ".py" or any(
        part in ("site-packages", "dist-packages") for part in path.parts
    ):
        return False
    standard = Path(sysconfig.get_paths()["stdlib"]).resolve()
    inside_prefix = any(
        path.is_relative_to(root) for root in _installed_roots() if root != Path("/usr")
    )
    return not (inside_prefix or path.is_relative_to(standard))


def local_sources(modules: Iterable[str]) -> dict[str, str]:
    """Return {relative file: text} of the local ones among `modules` and of what these import."""
    files: dict[str, str] = {}
    queue, seen = list(modules), set()
    while queue:
        name = queue.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        queue.append(name.rpartition(".")[0])  # its package
        if not is_local(name):
            continue
        path = Path(str(sys.modules[name].__file__))
        text = path.read_text(encoding="utf-8")
        files[_relative(name, path)] = text
        queue += _imported(text, name, is_package=path.name == "__init__.py")
    return files


def _relative(name: str, path: Path) -> str:
    parts = name.split(".")
    return "/".join([*parts, "__init__.py"] if path.name == "__init__.py" else parts) + (
        "" if path.name == "__init__.py" else ".py"
    )


def _imported(text: str, module: str, *, is_package: bool) -> list[str]:
    """Return the modules that the import statements of `text` may load."""
    found: list[str] = []
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found
