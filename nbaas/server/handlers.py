"""The control routes: jobs, hosts, endpoints.  Each method asks one question or does one thing."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from nbaas.deploy.client import rollback, undeploy
from nbaas.errors import UsageError
from nbaas.server.base import NbaasHandler
from nbaas.server.guard import guarded
from nbaas.server.hosts import read_host
from nbaas.server.jobs import JobIndex
from nbaas.server.logs import LONGEST, read_log

MOST_JOBS = 10_000
MOST_POINTS = 5_000
MOST_RANKS = 4096
MOST_BYTES = 1 << 50


class Grace(msgspec.Struct, forbid_unknown_fields=True):
    """Seconds from the request to stop until ranks that do not listen are killed."""

    grace: float | None = None


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The version to serve; none is the one before."""

    version: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request that has nothing to say."""


class JobsHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self) -> None:
        limit = self.integer("limit", 50, most=MOST_JOBS)
        rows, finished = await self.context.call(self.context.jobs.rows, limit)
        self.reply({"jobs": rows, "finished": finished})


class JobHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self, job_id: str) -> None:
        points = self.integer("points", 600, least=2, most=MOST_POINTS)
        self.reply(await self.context.call(_detail, self.context.jobs, job_id, points))


class LogHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self, job_id: str) -> None:
        rank = self.integer("rank", 0, most=MOST_RANKS)
        given = self.get_query_argument("start", None)
        start = None if given is None else self.integer("start", 0, most=MOST_BYTES)
        tail = self.integer("tail", LONGEST, least=1, most=LONGEST)
        self.reply(await self.context.call(_log, self.context.jobs, job_id, rank, start, tail))


class StopHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, job_id: str) -> None:
        grace = self.body(Grace).grace
        if grace is not None and not 0 <= grace <= 86400:  # noqa: PLR2004 - a day
            raise UsageError(f"grace={grace}: seconds from 0 to 86400")
        job = await self.context.call(self.context.jobs.find, job_id)
        await self.context.call(job.stop, grace)
        self.reply(await self.context.call(self.context.jobs.row, job), 202)


class KillHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, job_id: str) -> None:
        self.body(Nothing)
        job = await self.context.call(self.context.jobs.find, job_id)
        await self.context.call(job.kill)
        self.reply(await self.context.call(self.context.jobs.row, job), 202)


class HostsHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self) -> None:
        self.reply({"hosts": [await self.context.call(_host, self.context.jobs)]})


class EndpointsHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self) -> None:
        self.reply({"endpoints": await self.context.call(self.context.endpoints.rows)})


class UndeployHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, name: str) -> None:
        self.body(Nothing)
        await self.context.call(undeploy, self.context.settings, name)
        self.reply({"name": name})


class RollbackHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, name: str) -> None:
        version = self.body(Wanted).version
        served = await self.context.call(rollback, self.context.settings, name, version)
        self.reply({"name": name, "version": served.version})


def _detail(jobs: JobIndex, job_id: str, points: int) -> dict[str, Any]:
    job = jobs.find(job_id)
    row, failure = jobs.row(job), job.status().failure
    return {
        **msgspec.to_builtins(row),
        "series": jobs.series(job, points),
        "traceback": failure.traceback if failure is not None else "",
    }


def _log(jobs: JobIndex, job_id: str, rank: int, start: int | None, tail: int) -> Any:
    job = jobs.find(job_id)
    path = job.log(rank).path
    return read_log(path, job.spec.world_size, start=start, longest=tail)


def _host(jobs: JobIndex) -> dict[str, Any]:
    return read_host(*jobs.holders())
