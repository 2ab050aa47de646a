"""The public surface, the weight of the first import, and the sizes that keep the code readable."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbaas
from nbaas.cli import parser
from nbaas.engines.base import FACTORIES
from nbaas.errors import NbaasError, error_named

PACKAGE = Path(nbaas.__file__).parent
README = PACKAGE.parent / "README.md"
HEAVY = {"torch", "IPython", "tornado", "ipywidgets", "numpy", "jupyter_server", "matplotlib"}
LONGEST_FUNCTION = 60  # lines
LONGEST_MODULE = 400  # lines


def error_classes(root: type[NbaasError] = NbaasError) -> list[type[NbaasError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in error_classes(child))]


def loaded_by(program: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after `program`."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    return {name.partition(".")[0] for name in shown.split()}


@pytest.mark.parametrize(
    "program",
    [
        "import nbaas",
        "import nbaas.cli",
        "from nbaas.engines.base import engine_named; engine_named('horovod').check()",
        "from nbaas.jobs import supervisor",
    ],
)
def test_it_loads_nothing_heavy(program):
    assert not HEAVY & loaded_by(program)


def test_records_and_errors_need_nothing_but_python(tmp_path):
    (tmp_path / "nbaas").mkdir()
    for name in ("__init__", "_version", "errors", "records"):
        shutil.copy(PACKAGE / f"{name}.py", tmp_path / "nbaas")
    program = f"import sys; sys.path.append({str(tmp_path)!r}); import nbaas.errors, nbaas.records"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], timeout=60, check=True)


@pytest.mark.parametrize("cls", error_classes())
def test_an_error_survives_pickle_and_json(cls):
    error = cls("2 ranks asked for, 1 slot on 'a'", hint="lower --ranks")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.hint) == (cls, error.message, error.hint)
    sent = json.loads(json.dumps(error.to_json()))
    back = error_named(sent["kind"], sent["error"], sent["hint"])
    assert (type(back), str(back)) == (cls, str(error))


def test_error_names_are_told_apart():
    names = [cls.__name__ for cls in error_classes()]
    assert len(set(names)) == len(names)


def test_all_is_what_the_package_exports():
    for name in nbaas.__all__:
        assert getattr(nbaas, name) is not None, name
    public = {
        name
        for name, value in vars(nbaas).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and getattr(value, "__module__", "nbaas") != "__future__"
        and name not in {"annotations", "load_ipython_extension", "unload_ipython_extension"}
    }
    assert public <= set(nbaas.__all__) | {"TYPE_CHECKING", "Any"}


def commands() -> Iterator[str]:
    """Yield every command of the shell, 'nbaas engine build'."""
    todo = [("nbaas", parser())]
    while todo:
        name, command = todo.pop()
        deeper = [a.choices for a in command._actions if hasattr(a.choices, "items")]
        if not deeper:
            yield name
        todo += [(f"{name} {word}", sub) for choices in deeper for word, sub in choices.items()]


@pytest.mark.parametrize("command", sorted(commands()))
def test_the_readme_names_the_command(command):
    assert f"{command}`" in README.read_text() or f"{command} " in README.read_text()


@pytest.mark.parametrize("engine", FACTORIES)
def test_the_readme_names_the_engine(engine):
    assert engine in README.read_text()


def oversized(path: Path) -> Iterator[str]:
    """Yield what is too long in a module, with its size."""
    source = path.read_text()
    name = path.relative_to(PACKAGE)
    if (lines := source.count("\n")) > LONGEST_MODULE:
        yield f"{name}: {lines} lines, at most {LONGEST_MODULE}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{name}: {node.name} has {length} lines, at most {LONGEST_FUNCTION}"


def test_functions_and_modules_keep_their_size():
    offenders = [line for path in sorted(PACKAGE.rglob("*.py")) for line in oversized(path)]
    assert not offenders, "\n".join(offenders)
