"""A rank that waits for a world that is never whole."""

from __future__ import annotations

import json
import sys

from nbaas.engines.base import engine_named
from nbaas.errors import EngineError
from nbaas.records import Slot, from_json

try:
    engine_named(sys.argv[1]).start(from_json(Slot, json.loads(sys.argv[2])), timeout=2)
except EngineError as error:
    print(json.dumps(str(error)))
