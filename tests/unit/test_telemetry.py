from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.openlineage import facet
from airflow.providers.common.compat.sdk import Asset, Stats
from airflow.sdk import AssetAlias
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk._shared.observability.metrics.statsd_logger import SafeStatsdLogger
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_restrack.capacity.refresh import RollupResult
from airflow_provider_restrack.load.policy import LoadResult
from airflow_provider_restrack.telemetry import (
    Dataset,
    build_lineage,
    cassandra_namespace,
    count_alerts,
    count_load,
    count_rollup,
    kafka_namespace,
    note_outlets,
    task_tags,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class StatsdClient:
    """Stands in for the client of the statsd package, below Airflow's own logger: it notes what is sent."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def incr(self, stat: str, count: int, rate: float) -> None:
        self.sent[stat] = count

    def gauge(self, stat: str, value: float, rate: float, delta: bool) -> None:
        self.sent[stat] = value

    def timing(self, stat: str, dt: Any) -> None:
        self.sent[stat] = dt.total_seconds()


@pytest.fixture
def statsd() -> Iterator[StatsdClient]:
    """Airflow's metrics, sent through its statsd logger with tags in InfluxDB's form."""
    client = StatsdClient()
    logger = SafeStatsdLogger(client, influxdb_tags_enabled=True, statsd_influxdb_enabled=True)  # type: ignore[arg-type]
    Stats.initialize(factory=lambda: logger, export_legacy_names=False)
    yield client
    Stats.initialize(factory=NoStatsLogger, export_legacy_names=True)


def test_alerts_go_to_airflows_metrics_with_tags(statsd: StatsdClient) -> None:
    result = {"open": {"critical": 2}, "changed": {"fired": 3}, "messages": 4, "failed": ["x"]}

    count_alerts(result, {"dag_id": "d"})

    assert statsd.sent == {
        "restrack.alerts.open,dag_id=d,severity=info": 0,
        "restrack.alerts.open,dag_id=d,severity=warning": 0,
        "restrack.alerts.open,dag_id=d,severity=critical": 2,
        "restrack.alerts.transitions,dag_id=d,kind=fired": 3,
        "restrack.alerts.messages,dag_id=d": 4,
        "restrack.alerts.failed_messages,dag_id=d": 1,
    }


def test_counts_lag_and_durations_go_to_airflows_metrics_with_tags(statsd: StatsdClient) -> None:
    result = LoadResult(
        records=10, rows=20, batches=4, dead_letters=1, expired=2, lost=3, superseded=5, retries=6,
        lag_after=7, seconds=1.5, write_p50_ms=2.0, write_p99_ms=40.0,
    )  # fmt: skip

    count_load(result, {"dag_id": "a_dag", "task_id": "group.load"})

    assert statsd.sent == {
        f"restrack.load.{name},dag_id=a_dag,task_id=group.load": value
        for name, value in {
            "records": 10, "rows": 20, "batches": 4, "dead_letters": 1, "expired": 2, "lost": 3,
            "superseded": 5, "retries": 6, "lag": 7, "duration": 1.5, "write_p50": 0.002, "write_p99": 0.04,
        }.items()
    }  # fmt: skip


def test_a_rollup_is_counted_by_tier(statsd: StatsdClient) -> None:
    result = RollupResult(samples=60, buckets={"5m": 12, "1h": 1}, expired={"5m": 3, "1h": 0}, seconds=0.5)

    count_rollup(result, {"task_id": "rollup"})

    assert statsd.sent == {
        "restrack.rollup.samples,task_id=rollup": 60,
        "restrack.rollup.buckets,task_id=rollup,tier=5m": 12,
        "restrack.rollup.buckets,task_id=rollup,tier=1h": 1,
        "restrack.rollup.expired,task_id=rollup,tier=5m": 3,
        "restrack.rollup.expired,task_id=rollup,tier=1h": 0,
        "restrack.rollup.duration,task_id=rollup": 0.5,
    }


def test_what_was_not_written_has_no_times(statsd: StatsdClient) -> None:
    count_load(LoadResult(), {})

    assert "restrack.load.duration" in statsd.sent
    assert not [name for name in statsd.sent if "write" in name]


@pytest.mark.parametrize(
    ("instance", "tags"),
    [
        (None, {"dag_id": "", "task_id": "load"}),
        (SimpleNamespace(dag_id="d", map_index=-1), {"dag_id": "d", "task_id": "load"}),
        (SimpleNamespace(dag_id="d", map_index=None), {"dag_id": "d", "task_id": "load"}),
        (SimpleNamespace(dag_id="d", map_index=3), {"dag_id": "d", "task_id": "load", "map_index": "3"}),
    ],
)
def test_tags_name_the_task(instance: Any, tags: dict[str, str]) -> None:
    assert task_tags({"ti": instance}, "load") == tags


@pytest.mark.parametrize(
    ("servers", "namespace"),
    [
        ("k1:9092", "kafka://k1:9092"),
        ("k1:9093,k2:9092", "kafka://k1:9093"),
        (" SASL_SSL://k1:9093 ,k2", "kafka://k1:9093"),
        ("k1", "kafka://k1:9092"),
        ("[::1]:9092", "kafka://[::1]:9092"),
        ("[::1]", "kafka://[::1]:9092"),
    ],
)
def test_a_topics_namespace_is_the_first_broker(servers: str, namespace: str) -> None:
    assert kafka_namespace(servers) == namespace


@pytest.mark.parametrize(
    ("points", "namespace"), [(("c1", "c2"), "cassandra://c1:9043"), (("::1",), "cassandra://[::1]:9043")]
)
def test_a_tables_namespace_is_the_first_contact_point(points: tuple[str, ...], namespace: str) -> None:
    assert cassandra_namespace(points, 9043) == namespace


def test_every_asset_among_the_outlets_gets_the_counts_and_keeps_what_it_has() -> None:
    first, second = Asset("first"), Asset("cassandra://c1:9042/metrics/latest_metrics")
    events = OutletEventAccessors()
    events[first].extra["own"] = True

    note_outlets({"outlet_events": events}, [first, AssetAlias("alias"), second], {"rows": 3})

    assert events[first].extra == {"own": True, "rows": 3}
    assert events[second].extra == {"rows": 3}
    assert len(events) == 2


def test_outside_of_a_run_there_are_no_events() -> None:
    note_outlets({}, [Asset("a")], {"rows": 3})


class Facet:
    """Stands in for the classes of OpenLineage's client: it keeps what it is made of."""

    def __init__(self, *names: str, **fields: Any) -> None:
        self.__dict__ |= dict(zip(("namespace", "name"), names, strict=False)) | fields


@pytest.fixture
def openlineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The OpenLineage provider: its own classes where it is installed, stand-ins of their shape elsewhere."""
    try:
        import airflow.providers.openlineage.extractors  # noqa: F401
    except ImportError:
        module = ModuleType("airflow.providers.openlineage.extractors")
        module.OperatorLineage = SimpleNamespace  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", ModuleType("openlineage"))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        for name in ("InputDataset", "OutputDataset", "OutputStatisticsOutputDatasetFacet"):
            monkeypatch.setattr(facet, name, Facet)


@pytest.mark.usefixtures("openlineage")
def test_lineage_has_the_datasets_and_the_rows_that_were_written() -> None:
    lineage = build_lineage(
        [Dataset("kafka://k1:9092", "t")],
        [Dataset("cassandra://c1:9042", "ks.t", 7), Dataset("cassandra://c1:9042", "ks.u")],
    )

    assert [(one.namespace, one.name) for one in lineage.inputs] == [("kafka://k1:9092", "t")]
    assert [(one.namespace, one.name) for one in lineage.outputs] == [
        ("cassandra://c1:9042", "ks.t"),
        ("cassandra://c1:9042", "ks.u"),
    ]
    assert lineage.outputs[0].outputFacets["outputStatistics"].rowCount == 7
    assert not getattr(lineage.outputs[1], "outputFacets", None)


def test_without_the_openlineage_provider_there_is_no_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)

    assert build_lineage([Dataset("kafka://k1:9092", "t")], []) is None
