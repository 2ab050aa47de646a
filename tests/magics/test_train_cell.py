"""A cell under %%train computes what it computes without it, and leaves behind what it would."""

from __future__ import annotations

import pytest
from cells import LOOP, SETUP
from kernel_notebook import WIDGET, Cell, Notebook

pytestmark = pytest.mark.ranks


def numbers(cell: Cell) -> list[float]:
    assert not cell.error, cell.error
    return [float(word) for word in cell.stdout.split()]


@pytest.fixture(scope="module")
def plain(notebook: Notebook) -> list[float]:
    """What the loop prints when the notebook itself runs it, then a sum over the parameters."""
    notebook.run(SETUP)
    return numbers(notebook.run(LOOP + "\nprint(sum(p.sum().item() for p in model.parameters()))"))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_same_cell_prints_the_same_numbers_on_any_number_of_ranks(
    problem, plain, ranks, engine
):
    flag = f"--engine {engine}" if ranks > 1 else ""
    cell = problem.run(f"%%train --ranks {ranks} {flag}" + LOOP)
    after = problem.run("print(sum(p.sum().item() for p in model.parameters()))")
    assert numbers(cell) + numbers(after) == pytest.approx(plain, rel=1e-5)


def test_values_come_back_into_the_very_objects_of_the_notebook(problem, engine):
    problem.run("first = next(model.parameters()); before = first.clone()")
    cell = problem.run(f"%%train --ranks 2 --engine {engine} --name back" + LOOP)
    assert not cell.error, cell.error
    assert problem.value("(alias is model, history is losses, len(losses), epoch, untouched)") == (
        True, True, 3, 2, {"a": [1, 2]},
    )  # fmt: skip
    assert problem.value(
        "(first is next(model.parameters()), bool((first != before).any()), best == min(losses),"
        " optimizer.param_groups[0]['params'][0] is first, len(optimizer.state))"
    ) == (True, True, True, True, 4)
    # Training goes on from there in the notebook itself.
    assert not problem.run(LOOP).error


def test_the_saved_output_is_a_figure_and_a_line_without_a_widget(problem):
    cell = problem.run("%%train --ranks 1 --name figure" + LOOP)
    assert not any(WIDGET in output for output in cell.outputs)
    pictures = [output["image/png"] for output in cell.outputs if "image/png" in output]
    assert len(pictures) == 1
    assert len(pictures[0]) * 3 / 4 < 100_000
    assert "figure: succeeded on 1 rank" in cell.texts()
    assert "3 epochs" in cell.texts()
    assert "core-hours" in cell.texts()
    table = problem.run("%jobs --cost").texts()
    assert "figure" in table
    assert "all of these" in table
    assert "(estimated)" in table or "Wh" in table


def test_what_a_function_returns_comes_back(problem, engine):
    problem.run(
        "def fit(epochs=2):\n    for _ in range(epochs):\n        for x, y in train_loader:\n"
        "            optimizer.zero_grad(); nn.functional.cross_entropy(model(x), y).backward();"
        " optimizer.step()\n    return {'accuracy': accuracy(model), 'model': model}\n"
    )
    cell = problem.run(f"fitted = %train fit --ranks 2 --engine {engine}")
    assert not cell.error, cell.error
    assert problem.value("(fitted['model'] is model, sorted(fitted))") == (
        True,
        ["accuracy", "model"],
    )
    assert not problem.run("import nbaas\nagain = nbaas.train(fit, 1, ranks=1)").error
    assert problem.value("set(again) == {'accuracy', 'model'}")
    left = problem.value("[n for n in globals() if n.startswith('_nbaas')]")
    assert left == []


def test_a_shell_line_runs_once_and_all_ranks_have_its_result(problem, engine):
    cell = problem.run(
        f"%%train --ranks 2 --engine {engine} --name lines\n"
        "!echo once >> marks.txt; echo said\n"
        "files = !cat marks.txt; echo more >> marks.txt; ls marks.txt nowhere\n"
        "!exit 3\n"
        "code = _exit_code\n"
        "print(os.environ['NBAAS_RANK'], files[0], code)"
    )
    assert not cell.error, cell.error
    assert cell.stdout == "said\n0 once 3\n"
    assert problem.value("(code, files[0], files[-1], len(files))") == (3, "once", "marks.txt", 3)
    assert "nowhere" in problem.value("files.n")
    assert problem.value("open('marks.txt').read()") == "once\nmore\n"
    assert problem.run("%logs lines --rank 1").stdout == "1 once 3\n"


