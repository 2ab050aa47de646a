"""Promises of checkpoints: killed while one is written, a job goes on from the one before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WRITER = Path(__file__).with_name("checkpoint_writer.py")


def test_p15_a_kill_at_any_byte_of_a_checkpoint_leaves_the_one_before(
    tmp_path: Path, tally, rounds, chance
):
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def ask(offset: int) -> dict:
        writer.stdin.write(f"{offset}\n")
        writer.stdin.flush()
        return json.loads(writer.stdout.readline())

    whole = ask(1 << 40)
    assert whole["saved"]
    before = whole["found"]
    for _ in range(rounds(50)):
        found = ask(chance.randrange(1, whole["size"] + 400))
        expected = {before, before + 1} if not found["saved"] else {before + 1}
        right = (
            found["found"] in expected
            and found["taken"] == found["next"] == found["found"]
            and found["weights"] == [float(found["found"])]
        )
        tally.add(lost=max(0, found["acknowledged"] - found["found"]), wrong=not right)
        assert tally.clean(), found
        before = found["found"]
    writer.stdin.close()
    assert writer.wait(20) == 0
