"""How many replicas a version is to have: by what waits for one, down to none after long silence.

The decision is pure (`Scaler`); `watch_load` asks the gateway what waits, and the host acts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbaas.deploy.endpoints import Host

LOOK = 0.5  # seconds
CROWDED = 1.0  # seconds that requests have waited before one more replica is started
SPARE = 30.0  # seconds that one replica fewer would have done before it ends


@dataclass(frozen=True, slots=True)
class Load:
    """What the gateway sees of one version."""

    waiting: int  # requests that no replica has room for
    in_flight: int
    credits: int  # requests that one replica takes at a time
    silent: float  # seconds since the last request


@dataclass(slots=True)
class Scaler:
    """Remembers since when a version has been crowded or half empty; time is an argument."""

    crowded: float | None = None
    spare: float | None = None

    def wanted(
        self, now: float, replicas: int, load: Load, *, least: int, most: int, idle: float
    ) -> int:
        """Return how many replicas there are to be; `idle` 0 never ends the last ones."""
        busy = load.waiting + load.in_flight
        if not replicas:
            return least if busy else 0
        if idle and not busy and load.silent >= idle:
            self.crowded = self.spare = None
            return 0
        self.crowded = (self.crowded if self.crowded is not None else now) if load.waiting else None
        fits = busy <= (replicas - 1) * load.credits / 2
        self.spare = (self.spare if self.spare is not None else now) if fits else None
        if self.crowded is not None and now - self.crowded >= CROWDED and replicas < most:
            self.crowded = now
            return replicas + 1
        if self.spare is not None and now - self.spare >= SPARE and replicas > least:
            self.spare = now
            return replicas - 1
        return max(least, min(replicas, most))


async def watch_load(host: Host) -> None:
    """Keep the number of replicas of every version right, for as long as the host lives."""
    scalers: dict[tuple[str, int], Scaler] = {}
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK)
        scaled = {key: fleet for key, fleet in host.fleets.items() if fleet.scales}
        scalers = {key: scalers.get(key) or Scaler() for key in scaled}
        stats = await host.front.stats() if scaled else {}
        for (name, version), fleet in scaled.items():
            counts: dict[str, Any] = stats.get(name, {}).get(str(version), {})
            if not counts or host.fleets.get((name, version)) is not fleet:
                continue
            load = Load(counts["waiting"], counts["in_flight"], fleet.credits, counts["silent"])
            options = fleet.options
            host.resize(
                fleet,
                scalers[name, version].wanted(
                    loop.time(), len(fleet.replicas), load,
                    least=fleet.least, most=fleet.most, idle=options.idle,
                ),
            )  # fmt: skip
