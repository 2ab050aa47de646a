"""What a journal adds up to, and which names and folders there can be."""

from __future__ import annotations

import pytest

from nbaas.deploy.manifest import MANIFEST
from nbaas.deploy.registry import (
    EndpointRecord,
    Options,
    apply,
    checked_name,
    endpoint_paths,
    publish,
    read_endpoint,
    read_endpoints,
    version_folder,
    version_folders,
)
from nbaas.errors import DeployError, UsageError
from nbaas.journal import JournalWriter
from nbaas.records import to_json


def replay(*events):
    record = EndpointRecord("m")
    for event in events:
        record = apply(record, event)
    return record


def current(version, **options):
    return {"event": "current", "version": version, "options": to_json(Options(**options))}


def test_a_rollback_is_one_more_line():
    record = replay(current(1), current(2, replicas=3), current(1))
    assert (record.current, record.previous, record.history) == (1, 2, (2, 1))
    assert replay(current(1), current(2, replicas=3)).options.replicas == 3


def test_a_canary_ends_when_it_becomes_the_current_version():
    share = {"event": "canary", "version": 2, "percent": 10}
    assert replay(current(1), share).canary.percent == 10
    assert replay(current(1), share, current(2)).canary is None
    assert replay(current(1), share, {"event": "canary", "version": 0, "percent": 0}).canary is None


def test_a_removed_endpoint_keeps_neither_tokens_nor_options():
    token = {"id": "a", "hash": "00", "label": "x", "created": 0.0}
    record = replay(current(1), {"event": "token", "token": token})
    assert record.token_with("a").label == "x"
    gone = apply(record, {"event": "removed"})
    assert (gone.current, gone.tokens) == (0, ())


def test_an_event_of_a_later_release_changes_nothing():
    assert replay(current(1), {"event": "mirrored", "to": 3}) == replay(current(1))


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/b", "_host", ".", "a b", "a\n", "-a", "é", "a" * 64, "%2e", "a\0", None, 3],
)
def test_p68_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(UsageError, match="is no endpoint name"):
        checked_name(name)


def test_a_version_appears_whole_or_not_at_all(tmp_path):
    def write(folder):
        (folder / MANIFEST).write_text("{}")

    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("disk")

    first, folder = publish(tmp_path, "m", write)
    with pytest.raises(RuntimeError):
        publish(tmp_path, "m", fail)
    second, _ = publish(tmp_path, "m", write)
    assert (first, second) == (1, 2)
    assert list(version_folders(tmp_path, "m")) == [1, 2]
    assert version_folder(tmp_path, "m", 1) == folder
    assert not list((tmp_path / "m").glob(".draft-*"))
    with pytest.raises(DeployError, match="has no version 3"):
        version_folder(tmp_path, "m", 3)


def test_only_what_is_served_is_listed_and_a_damaged_line_is_skipped(tmp_path):
    for name in ("one", "two"):
        journal = JournalWriter(endpoint_paths(tmp_path, name).events)
        journal.append(current(4))
        journal.close()
    with endpoint_paths(tmp_path, "one").events.open("ab") as file:
        file.write(b"00000000 {}\n")
    journal = JournalWriter(endpoint_paths(tmp_path, "two").events)
    journal.append({"event": "removed"})
    journal.close()
    (tmp_path / "_host").mkdir()
    assert [record.name for record in read_endpoints(tmp_path)] == ["one"]
    assert read_endpoint(tmp_path, "one").current == 4
