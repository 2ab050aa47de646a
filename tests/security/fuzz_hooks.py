"""Loaded by schemathesis: every other valid job id is that of a job which is there."""

from __future__ import annotations

import os
import re

import schemathesis

JOB_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    given = (path_parameters or {}).get("job_id")
    if isinstance(given, str) and JOB_ID.fullmatch(given) and int(given[-1], 16) % 2 == 0:
        return path_parameters | {"job_id": os.environ["NBAAS_TEST_JOB"]}
    return path_parameters
