"""Keras models on torch under %%train: those that share layers share them on the ranks and afterwards."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from kernel_notebook import Notebook

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="no Keras"),
]

MODELS = """
import keras, numpy as np
from keras import layers
def made():
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8,))
    code = layers.Dense(3, activation="tanh")(inputs)
    encoder = keras.Model(inputs, code)
    autoencoder = keras.Model(inputs, layers.Dense(8)(code))
    autoencoder.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return autoencoder, encoder
rows = np.random.default_rng(0).normal(size=(60, 8)).astype("float32")
"""
FIT = """
_ = autoencoder.fit(rows, rows, batch_size=16, epochs=2, verbose=0)
codes = encoder.predict(rows, verbose=0)
one = encoder.layers[1].kernel.value is autoencoder.layers[1].kernel.value
"""


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    with Notebook(tmp_path_factory.mktemp("keras"), KERAS_BACKEND="torch") as started:
        cell = started.run("%load_ext nbaas\n" + MODELS)
        assert not cell.error, cell.error
        yield started


def test_models_that_share_layers_share_them_on_the_ranks_and_afterwards(keras: Notebook):
    assert not keras.run("autoencoder, encoder = made()" + FIT + "plain = codes").error
    cell = keras.run(
        "autoencoder, encoder = made()\nlayer = encoder.layers[1]; kernel = layer.kernel"
    )
    assert not cell.error, cell.error
    trained = keras.run("%%train --ranks 2 --engine ddp" + FIT)
    assert not trained.error, trained.error
    assert keras.value("float(np.abs(codes - plain).max())") < 1e-5
    assert keras.value(
        "(one, autoencoder.layers[1] is layer, encoder.layers[1] is layer, layer.kernel is kernel)"
    ) == (True, True, True, True)
    # The very objects of the notebook go on together.
    assert keras.value(
        "float(np.abs(encoder.predict(rows, verbose=0) - plain).max())"
    ) < 1e-5  # fmt: skip
    assert not keras.run("_ = autoencoder.fit(rows, rows, verbose=0)").error
    assert keras.value("bool((encoder.predict(rows, verbose=0) != plain).any())")


def test_models_that_a_cell_makes_come_back_sharing(keras: Notebook):
    cell = keras.run("%%train --ranks 2 --engine ddp\nnew, new_encoder = made()")
    assert not cell.error, cell.error
    assert keras.value(
        "new_encoder.layers[1].kernel.value is new.layers[1].kernel.value"
        " and next(new_encoder.parameters()) is next(new.parameters())"
    )


def test_an_optimizer_of_torch_keeps_its_hold_on_a_keras_model(keras: Notebook):
    cell = keras.run("""
import torch
def fresh():
    torch.manual_seed(1)
    net, _ = made()
    return net, torch.optim.SGD(net.parameters(), lr=0.1)
STEPS = '''
batch = torch.tensor(rows)
for _ in range(3):
    optimizer.zero_grad(); loss = ((net(batch) - batch) ** 2).mean(); loss.backward(); optimizer.step()
print(round(loss.item(), 5))
'''
net, optimizer = fresh()
exec(STEPS)
net, optimizer = fresh()""")
    assert not cell.error, cell.error
    trained = keras.run("""%%train --ranks 2 --engine ddp
batch = torch.tensor(rows)
for _ in range(3):
    optimizer.zero_grad(); loss = ((net(batch) - batch) ** 2).mean(); loss.backward(); optimizer.step()
print(round(loss.item(), 5))
""")
    assert not trained.error, trained.error
    assert float(trained.stdout) == pytest.approx(float(cell.stdout), abs=2e-5)
