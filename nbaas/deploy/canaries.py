"""Canaries that are withdrawn by themselves: too large a share of their answers were 5xx.

The decision is pure (`Guard`); `watch_canaries` asks the gateway for its counts and acts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbaas.deploy.endpoints import Host

LOOK = 0.5  # seconds
WINDOW = 30.0  # seconds over which the share is taken
ENOUGH = 20  # answers; fewer say nothing


@dataclass(slots=True)
class Guard:
    """What one canary has answered of late; time is an argument."""

    seen: deque[tuple[float, int, int]] = field(default_factory=deque)  # time, answers, 5xx

    def broken(self, now: float, answers: int, errors: int, limit: float) -> str:
        """Return why the canary is to go, by its counts so far; empty while it may stay."""
        if self.seen and answers < self.seen[-1][1]:
            self.seen.clear()  # another gateway counts anew
        self.seen.append((now, answers, errors))
        while len(self.seen) > 1 and now - self.seen[1][0] >= WINDOW:
            self.seen.popleft()
        _, first_answers, first_errors = self.seen[0] if len(self.seen) > 1 else (0.0, 0, 0)
        if now - self.seen[0][0] < WINDOW:
            first_answers = first_errors = 0  # all it has answered lies in the window
        answered, failed = answers - first_answers, errors - first_errors
        if answered < ENOUGH or failed * 100 <= limit * answered:
            return ""
        return f"{failed} of its last {answered} answers were errors, over {limit:g} %"


async def watch_canaries(host: Host) -> None:
    """Withdraw canaries that break their limit, for as long as the host lives."""
    guards: dict[tuple[str, int], Guard] = {}
    while True:
        await asyncio.sleep(LOOK)
        watched = {
            (r.name, r.canary.version): r.canary.limit
            for r in host.ledger.records.values()
            if r.canary and r.canary.limit
        }
        guards = {key: guards.get(key, Guard()) for key in watched}
        stats = await host.front.stats() if watched else {}
        for (name, version), limit in watched.items():
            counts: dict[str, Any] = stats.get(name, {}).get(str(version), {})
            now = asyncio.get_running_loop().time()
            guard = guards[name, version]
            if counts and (why := guard.broken(now, counts["requests"], counts["errors"], limit)):
                await host.withdraw_canary(name, version, why)
