"""A cell that starts or joins ranks of its own is refused by name, before any rank starts."""

from __future__ import annotations

import ast

import pytest

from nbaas.errors import UsageError
from nbaas.magics.launches import refuse_own_ranks

REFUSED = {
    "from accelerate import notebook_launcher\nnotebook_launcher(train, num_processes=2)": "line 2: acc",
    "import torch.distributed as dist\ndist.init_process_group('gloo')": "line 2: torch.distributed",
    "model = torch.nn.parallel.DistributedDataParallel(model)": "DistributedDataParallel averages",
    "import torch.multiprocessing as mp\nmp.spawn(train, nprocs=2)": "mp.spawn starts",
    "import torch_xla": "torch_xla drives",
    "import horovod.torch as hvd": "horovod is driven by hand",
    "trainer = L.Trainer(max_epochs=1, devices=2)": "Trainer(devices=2)",
    "trainer = L.Trainer(strategy='ddp_notebook')": "Trainer(strategy='ddp_notebook')",
    "get_ipython().system('torchrun --nproc-per-node 2 train.py')": "torchrun starts",
    "from fastai.vision.all import *": "fastai's Learner",
}


@pytest.mark.parametrize("source", REFUSED)
def test_what_starts_its_own_ranks_is_named(source):
    with pytest.raises(UsageError) as refused:
        refuse_own_ranks([ast.parse(source)], {})
    assert REFUSED[source] in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        "trainer = L.Trainer(max_epochs=1, devices=1, strategy='auto')",
        "import torch.distributed as dist\nif dist.is_initialized(): pass",
        "rng.spawn(2)\nos.system('ls')",
        "accelerator = Accelerator()",
    ],
)
def test_a_cell_for_one_device_is_let_through(source):
    refuse_own_ranks([ast.parse(source)], {"answer": 42})


def test_the_refusal_comes_before_a_job(problem):
    cell = problem.run(
        "%%train --ranks 2\nimport torch.distributed as dist\ndist.init_process_group('gloo')"
    )
    assert "line 3: torch.distributed joins a world of its own" in cell.error
    assert "--ranks 1" in cell.error


def test_a_function_that_the_cell_calls_is_looked_into(problem):
    problem.run("def main():\n    nn.parallel.DistributedDataParallel(model)")
    cell = problem.run("%%train --ranks 2\nmain()")
    assert "DistributedDataParallel averages gradients itself" in cell.error
