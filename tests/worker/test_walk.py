"""A cell that goes on from any of its places does what it would have done without the stop."""

from __future__ import annotations

import ast
import pickle
import random
import traceback
from typing import Any

import pytest

from nbaas.errors import UsageError
from nbaas.worker.every import Every, parse_every
from nbaas.worker.loops import HOOK, hidden_loops, loops_in, rebinds_first, rewritten
from nbaas.worker.position import Position
from nbaas.worker.walk import Resumption, Turns, Walk


class Session:
    """A session of the walk's protocol whose random numbers are Python's."""

    def __init__(self) -> None:
        self.steps = 0

    def mark(self, *, settings: bool = False) -> Any:
        return Mark(random.getstate(), self.steps)

    def place(self) -> None:
        pass

    def go_to(self, place: Any) -> None:
        random.setstate(place.state)
        self.steps = place.steps


class Mark:
    def __init__(self, state: Any, steps: int) -> None:
        self.state, self.steps = state, steps


def walked(source: str, saved: bytes | None = None, limit: int = 10_000) -> tuple[list, list]:
    """Run a cell, from a place in it if given; return what it put into `out`, and all its places."""
    places: list[bytes] = []
    session, names = Session(), {"out": [], "random": random}
    resume = None
    random.seed(7)
    if saved is not None:
        names, resume = pickle.loads(saved)
        names["random"] = random
        random.seed(99)
    cell = rewritten(ast.parse(source), resume.position if resume else None)

    def save(position: Position, turns: list[Turns]) -> None:
        state = Resumption(
            position,
            {loop.number: loop.iterator for loop in turns if loop.native},
            {loop.number: loop.mark for loop in turns if not loop.native},
            session.mark(),
        )
        kept = {n: v for n, v in names.items() if n not in ("random", HOOK, "__builtins__")}
        if len(places) < limit:
            places.append(pickle.dumps((kept, state)))
        walk.due = True

    walk = Walk(cell, session, save, every=Every(), resume=resume)
    walk.due = saved is None
    names[HOOK] = walk
    exec(compile(cell.tree, "<cell>", "exec"), names)
    return names["out"], places


CELLS = {
    "nested": """
for epoch in range(3):
    total = 0
    for index, item in enumerate([5, 6, 7], 1):
        total += item * index
        out.append((epoch, index, item, random.random()))
    else:
        out.append("all")
    out.append(total)
out.append("end")
""",
    "while in for": """
left = 3
for name in "ab":
    while left:
        left -= 1
        if left == 1:
            continue
        out.append((name, left, random.random()))
    left = 2
out.append(name)
""",
    "break and else": """
seen = []
for a, (b, c) in zip(range(4), [(1, 2), (3, 4), (5, 6), (7, 8)]):
    for k in range(a):
        if k == 2:
            break
        seen.append(k)
    else:
        out.append(("else", a))
    if a == 3:
        out.append(("broke", b, c))
        break
else:
    out.append("never")
out.append((seen, a, b, c, k))
""",
    "two loops and a walrus": """
n = 0
while (n := n + 1) < 4:
    out.append(n)
for key, value in {"x": 1, "y": 2}.items():
    for _ in reversed([1, 2]):
        out.append((key, value, random.random()))
squares = [i * i for i in range(3)]
out.append(squares)
""",
    "loops whose items are changed meanwhile": """
stack = [1]
for item in stack:
    if item < 5:
        stack.append(item + 1)
    out.append(list(stack))
""",
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_goes_on_from_each_of_its_places(name: str):
    plain: dict[str, Any] = {"out": [], "random": random}
    random.seed(7)
    exec(CELLS[name], plain)
    whole, places = walked(CELLS[name])
    assert whole == plain["out"]
    assert len(places) > 3
    for place in places:
        again, _ = walked(CELLS[name], place)
        assert again == plain["out"], pickle.loads(place)[1].position


def test_nothing_is_saved_inside_a_loop_over_a_generator():
    source = (
        "for epoch in range(3):\n    for value in draws():\n        for twice in range(2):\n"
        "            out.append((epoch, twice, value))\n"
    )
    cell = rewritten(ast.parse(source))
    positions: list[Position] = []
    names: dict[str, Any] = {"out": [], "draws": lambda: (n for n in range(3))}
    walk = Walk(cell, Session(), lambda position, _: positions.append(position), every=Every())
    walk.due = True

    def save(position: Position, turns: list[Turns]) -> None:
        positions.append(position)
        walk.due = True

    walk._save = save
    names[HOOK] = walk
    exec(compile(cell.tree, "<cell>", "exec"), names)
    assert {p.at for p in positions} == {0}


def test_an_error_shows_the_line_and_the_columns_that_it_has_in_the_cell():
    source = "a = 1\nfor n in range(3):\n    while n < 2:\n        a = a + missing[n]\n"
    cell = rewritten(ast.parse(source))
    names: dict[str, Any] = {}
    names[HOOK] = Walk(cell, Session(), lambda *_: None, every=Every())
    with pytest.raises(NameError) as caught:
        exec(compile(cell.tree, "<cell>", "exec"), names)
    frame = [f for f in traceback.extract_tb(caught.tb) if f.filename == "<cell>"][-1]
    assert (frame.lineno, frame.colno, frame.end_colno) == (4, 16, 23)


def test_a_plan_names_the_loops_that_can_be_resumed_and_those_that_cannot():
    source = (
        "for a in x:\n    for b in y: pass\ndef f():\n    for c in z: pass\n"
        "with q:\n    while 1: pass\n"
    )
    assert [loop.line for loop in loops_in(source)] == [1, 2]
    assert hidden_loops(source) == [4, 6]


def test_how_often_to_save_is_steps_or_a_time():
    assert parse_every("100") == Every(steps=100)
    assert parse_every("30s") == Every(seconds=30)
    assert parse_every("1.5min") == Every(seconds=90)
    assert parse_every("") == Every()
    for wrong in ("0", "often", "-3", "1.5", "10x", "s"):
        with pytest.raises(UsageError, match="neither steps nor a time"):
            parse_every(wrong)


def test_a_name_is_dead_at_the_head_of_a_loop_that_surely_sets_it_first():
    def rebound(body: str) -> bool:
        return rebinds_first(ast.parse(body).body, "it")

    assert rebound("n = 1\nit = iter(loader)\nx = next(it)")
    assert rebound("n += 1")
    assert not rebound("x = next(it)\nit = 1")
    assert not rebound("it = next(it)")
    assert not rebound("it += 1")
    assert not rebound("if n: it = 1")
    assert not rebound("for it in x: pass")
    assert rebound("with lock:\n    it = 1")
    assert not rebound("with it:\n    it = 1")
