"""Prometheus metrics. Each application has its own registry, so that several can run in one process."""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobs.errors import LedgerError
from service.dependencies import Dependencies
from worker.errors import BrokerUnavailable

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The requests that this process has handled, and their durations."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "backdoor_audit_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "backdoor_audit_http_request_seconds",
            "Seconds from a request's head to the end of its response.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; ``route`` is a path template. Unknown methods are counted together."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self, dependencies: Dependencies) -> bytes:
        """Everything in the text format; queries ledger and broker, so it blocks."""
        scrape = CollectorRegistry()
        scrape.register(_Queue(dependencies))
        return generate_latest(self._registry) + generate_latest(scrape)


class _Queue(Collector):
    """The queue's current state in ledger and broker. What cannot be queried is left out, and ``up`` says so."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._services = dependencies

    def describe(self) -> list[Metric]:
        """Nothing: registering must not query the ledger."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Query ledger and broker."""
        up = GaugeMetricFamily("backdoor_audit_up", "Whether a component of the service responds.", labels=("part",))
        try:
            counts = self._services.ledger.counts()
        except LedgerError:
            up.add_metric(("ledger",), 0)
        else:
            up.add_metric(("ledger",), 1)
            audits = GaugeMetricFamily("backdoor_audit_audits", "Audits in each state.", labels=("status",))
            for status, number in counts.by_status.items():
                audits.add_metric((status,), number)
            yield audits
            yield GaugeMetricFamily(
                "backdoor_audit_oldest_queued_seconds",
                "How long the longest-waiting queued audit has waited.",
                value=counts.oldest_queued_s,
            )
            yield CounterMetricFamily("backdoor_audit_leases_reaped", "Leases that ran out.", value=counts.reaped_total)
            yield _counter("backdoor_audit_transitions", "Audits that entered a state.", "to", counts.transitions)
            yield _counter(
                "backdoor_audit_stage_seconds",
                "Seconds that the succeeded audits spent in a stage.",
                "stage",
                counts.stage_seconds,
            )
        try:
            length = self._services.dispatcher.queue_length()
        except BrokerUnavailable:
            up.add_metric(("broker",), 0)
        else:
            up.add_metric(("broker",), 1)
            yield GaugeMetricFamily("backdoor_audit_broker_messages", "Messages waiting on the broker.", value=length)
        yield up


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
