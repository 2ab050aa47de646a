"""What the fault tests share: jobs of light ranks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

JOBS = Path(__file__).parent.parent / "jobs" / "conftest.py"
_spec = importlib.util.spec_from_file_location("nbaas_tests_jobs", JOBS)
assert _spec is not None
assert _spec.loader is not None
_jobs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_jobs)
settings, light_python, start = _jobs.settings, _jobs.light_python, _jobs.start
