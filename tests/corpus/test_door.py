"""Notebooks of the corpus through `%%train` in a real kernel: the numbers of one device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:  # pytest's importlib mode leaves the path alone
    sys.path.insert(0, ROOT)

from tests.corpus.door import Door  # noqa: E402 - after the path
from tests.parallel.sources import read_notebook  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    opened = Door()
    yield opened
    opened.close()


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("name", "ranks"),
    [
        ("03_cifar_like_cnn", 2),
        ("04_train_function_called", 3),
        ("09_gan", 2),
        ("14_course_base_class", 2),
        ("21_segmentation", 3),
    ],
)
def test_a_notebook_under_the_magic_gives_the_numbers_of_one_device(
    door: Door, name: str, ranks: int
):
    verdict = door.verdict(read_notebook(HERE / f"{name}.ipynb"), ranks)
    assert (verdict.word, verdict.why) == ("same", "")
