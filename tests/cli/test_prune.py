"""`nbaas jobs prune` removes what is over and old, says what that was, and touches nothing that runs."""

from __future__ import annotations

import json
from pathlib import Path

from nbaas.config import Settings
from nbaas.jobs.events import EventLog
from nbaas.jobs.submit import new_spec
from nbaas.placement import HostResources, place
from nbaas.records import JobPaths, State, to_json


def job_that_is_over(settings: Settings, name: str) -> Path:
    spec = new_spec(settings, place(HostResources("here", 2), ranks=1), name=name)
    paths = JobPaths(settings.jobs / spec.id)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(json.dumps(to_json(spec)))
    events = EventLog(paths)
    for state in (State.CREATED, State.STARTING, State.RUNNING, State.SUCCEEDED):
        events.enter(state)
    events.close()
    return paths.root


def test_old_jobs_go_and_the_newest_stay(settings: Settings, cli):
    old, new = job_that_is_over(settings, "old"), job_that_is_over(settings, "new")
    told = cli("jobs", "prune", "--keep", "1", "--days", "0", "--dry-run").stdout
    assert told.startswith("1 jobs would go, ")
    assert old.name in told
    assert old.exists()
    assert cli("jobs", "prune", "--keep", "1", "--days", "0").stdout.startswith("1 jobs removed, ")
    assert (old.exists(), new.exists()) == (False, True)
    assert cli("jobs", "prune").stdout.startswith("0 jobs removed")


def test_a_word_that_is_no_action_is_refused_with_the_ones_there_are(cli):
    answer = cli("jobs", "prone")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "did you mean prune?" in answer.stderr
