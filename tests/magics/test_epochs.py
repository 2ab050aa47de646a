"""How many epochs a cell will make of each model, as its source tells."""

from __future__ import annotations

import textwrap

import pytest

from nbaas.magics.epochs import epochs_in

CELLS = {
    "one model": """
        for epoch in range(4):
            for x, y in loader:
                loss.backward()
    """,
    "models by number": """
        for seed in range(3):
            model = made(seed)
            for epoch in range(4):
                for x, y in loader:
                    loss.backward()
    """,
    "models by name": """
        for name, make in recipes.items():
            for epoch in range(4):
                for x, y in loader:
                    with autocast():
                        loss.backward()
    """,
    "an inner loop": """
        for epoch in range(4):
            for x in loader:
                for _ in range(5):
                    critic_loss.backward()
    """,
    "both": """
        for epoch in range(4):
            for x in loader:
                for _ in range(5):
                    critic_loss.backward()
                loss.backward()
    """,
    "steps in a function": """
        for epoch in range(4):
            for x in loader:
                train_step(x)
    """,
}


@pytest.mark.parametrize("cell", CELLS)
def test_the_epochs_are_those_of_a_model(cell: str):
    assert epochs_in(textwrap.dedent(CELLS[cell]), {}) == 4
