"""Counters of one version, owned by the gateway; plain integers, read when they are scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

LATENCY_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Counters:
    """What one version has done; a request costs two additions and a bisection."""

    __slots__ = ("batch_sizes", "by_status", "items", "latencies", "latency_sum", "restarts")

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}
        self.latencies = [0] * (len(LATENCY_BUCKETS) + 1)
        self.latency_sum = 0.0  # seconds
        self.batch_sizes = [0] * (len(BATCH_BUCKETS) + 1)  # requests, by the batch they were in
        self.restarts = 0
        self.items = 0  # of streams

    def request(self, status: int, seconds: float) -> None:
        self.by_status[status] = self.by_status.get(status, 0) + 1
        self.latencies[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.latency_sum += seconds

    def batches(self, size: int) -> None:
        self.batch_sizes[bisect_left(BATCH_BUCKETS, size)] += 1

    @property
    def requests(self) -> int:
        return sum(self.by_status.values())

    @property
    def errors(self) -> int:
        return sum(count for status, count in self.by_status.items() if status >= 500)  # noqa: PLR2004

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "items": self.items,
            "by_status": {str(status): n for status, n in sorted(self.by_status.items())},
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
        }

    def quantile(self, share: float) -> float:
        """Return the upper edge, in seconds, of the bucket in which `share` of the requests lie."""
        wanted, seen = share * sum(self.latencies), 0
        for edge, count in zip((*LATENCY_BUCKETS, float("inf")), self.latencies, strict=True):
            seen += count
            if count and seen >= wanted:
                return min(edge, LATENCY_BUCKETS[-1])
        return 0.0


Row = tuple[str, str, Counters, int, int]  # endpoint, version, counters, in flight, replicas ready


class Collector:
    """What prometheus_client asks at a scrape; `rows` gives the versions of that moment."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        labels = ["endpoint", "version"]
        requests = CounterMetricFamily("nbaas_requests", "Answers", labels=[*labels, "code"])
        latency = HistogramMetricFamily(
            "nbaas_request_seconds", "Time from request to answer", labels=labels
        )
        batch = HistogramMetricFamily(
            "nbaas_batch_size", "Requests, by the size of the batch they ran in", labels=labels
        )
        in_flight = GaugeMetricFamily("nbaas_in_flight", "Requests unanswered", labels=labels)
        replicas = GaugeMetricFamily("nbaas_replicas_ready", "Replicas connected", labels=labels)
        losses = CounterMetricFamily(
            "nbaas_replica_losses", "Replicas lost with requests in flight", labels=labels
        )
        items = CounterMetricFamily("nbaas_stream_items", "Items of streams", labels=labels)
        for name, version, counters, outstanding, ready in self.rows:
            where = [name, version]
            for status, count in sorted(counters.by_status.items()):
                requests.add_metric([*where, str(status)], count)
            latency.add_metric(
                where, _cumulated(LATENCY_BUCKETS, counters.latencies), counters.latency_sum
            )
            batch.add_metric(where, _cumulated(BATCH_BUCKETS, counters.batch_sizes), None)
            in_flight.add_metric(where, outstanding)
            replicas.add_metric(where, ready)
            losses.add_metric(where, counters.restarts)
            items.add_metric(where, counters.items)
        yield from (requests, latency, batch, in_flight, replicas, losses, items)


def _cumulated(edges: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for edge, count in zip((*edges, float("inf")), counts, strict=True):
        total += count
        buckets.append(("+Inf" if edge == float("inf") else f"{edge:g}", float(total)))
    return buckets


def scraped(rows: Iterable[Row]) -> bytes:
    """Return the metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(rows))
    return bytes(generate_latest(registry))
