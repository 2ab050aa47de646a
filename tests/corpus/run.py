"""Print how many training cells give the numbers of one device: pattern, ranks, same or not.

    python tests/corpus/run.py                 the notebooks of this folder on 1, 2, 3 and 4 ranks
    python tests/corpus/run.py --all           and every case of tests/parallel/cases
    python tests/corpus/run.py --all gan mixup --worlds 2,3     only those whose name holds a word
    python tests/corpus/run.py --door          the notebooks through %%train in a real kernel, too

Exits with 1 if a run differed, failed or hung.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from tests.corpus.door import Door  # noqa: E402 - run as a program
from tests.parallel.harness import Harness, Verdict  # noqa: E402
from tests.parallel.sources import Case, all_scripts, read_notebook  # noqa: E402

CASES = ROOT / "tests" / "parallel" / "cases"
GOOD = ("same", "refused")


def main() -> int:
    options = read_options()
    cases = chosen(options)
    harness = Harness(engine=options.engine, timeout=options.timeout, keep=options.keep)
    door = Door(options.engine) if options.door else None
    tally: Counter[str] = Counter()
    bad: list[Verdict] = []
    kept: list[Verdict] = []
    print(f"{'pattern':58} {'case':44} " + " ".join(f"{w:>9}" for w in options.worlds)
          + (f" {'%%train 2':>9}" if door else ""))  # fmt: skip
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            for verdicts in pool.map(lambda case: rows(harness, case, options.worlds), cases):
                case = verdicts[0].case
                if door is not None and case.group == "corpus" and not case.env:
                    verdicts.append(door.verdict(case, 2))
                print(line(verdicts), flush=True)
                tally.update(v.word for v in verdicts)
                bad += [v for v in verdicts if v.word not in GOOD]
                kept += verdicts
    finally:
        harness.close()
        if door is not None:
            door.close()
    if options.json:
        options.json.write_text(json.dumps([plain_row(v) for v in kept], indent=1))
    for verdict in bad:
        print("\n" + told(verdict, options.lines))
    print("\n" + summary(tally))
    return 1 if bad else 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only cases whose group/name holds one of them")
    parser.add_argument("--all", action="store_true", help="the cases of tests/parallel too")
    parser.add_argument("--door", action="store_true", help="notebooks under %%%%train, too")
    parser.add_argument("--worlds", default="1,2,3,4", type=numbers, metavar="1,2,3,4")
    parser.add_argument("--engine", default="ddp", help="horovod, ddp (default)")
    parser.add_argument("--timeout", default=300.0, type=float, help="seconds a run may take")
    parser.add_argument("--jobs", default=2, type=int, help="cases at one time")
    parser.add_argument("--lines", default=25, type=int, help="lines told of each failure")
    parser.add_argument("--json", type=Path, help="write every verdict here")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the runs")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def chosen(options: argparse.Namespace) -> list[Case]:
    found = [read_notebook(path) for path in sorted(HERE.glob("*.ipynb"))]
    if options.all:
        found += all_scripts(CASES)
    if options.words:
        found = [c for c in found if any(w in f"{c.group}/{c.name}" for w in options.words)]
    absent = [c for c in found if c.missing]
    for case in absent:
        print(f"skipped {case.group}/{case.name}: {', '.join(case.missing)} not installed")
    return [case for case in found if not case.missing]


def rows(harness: Harness, case: Case, worlds: list[int]) -> list[Verdict]:
    return [harness.verdict(case, world) for world in worlds]


def line(verdicts: list[Verdict]) -> str:
    case = verdicts[0].case
    name = f"{case.group}/{case.name}"
    return f"{case.pattern[:58]:58} {name[:44]:44} " + " ".join(f"{v.word:>9}" for v in verdicts)


def told(verdict: Verdict, most: int) -> str:
    lines = verdict.why.splitlines()
    shown = lines if len(lines) <= most else [*lines[: most // 2], "...", *lines[-most // 2 :]]
    head = f"{verdict.case.group}/{verdict.case.name} on {verdict.world}: {verdict.word}"
    return "\n".join([head, *(f"    {text}" for text in shown)])


def plain_row(verdict: Verdict) -> dict[str, object]:
    row = asdict(verdict)
    row["case"] = f"{verdict.case.group}/{verdict.case.name}"
    return row


def summary(tally: Counter[str]) -> str:
    total = sum(tally.values())
    parts: Iterator[str] = (f"{count} {word}" for word, count in tally.most_common())
    return f"{', '.join(parts)} of {total} runs; share that is same {tally['same'] / max(1, total):.1%}"


if __name__ == "__main__":
    sys.exit(main())
