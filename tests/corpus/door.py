"""The corpus through the real door: each notebook in a kernel, its training cell under `%%train`.

The same cells run plainly in another kernel; what both print and hold afterwards is compared.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.magics.kernel_notebook import Cell, Notebook
from tests.parallel.compare import differences
from tests.parallel.harness import Verdict, untimed
from tests.parallel.rank import SEED

if TYPE_CHECKING:
    from tests.parallel.sources import Case

ROOT = Path(__file__).parents[2]
FRESH = f"""%reset -f
%matplotlib agg
import random, numpy, torch
torch.set_num_threads(1); torch.set_default_dtype(torch.float32)
torch.manual_seed({SEED}); random.seed({SEED}); numpy.random.seed({SEED})
del random, numpy, torch
"""
KEEP = """
def _values(path, ignore):
    import pickle, sys
    sys.path.insert(0, {root!r})
    from tests.parallel.rank import collect
    with open(path, "wb") as file:
        pickle.dump(collect(globals(), {{"ignore": ignore}}), file)
_values({path!r}, {ignore!r})
"""
QUIET = "import warnings; warnings.simplefilter('ignore')\n"
BAR = "%|"  # of tqdm
OF_IPYTHON = ["In", "Out", "exit", "quit", "get_ipython"]


class Door:
    """Two kernels, one with nbaas; notebooks run in both, one after another."""

    def __init__(self, engine: str = "ddp") -> None:
        self.engine = engine
        self.folder = tempfile.TemporaryDirectory(prefix="door-")
        self.plain = Notebook(Path(self.folder.name) / "plain")
        self.nbaas = Notebook(Path(self.folder.name) / "nbaas")

    def close(self) -> None:
        for notebook in (self.plain, self.nbaas):
            notebook.__exit__()
        self.folder.cleanup()

    def verdict(self, case: Case, ranks: int) -> Verdict:
        began = time.monotonic()
        try:
            expected = self._run(self.plain, case, "")
            found = self._run(self.nbaas, case, f"%%train --ranks {ranks} --engine {self.engine}\n")
        except CellFailedError as failed:
            return Verdict(case, ranks, "failed", str(failed), seconds=time.monotonic() - began)
        told = differences(expected, found, case.rtol)
        word = "different" if told else "same"
        return Verdict(case, ranks, word, "\n".join(told), seconds=time.monotonic() - began)

    def _run(self, notebook: Notebook, case: Case, magic: str) -> dict[str, object]:
        """Return what a notebook prints and holds, as `differences` takes it."""
        _checked(notebook.run(FRESH))
        if magic:
            _checked(notebook.run("%load_ext nbaas"))
        printed = []
        for phase, source in case.phases.items():
            # Warnings of a rank come into the cell's output, those of a kernel do not.
            above = magic + QUIET if phase == "train" else ""
            printed.append(_checked(notebook.run(above + source)).stdout)
        path = str(Path(self.folder.name) / "values.pkl")
        ignore = [*case.ignore, *OF_IPYTHON]
        _checked(notebook.run(KEEP.format(root=str(ROOT), path=path, ignore=ignore)))
        values = pickle.loads(Path(path).read_bytes())
        # A rank's standard error, where progress bars are drawn, comes into the cell's output.
        text = untimed("".join(printed), (*case.timed, BAR))
        return {"text": "\n".join(filter(str.strip, text.splitlines())), "values": values}


class CellFailedError(Exception):
    pass


def _checked(cell: Cell) -> Cell:
    if cell.error:
        raise CellFailedError(cell.error)
    return cell
