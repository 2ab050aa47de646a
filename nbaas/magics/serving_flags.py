"""The flags of `%deploy` that say how an endpoint is run, and the options they make."""

from __future__ import annotations

import argparse
import re
from typing import Any

from nbaas.deploy.engine_choice import ENGINES
from nbaas.deploy.quantities import duration, size
from nbaas.deploy.registry import Options
from nbaas.magics.flags import LineParser, number, whole_number

RANGE = re.compile(r"([0-9]+)(?:\.\.([0-9]+))?")


def add_serving_flags(parser: LineParser) -> None:
    add = parser.add_argument
    add(
        "--replicas",
        type=replica_range,
        metavar="N|N..M",
        help="model processes; M while requests wait",
    )
    add("--idle", type=duration, metavar="10m", help="keep none after so long without a request")
    add("--device", metavar="D", help="auto, cpu, cuda (GPUs in turn) or cuda:1")
    add(
        "--threads",
        type=whole_number,
        metavar="T",
        help="of each replica; cores shared out if not given",
    )
    add("--max-batch", type=whole_number, metavar="B", help="rows in one call of the model")
    add("--max-wait", type=number, metavar="MS", help="milliseconds a lone row waits for others")
    add("--max-body", type=size, metavar="16M", help="largest request")
    add("--timeout", type=duration, metavar="60s", help="for one request, or one item of a stream")
    add("--max-items", type=whole_number, metavar="N", help="of one stream; 10000")
    add("--rate", type=number, metavar="R", help="requests a second for each token")
    add("--cors", metavar="ORIGINS", help="pages that may ask: https://a.example,... or *")
    add(
        "--engine",
        default="torch",
        choices=ENGINES,
        help="onnx, or auto: the faster one by measurement, if it gives the same answers",
    )


def serving_options(found: Any) -> Options:
    """Return the options that the flags of a line make."""
    least, most = found.replicas or (None, None)
    given = {
        "replicas": least,
        "most": most,
        "max_wait": None if found.max_wait is None else found.max_wait / 1000,
    }
    for name in (
        "idle",
        "device",
        "threads",
        "max_batch",
        "max_body",
        "timeout",
        "max_items",
        "rate",
        "cors",
        "engine",
    ):
        given[name] = getattr(found, name)
    return Options(**{key: value for key, value in given.items() if value is not None})


def replica_range(text: str) -> tuple[int, int]:
    """Return the numbers of '2' or '1..4'; the second is 0 where there is one."""
    match = RANGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a range such as 1..4")
    return int(match[1]), int(match[2] or 0)
