"""How a replica batches: by measurement, by rows, and nothing that does not fit together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nbaas.deploy.assignment import ReplicaSpec
from nbaas.deploy.calibration import best_batch
from nbaas.deploy.children import Backoff
from nbaas.deploy.frames import ANSWER, PLAIN
from nbaas.deploy.manifest import Signature, TensorSpec, VersionManifest
from nbaas.deploy.replica import Server


class Recorder:
    """A runner that doubles its input and remembers how many rows came at a time."""

    def __init__(self, shape=(-1, 2), *, batchable=True):
        specs = (TensorSpec("x", "FP32", shape),)
        signature = Signature(specs, (TensorSpec("y", "FP32", shape),))
        self.manifest = VersionManifest("m", 0.0, "Net", signature, {}, batchable=batchable)
        self.rows: list[int] = []

    def run_arrays(self, arrays):
        self.rows.append(len(arrays[0]))
        if (arrays[0] < 0).any():
            raise ValueError("negative")
        return [arrays[0] * 2]


class Never:
    asked = idle = False


def served(recorder, bodies, *, max_batch=32, flags=PLAIN):
    """Return status and content of the answers to `bodies`, plain ones, that arrived together."""
    spec = ReplicaSpec("", "", "1", "m", 0, 0, 0)
    server = Server(recorder, spec, max_batch, Never())
    data = server.answer(
        [(i, flags, -1, json.dumps(body).encode()) for i, body in enumerate(bodies)]
    )
    found, offset = [], 0
    while offset < len(data):
        length, identity, status, _, _ = ANSWER.unpack_from(data, offset)
        assert identity == len(found)
        found.append((status, json.loads(data[offset + ANSWER.size : offset + 4 + length])))
        offset += 4 + length
    return found


def test_what_arrived_together_is_one_batch_and_each_gets_its_own_rows():
    recorder = Recorder()
    answers = served(recorder, [[[1, 1]], [[2, 2], [3, 3]], [[4, 4]]])
    assert recorder.rows == [4]
    assert [a["outputs"] for _, a in answers] == [[[2, 2]], [[4, 4], [6, 6]], [[8, 8]]]


def test_a_batch_has_at_most_max_batch_rows_unless_one_request_has_more():
    recorder = Recorder()
    served(recorder, [[[1, 1]] * n for n in (3, 2, 1, 9, 1)], max_batch=4)
    assert recorder.rows == [3, 3, 9, 1]


def test_rows_of_different_shape_run_apart():
    recorder = Recorder((-1, -1))
    answers = served(recorder, [[[1, 1]], [[1, 2, 3]], [[4, 4]]])
    assert sorted(recorder.rows) == [1, 2]
    assert [a["outputs"] for _, a in answers] == [[[2, 2]], [[2, 4, 6]], [[8, 8]]]


def test_a_model_whose_rows_depend_on_each_other_sees_one_request_at_a_time():
    recorder = Recorder(batchable=False)
    served(recorder, [[[1, 1]], [[2, 2], [3, 3]]])
    assert recorder.rows == [1, 2]


def test_a_row_that_makes_the_model_raise_is_answered_alone():
    answers = served(Recorder(), [[[1, 1]], [[-1, 1]], [[3, 3]], "no"])
    assert [status for status, _ in answers] == [200, 500, 200, 400]
    assert answers[1][1] == {"error": "the model raised ValueError: negative"}


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (lambda rows: 0.001, 128),  # the call costs, rows are free
        (lambda rows: 0.001 * rows, 1),  # nothing is won
        (lambda rows: 0.001 + 0.001 * max(0, rows - 8), 8),  # up to 8 rows for the price of one
        (lambda rows: 1.0, 2),  # a slow model is not measured for long
    ],
)
def test_the_batch_size_is_where_a_row_gets_no_cheaper(cost, expected):
    now = [0.0]

    def run(rows):
        now[0] += cost(rows)

    assert best_batch(run, [np.zeros((1, 2), "f4")], clock=lambda: now[0]) == expected


def test_a_batch_is_never_larger_than_its_memory():
    assert best_batch(lambda rows: None, [np.zeros((1, 32 << 20), "u1")]) <= 2


def test_p45_the_pause_grows_with_deaths_and_is_forgotten():
    backoff = Backoff()
    pauses = [backoff.pause(now, was_ready=True) for now in (0.0, 1.0, 2.0, 3.0)]
    assert pauses == [0.1, 0.2, 0.4, 0.8]
    assert backoff.pause(100.0, was_ready=True) == 0.1


def test_p45_five_starts_that_fail_within_five_minutes_are_the_last():
    backoff = Backoff()
    assert [backoff.pause(float(now), was_ready=False) is None for now in range(5)] == [
        False
    ] * 4 + [True]
    slow = Backoff()
    assert all(slow.pause(100.0 * i, was_ready=False) is not None for i in range(10))


def v2(rows):
    flat = [cell for row in rows for cell in row]
    return {
        "inputs": [{"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "data": flat}],
        "id": "a",
    }


def test_a_batch_of_every_form_gives_what_each_request_gives_alone():
    bodies = [
        [[1, 2]],
        v2([[3, 4]]),
        [1, 2],
        {"x": [[5, 6]]},
        v2([[7, 8], [9, 10]]),
        [[1, 1], [2, 2]],
    ]
    together = served(Recorder(), bodies)
    assert together == [served(Recorder(), [body])[0] for body in bodies]
    strict = [v2([[3, 4]]), v2([[7, 8], [9, 10]]), v2([[5, 6]])]
    together = served(Recorder(), strict, flags=0)
    assert together == [served(Recorder(), [body], flags=0)[0] for body in strict]
    assert together[0][1]["outputs"][0]["data"] == [6.0, 8.0]


def test_a_model_that_loses_rows_of_a_batch_is_asked_for_each_request_alone():
    class Loses(Recorder):
        def run_arrays(self, arrays):
            return [output[:1] for output in super().run_arrays(arrays)]

    answers = served(Loses(), [[[1, 1]], [[2, 2]]])
    assert [answer["outputs"] for _, answer in answers] == [[[2, 2]], [[4, 4]]]
