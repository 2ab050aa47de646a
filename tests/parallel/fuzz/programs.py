# Random programs over batches, each over one batch of a loader
#: rtol 1e-7
# All floats are float64: ranking and rounding must not hang on the order of a sum.  An operation that
# raises has given the name of its error.
import os
import random

import torch
from fuzz.table import EXPRESSIONS, LETTERS
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

C = 4  # columns, and classes of the labels
REDUCTIONS = ("mean", "sum", "none")
ERRORS = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, AttributeError)
TRACE = bool(os.environ.get("FUZZ_TRACE"))


def dim_of(x, r):
    return r.randrange(-x.dim(), x.dim()) if x.dim() else 0


def written(x, at, value):
    """Return a copy of x with x[at] = value."""
    x = x.clone()
    x[at] = value
    return x


def table():
    """Return [(name, kinds, function)]."""
    scope = {
        "torch": torch,
        "F": functional,
        "nn": nn,
        "C": C,
        "dim_of": dim_of,
        "written": written,
    }
    found = []
    for kinds, lines in EXPRESSIONS.items():
        each = REDUCTIONS if kinds.endswith("*") else ("",)
        letters = LETTERS[kinds.rstrip("*")]
        for line in filter(None, map(str.strip, lines.splitlines())):
            for how in each:
                function = eval(f"lambda {letters}: {line}", {**scope, "how": how})
                found.append((f"{line} {how}".strip(), kinds.rstrip("*"), function))
    return found


def kinds_of(value):
    """Return the kinds a value may be drawn for."""
    if not isinstance(value, torch.Tensor):
        return "s" if isinstance(value, (int, float)) else ""
    kinds = "s" if value.dim() == 0 else ""
    if value.dtype == torch.bool:
        return kinds + "b"
    if not value.is_floating_point():
        return kinds
    matrix = value.dim() == 2 and value.shape[1] == C and len(value)
    return kinds + "f" + ("m" if matrix else "")


def kept(value):
    """Return what the comparison reads."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value if isinstance(value, (int, float, str, bool)) else str(value)


def drawn(r, kinds, pool):
    """Return an argument for each kind, newer values more often; None where the pool lacks one."""
    arguments = []
    for kind in kinds:
        fitting = [r] if kind == "r" else [value for letters, value in pool if kind in letters]
        if not fitting:
            return None
        arguments.append(fitting[-1] if r.random() < 0.4 else r.choice(fitting))
    return arguments


def run_program(r, operations, x, z, y):
    """Return what each step gave, and the gradient of all of it together."""
    weights = torch.linspace(-1, 1, C * C, dtype=torch.float64).reshape(C, C).requires_grad_()
    pool = [("mf", x), ("mf", z), ("n", y), ("w", weights)]
    left = {}
    for step in range(r.randrange(2, 9)):
        name, kinds, function = r.choice(operations)
        arguments = drawn(r, kinds, pool)
        if arguments is None:
            continue
        if TRACE:
            shapes = [
                tuple(a.shape) if isinstance(a, torch.Tensor) else a
                for a in arguments
                if a is not r
            ]
            os.write(1, f"  {step} {name} {shapes}\n".encode())
        try:
            value = function(*arguments)
        except ERRORS as error:
            left[f"{step}: {name}"] = type(error).__name__
            if TRACE:
                os.write(1, f"    {error}\n".encode())
            continue
        if isinstance(value, tuple) and value and isinstance(value[0], torch.Tensor):
            value = value[0]
        left[f"{step}: {name}"] = kept(value)
        pool.append((kinds_of(value), value))
    reached = [v for k, v in pool if "f" in k and v.requires_grad and v.numel()]
    if reached:
        loss = sum(value.double().square().mean() for value in reached)
        try:
            loss.backward()
        except ERRORS as error:
            left["backward"] = type(error).__name__
            if TRACE:
                os.write(1, f"    {error}\n".encode())
        left["loss"], left["gradient"] = loss.item(), weights.grad
    return left


def main():
    operations = table()
    first, count = int(os.environ["FUZZ_SEED"]), int(os.environ["FUZZ_COUNT"])
    found = {}
    for seed in range(first, first + count):
        os.write(1, f"seed {seed}\n".encode())
        r = random.Random(seed)
        torch.manual_seed(seed)
        rows = r.choice([1, 2, 3, 5, 8, 9])
        inputs, labels = torch.randn(2, rows, C, dtype=torch.float64), torch.randint(0, C, (rows,))
        loader = DataLoader(TensorDataset(*inputs, labels), batch_size=rows, shuffle=True)
        for x, z, y in loader:
            found[seed] = run_program(r, operations, x, z, y)
    return found


results = main()
