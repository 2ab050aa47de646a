"""Logs as text: read on, decoded, progress bars collapsed."""

from __future__ import annotations

from pathlib import Path

from nbaas.jobs.logs import LogReader, collapse


def test_a_progress_bar_is_reduced_to_what_a_terminal_would_show():
    assert collapse("10%\r50%\r100%\ndone\n") == "\r100%\ndone\n"
    assert collapse("\r10%\r50%") == "\r50%"
    assert collapse("epoch 1\r\nepoch 2\r\n") == "epoch 1\r\nepoch 2\r\n"
    assert collapse("plain\n\nlines\n") == "plain\n\nlines\n"
    assert collapse("") == ""


def test_a_character_that_arrives_in_two_writes_is_one_character(tmp_path: Path):
    log = tmp_path / "r0.log"
    reader = LogReader(log)
    assert reader.read() == ""
    first, second = "é".encode()[:1], "é".encode()[1:]
    log.write_bytes(b"a" + first)
    assert reader.read() == "a"
    with log.open("ab") as file:
        file.write(second + b"\xff")
    assert reader.read() == "é�"


def test_a_flood_can_be_passed_over(tmp_path: Path):
    log = tmp_path / "r0.log"
    log.write_bytes(b"x" * 1000 + b"end")
    reader = LogReader(log)
    assert reader.skip_to_tail(3) == 1000
    assert reader.read() == "end"
