"""P63: a folder that somebody else wrote is listed, or left out; it never hides the other jobs."""

from __future__ import annotations

import json
import shutil

import pytest

from nbaas.config import Settings
from nbaas.server.jobs import JobIndex

pytestmark = pytest.mark.ranks

EVIL_ID = "20260101-000000-0badf00d"

SPECS = {
    "not JSON": b"{",
    "no object": b"[]",
    "empty": b"",
    "no slots": {"slots": []},
    "slots that are none": {"slots": [1, 2]},
    "a name that is a number": {"name": 7},
    "a name that is a list": {"name": ["x"]},
    "created never": {"created": "yesterday"},
    "another id": {"id": "20260101-000000-11111111"},
    "an id that is a path": {"id": "../../etc"},
    "a world of strings": {"slots": "ab"},
    "deep": b"[" * 100_000,
    "a rank out of order": None,
}


@pytest.fixture(scope="module")
def finished(server, tmp_path_factory):
    from jupyter_process import Starter, light_python

    starter = Starter(server.home, light_python(tmp_path_factory.mktemp("python")))
    job = starter("for n in range(1, 20): step(n, 0.001)", name="template")
    job.wait(30)
    yield job
    starter.clean()


@pytest.fixture
def index_of(finished, tmp_path):
    """Return a function that damages a copy of a finished job beside a good one."""
    settings = Settings(home=tmp_path, cache=tmp_path)
    good = settings.jobs / finished.id
    bad = settings.jobs / EVIL_ID
    shutil.copytree(finished.paths.root, good)
    shutil.copytree(finished.paths.root, bad)
    spec = json.loads((bad / "spec.json").read_text()) | {"id": EVIL_ID}
    (bad / "spec.json").write_text(json.dumps(spec))
    return JobIndex(settings), bad, spec


def ids(index):
    return [row.id for row in index.rows(100)[0]]


def test_an_undamaged_copy_is_listed(index_of, finished):
    index, _, _ = index_of
    assert ids(index) == [finished.id, EVIL_ID]


@pytest.mark.parametrize("name", [name for name in SPECS if SPECS[name] is not None])
def test_p63_a_spec_of_another_shape_hides_only_itself(index_of, finished, name):
    index, bad, spec = index_of
    damage = SPECS[name]
    text = damage if isinstance(damage, bytes) else json.dumps(spec | damage).encode()
    (bad / "spec.json").write_bytes(text)
    assert ids(index) == [finished.id]


@pytest.mark.parametrize(
    "event",
    [
        {"state": "RUNNING", "time": "noon"},
        {"event": "SPAWNED", "pids": [1, 2]},
        {"event": "EXITED", "rank": "x", "code": None},
        {"state": "FAILED", "time": 1.0, "failure": "none"},
        {"state": "FAILED", "time": 1.0, "failure": {"rank": 0}},
        {"state": "FAILED", "time": 1.0, "failure": {"rank": 0, "kind": [], "message": {}}},
    ],
)
def test_p63_a_journal_of_another_shape_hides_only_itself(index_of, finished, event):
    from nbaas.journal import frame

    index, bad, _ = index_of
    started = [{"state": "CREATED", "time": 1.0}, {"state": "STARTING", "time": 1.0}]
    (bad / "events.jsonl").write_bytes(b"".join(map(frame, [*started, event])))
    (bad / "lock").unlink()
    assert finished.id in ids(index)


@pytest.mark.parametrize("tail", [b"", b"\x00" * 64, b"\xff" * 63, b"\xff" * 64])
def test_p63_counters_of_another_shape_do_no_harm(index_of, finished, tail):
    index, bad, _ = index_of
    (bad / "progress" / "r0").write_bytes(tail)
    assert finished.id in ids(index)


def test_p63_a_file_where_a_folder_should_be_does_no_harm(index_of, finished):
    index, bad, _ = index_of
    for part in ("metrics", "logs", "progress"):
        shutil.rmtree(bad / part, ignore_errors=True)
        (bad / part).write_text("a file")
    assert finished.id in ids(index)


def test_p63_listing_opens_no_code_and_no_pickle(index_of, finished):
    """What a bundle holds is not even opened by the list."""
    index, bad, _ = index_of
    shutil.rmtree(bad / "bundle", ignore_errors=True)
    (bad / "bundle").mkdir()
    (bad / "bundle" / "sitecustomize.py").write_text("raise SystemExit")
    (bad / "bundle" / "values.pickle").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    seen = []

    def hook(event, arguments):
        if event in {"exec", "compile", "import", "open", "subprocess.Popen", "os.system"}:
            seen.append((event, str(arguments[0])))

    import sys

    sys.addaudithook(hook)
    assert EVIL_ID in ids(index)
    assert not [event for event in list(seen) if "bundle" in event[1]]
