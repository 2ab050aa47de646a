"""P69: whatever stands on a magic's line, the answer is a value, the help or our own error."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbaas.errors import UsageError
from nbaas.magics.extension import PARSERS
from nbaas.magics.flags import HelpAsked

LINES = 5000
FLAGS = sorted({flag for parser in PARSERS.values() for flag in parser.flags()})
ODD = [
    "--", "-", "--=", "--ranks=", "--ranks", "''", '"', "$", "$$", "{", "}", "{{", "}}", "{}", "{{}}",
    "$x.y", "$undefined", "{x}", "{x +}", "{x; x}", "{lambda: x}", "{x for x in [1]}", "{(yield)}",
    "{x := 1}", "{1/0}", "{x.__class__}", "{'}'}", "[", "(", "#", "\\", "\x00", "\u202e", "é", "٣",
    "-1", "1e9", "nan", "0x10", "a:2,b:2", "-oProxyCommand=x", "; rm -rf", "`id`", "$(id)", "|", "&&",
    "%jobs", "!ls", "?", "??",
]  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(ODD),
    st.integers().map(str),
    st.text(max_size=12),
    st.builds("{}={}".format, st.sampled_from(FLAGS), st.text(max_size=8)),
    st.text("{}[]()'\"$# ,:=", max_size=8),
)
LINE = st.lists(WORDS, max_size=6).map(" ".join)


def read(magic, line, namespace):
    """Return what the line came to: 'read', 'help' or 'refused'."""
    try:
        PARSERS[magic].read(line, namespace)
    except HelpAsked:
        return "help"
    except UsageError as refused:
        return "refused" if str(refused) else "refused without a word"
    return "read"


def test_p69_any_line_is_read_or_refused_by_name():
    came_to: Counter[str] = Counter()
    namespace = {"x": 2}

    @settings(
        max_examples=LINES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(sorted(PARSERS)), LINE)
    def ask(magic, line):
        came_to[read(magic, line, namespace)] += 1

    ask()
    assert sum(came_to.values()) >= LINES
    assert {"read", "refused"} <= came_to.keys() <= {"read", "refused", "help"}
    assert namespace == {"x": 2}, "a line changes nothing of the notebook"


HOSTILE = [
    "__import__('os').system('touch {mark}')", "$(touch {mark})", "`touch {mark}`", "; touch {mark}",
    "--name __import__('os')", "--name 'x; touch {mark}'", "--out [__import__('os')]", "!touch {mark}",
    "| touch {mark}", "&& touch {mark}", "--ranks eval('2')", "--ranks 1+1", "--seed open('{mark}','w')",
]  # fmt: skip


@pytest.mark.parametrize("magic", sorted(PARSERS))
def test_p69_code_outside_braces_is_text(magic, tmp_path):
    """`{...}` on a line is the notebook's own code, as with every magic; nothing else is run."""
    mark = tmp_path / "mark"
    ran: list[str] = []
    listening = True

    def hook(event, arguments):
        if listening and event in {"compile", "exec", "os.system", "subprocess.Popen", "open"}:
            ran.append(f"{event} {arguments!r}")

    sys.addaudithook(hook)
    for line in HOSTILE:
        read(magic, line.replace("{mark}", str(mark)), {"x": 2})
    listening = False
    assert ran == []
    assert not mark.exists()
