"""One rank without its engine: loads a bundle, runs the cell, writes the result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nbaas.bundle import JournalSink, describe_failure, open_bundle, set_sink, write_result
from nbaas.records import to_json


def main() -> int:
    job = Path(sys.argv[1])
    set_sink(JournalSink(job / "displays.jsonl"))
    bundle = open_bundle(job / "bundle")
    namespace = bundle.load()
    code = 0
    try:
        bundle.execute(namespace)
    except Exception as failed:
        failure = describe_failure(failed, 0, bundle)
        (job / "failure.json").write_text(json.dumps(to_json(failure)))
        code = 1
    write_result(job / "result", bundle, namespace, bundle.blobs)
    return code


if __name__ == "__main__":
    sys.exit(main())
