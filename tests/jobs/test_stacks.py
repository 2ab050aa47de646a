"""Stacks that ranks write: the user's code by the names of the cells, and nothing of ours."""

from __future__ import annotations

import nbaas.worker.rank
from nbaas.jobs.stacks import last_stack, tidied

OURS = nbaas.worker.rank.__file__
CELL = "/tmp/ipykernel_7/123.py"
LABELS = {CELL: "Cell In[24]"}
DUMP = f"""Thread 0x00007f4450dfb6c0 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 331 in wait
  File "{OURS}", line 57 in _run

Current thread 0x00007f4450dfb6c1 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "{CELL}", line 4 in helper
  File "{CELL}", line 9 in <module>
  File "{OURS}", line 64 in run_cell
  File "<frozen runpy>", line 88 in _run_code
"""
FRAMES = [
    "  File /usr/lib/python3.11/ctypes/__init__.py, line 519, in string_at",
    "  Cell In[24], line 4, in helper",
    "  Cell In[24], line 9",
]


def test_a_crash_is_cut_down_to_the_cells_own_lines():
    log = f"before\nFatal Python error: Segmentation fault\n\n{DUMP}\nExtension modules: torch\nafter\n"
    told = tidied(log, LABELS)
    lines = ["before", "Fatal Python error: Segmentation fault", *FRAMES, "after"]
    assert told.splitlines() == lines
    assert tidied(log, LABELS, crashes_only=True) == told


def test_a_dump_of_a_rank_that_lives_is_left_out_or_shown():
    log = f"before\n{DUMP}after\n"
    assert tidied(log, LABELS, crashes_only=True) == "before\nafter\n"
    assert tidied(log, LABELS).splitlines() == ["before", "stack:", *FRAMES, "after"]
    assert last_stack(log, LABELS) == FRAMES
    assert last_stack("nothing\n", LABELS) == []


def test_other_text_stays_as_it_is():
    text = "Thread 5 is fine\n  File maker\n\nCurrent threads: 3\n"
    assert tidied(text, LABELS) == text
