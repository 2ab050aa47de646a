"""The browser and the JupyterLab of tests/browser, for the tests of the panel in a cell."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SOURCE = Path(__file__).parents[1] / "browser" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("nbaas_browser_fixtures", _SOURCE)
assert _SPEC is not None
assert _SPEC.loader is not None
_fixtures = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_fixtures)

# All of them: a fixture there may come to need another one.
globals().update({name: it for name, it in vars(_fixtures).items() if not name.startswith("_")})