def test_a_plan_says_what_would_travel_and_runs_nothing(problem):
    cell = problem.run("%%train --ranks 2 --plan" + LOOP)
    assert not cell.error, cell.error
    text = cell.texts()
    assert "model" in text
    assert "train_loader" in text
    assert "untouched" not in text
    assert cell.stdout == ""
    assert problem.value("losses") == []


PLANNED = """
batches = DataLoader(TensorDataset(inputs, targets), batch_size=16, collate_fn=list)
net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.LSTM(4, 2, 2, dropout=0.5))
watched = Net()
watched.layers.register_forward_hook(lambda *_: None)
criterion = nn.CrossEntropyLoss()
class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
    def forward(self, x):
        return x * self.weight * x.max().item()
"""


def test_a_plan_says_how_data_model_loss_and_optimizer_will_be_distributed(problem):
    problem.run(PLANNED)
    cell = problem.run(
        "%%train --ranks 2 --plan\nmade = Reads()\n"
        "for x, y in train_loader:\n    loss = criterion(model(x), y) + net(x) + watched(x).unique()\n"
        "    nn.functional.mse_loss(made(x), x)\n    optimizer.step()\nnext(iter(batches))"
    )
    assert not cell.error, cell.error
    lines = [line.strip() for line in cell.texts().splitlines()]
    told = {line.split("  ")[0]: line for line in lines}
    assert "each rank fetches its rows only, 8 rows a rank" in told["train_loader (DataLoader)"]
    assert "its own collate function" in told["batches (DataLoader)"]
    assert "split: each rank runs its rows" in told["model (Net), 146 parameters"]
    assert "hooks see activations" in told["watched (Net), 146 parameters"]
    assert "statistics of all ranks" in told["BatchNorm1d"]
    assert "each rank's own" in told["LSTM"]
    assert "cross_entropy" in told["criterion (CrossEntropyLoss)"]
    assert "584 B in one message" in told["optimizer (Adam)"]
    assert "x.max().item()" in told["Reads made in line 2"]
    assert "sharded" in told["mse_loss in line 5"]
    assert "gathered" in told["unique"]


def test_a_plan_says_what_it_does_not_recognise(problem):
    cell = problem.run("%%train --ranks 2 --plan\nprint(untouched)")
    assert "no loader or tensor is named" in cell.texts()
    assert "probed at its first call" in cell.texts()


def test_a_cell_that_logs_is_an_ordinary_cell_without_the_magic(problem):
    problem.run("import nbaas")
    loop = (
        "for epoch in range(4):\n    acc = epoch / 4\n    nbaas.log(acc=acc, step=epoch)\n"
        "nbaas.log(sample=torch.rand(4, 4), weights=model)"
    )
    cell = problem.run(loop)
    assert not cell.error, cell.error
    assert len(cell.outputs) == 2  # one line and one picture, in place
    assert "image/png" in cell.outputs[1]
    # The newest value comes with the next look at the displays.
    problem.run("time.sleep(0.5)")
    assert cell.outputs[0]["text/plain"] == "step 3: acc 0.75"
    assert "acc: 'high' cannot be logged" in problem.run("nbaas.log(acc='high')").error
    trained = problem.run("%%train --ranks 1 --out logged\n" + loop)
    assert not trained.error, trained.error
    assert problem.value("[(r['step'], r['acc']) for r in logged.rows()]") == [
        (0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75),
    ]  # fmt: skip
    assert problem.value("list(logged.metrics().acc)") == [0.0, 0.25, 0.5, 0.75]


def test_a_large_value_is_named_before_the_launch_once(problem):
    problem.run("big = torch.zeros(3_000_000)")
    said = [problem.run("%%train --ranks 1\nn = len(big)").stderr for _ in range(2)]
    assert "nbaas: big (Tensor) ships 12.0 MB; --exclude big leaves it here" in said[0]
    assert "big" not in said[1]
