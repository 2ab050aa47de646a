"""The control routes: jobs, hosts, endpoints.  Each method asks one question or does one thing."""

from __future__ import annotations

import time
from functools import partial

from tornado import web

from nbaas.config import load_settings
from nbaas.deploy.cards import read_card
from nbaas.deploy.client import (
    TokenRecord,
    create_token,
    list_tokens,
    revoke_token,
    rollback,
    set_canary,
    token,
    undeploy,
)
from nbaas.jobs.cost import Cost, cost_of, prices_of
from nbaas.jobs.job import Job, JobStatus
from nbaas.jobs.resume import resume
from nbaas.server.base import NbaasHandler
from nbaas.server.endpoints import share_row
from nbaas.server.guard import guarded
from nbaas.server.hosts import check_here, read_hosts
from nbaas.server.jobs import JobDetail, JobIndex, detailed
from nbaas.server.logs import LONGEST, LogPart, read_log
from nbaas.server.messages import (
    MOST_BYTES,
    MOST_JOBS,
    MOST_POINTS,
    MOST_RANKS,
    MOST_VERSIONS,
    Checked,
    Endpoints,
    Grace,
    Hosts,
    Jobs,
    Made,
    Named,
    NewToken,
    Nothing,
    Opened,
    Revoked,
    Served,
    Shared,
    Split,
    TokenRow,
    Tokens,
    Wanted,
)
from nbaas.server.openapi import document
from nbaas.server.outputs import read_outputs


class JobsHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self) -> None:
        limit = self.integer("limit", 50, most=MOST_JOBS)
        rows, finished = await self.context.call(self.context.jobs.rows, limit)
        self.reply(Jobs(rows, finished))


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


class OutputsHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self, job_id: str) -> None:
        job = await self.context.call(self.context.jobs.find, job_id)
        self.reply(await self.context.call(read_outputs, job))


class StopHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, job_id: str) -> None:
        grace = self.body(Grace).grace
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


class CheckpointHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, job_id: str) -> None:
        self.body(Nothing)
        job = await self.context.call(self.context.jobs.find, job_id)
        await self.context.call(job.checkpoint)
        self.reply(await self.context.call(self.context.jobs.row, job), 202)


class ResumeHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, job_id: str) -> None:
        self.body(Nothing)
        job = await self.context.call(self.context.jobs.find, job_id)
        going = await self.context.call(resume, self.context.settings, job)
        self.reply(await self.context.call(self.context.jobs.row, going), 201)


class HostsHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self) -> None:
        self.reply(await self.context.call(_hosts, self.context.jobs))


class CheckHandler(NbaasHandler):
    """What this host has and lacks; a POST, since it starts programs to find out."""

    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self) -> None:
        self.body(Nothing)
        self.reply(Checked(await self.context.call(check_here, self.context.settings)))


class EndpointsHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self) -> None:
        self.reply(Endpoints(await self.context.call(self.context.endpoints.rows)))


class CardHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self, name: str) -> None:
        version = self.integer("version", 0, most=MOST_VERSIONS) or None
        self.reply(await self.context.call(read_card, self.context.settings, name, version))


class UndeployHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, name: str) -> None:
        self.body(Nothing)
        await self.context.call(undeploy, self.context.settings, name)
        self.reply(Named(name))


class RollbackHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, name: str) -> None:
        version = whole(self.body(Wanted).version)
        served = await self.context.call(rollback, self.context.settings, name, version)
        self.reply(Served(name, served.version))


class CanaryHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, name: str) -> None:
        split = self.body(Split)
        change = partial(
            set_canary, self.context.settings, name, split.percent,
            version=whole(split.version), limit=split.limit, shadow=split.shadow,
        )  # fmt: skip
        status = await self.context.call(change)
        self.reply(Shared(name, status.version, share_row(status.canary), share_row(status.shadow)))


class TokenHandler(NbaasHandler):
    """The token of an endpoint, for who may change it: a POST, so that no other site can have it."""

    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, name: str) -> None:
        self.body(Nothing)
        self.reply(Opened(name, await self.context.call(token, self.context.settings, name)))


class TokensHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET", "POST")

    @guarded("read")
    async def get(self, name: str) -> None:
        found = await self.context.call(list_tokens, self.context.settings, name)
        self.reply(Tokens([_token_row(token) for token in found]))

    @guarded("write")
    async def post(self, name: str) -> None:
        new = self.body(NewToken)
        make = partial(
            create_token, self.context.settings, name,
            label=new.label, lifetime=new.lifetime, rate=new.rate,
        )  # fmt: skip
        made = await self.context.call(make)
        self.reply(Made(_token_row(made), made.value), 201)


class RevokeHandler(NbaasHandler):
    SUPPORTED_METHODS = ("POST",)

    @guarded("write")
    async def post(self, name: str) -> None:
        identity = self.body(Revoked).id
        await self.context.call(revoke_token, self.context.settings, name, identity)
        self.reply(Named(name))


def _token_row(token: TokenRecord) -> TokenRow:
    return TokenRow(token.id, token.label, token.created, token.expires, token.rate)


class OpenApiHandler(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @guarded("read")
    async def get(self) -> None:
        self.reply(document(self.base_url))


class NothingHereHandler(NbaasHandler):
    """What no other pattern matched."""

    @guarded("read")
    async def get(self) -> None:
        raise web.HTTPError(404, "no such route; /nbaas/api/openapi.json lists them")

    @guarded("write")
    async def post(self) -> None:
        raise web.HTTPError(404, "no such route; /nbaas/api/openapi.json lists them")


def _hosts(jobs: JobIndex) -> Hosts:
    here, others = read_hosts(jobs.holders())
    return Hosts([here], others)


def whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _detail(jobs: JobIndex, job_id: str, points: int) -> JobDetail:
    job = jobs.find(job_id)
    status = job.status()
    failure = status.failure
    traceback = failure.traceback if failure is not None else ""
    return detailed(jobs.row(job), jobs.series(job, points), traceback, _cost(job, status))


def _cost(job: Job, status: JobStatus) -> Cost:
    return cost_of(job, status, prices_of(load_settings()), time.time())


def _log(jobs: JobIndex, job_id: str, rank: int, start: int | None, tail: int) -> LogPart:
    job = jobs.find(job_id)
    path = job.log(rank).path
    return read_log(path, job.spec.world_size, start=start, longest=tail)
