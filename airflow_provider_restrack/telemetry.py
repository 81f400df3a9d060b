"""Tells what a task has moved: to Airflow's metrics, to the events of its assets, and to OpenLineage.

Nothing here opens a connection, and without metrics, outlets or the OpenLineage provider nothing happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.rules import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_restrack.capacity.refresh import RollupResult
    from airflow_provider_restrack.load.policy import LoadResult

_COUNTERS = ("records", "rows", "batches", "dead_letters", "expired", "lost", "superseded", "retries")
_PREFIX = "restrack.load"
_ALERTS = "restrack.alerts"
_ROLLUP = "restrack.rollup"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A topic or a table by the names that OpenLineage gives them (https://openlineage.io/docs/spec/naming).

    :ivar rows: what was written to it; None if that is not known.
    """

    namespace: str
    name: str
    rows: int | None = None


def kafka_namespace(servers: str) -> str:
    """Return the namespace of a cluster's topics, by the first of ``bootstrap.servers``.

    As in OpenLineage's own integrations: with all of them, two clients that list them in another order would
    name two clusters.
    """
    first = servers.split(",", maxsplit=1)[0].strip().rpartition("://")[2]
    return f"kafka://{first if _has_port(first) else f'{first}:9092'}"


def cassandra_namespace(contact_points: Sequence[str], port: int) -> str:
    """Return the namespace of a cluster's tables, by the first contact point."""
    host = contact_points[0]
    return f"cassandra://{f'[{host}]' if ':' in host else host}:{port}"


def _has_port(server: str) -> bool:
    return ":" in server.rpartition("]")[2]


def task_tags(context: Mapping[str, Any], task_id: str) -> dict[str, str]:
    """Return the tags of a task's metrics: Airflow's own names, with the map index where it is mapped."""
    instance = context.get("ti")
    tags = {"dag_id": getattr(instance, "dag_id", ""), "task_id": task_id}
    index = getattr(instance, "map_index", -1)
    if index is not None and index >= 0:
        tags["map_index"] = str(index)
    return tags


def count_load(result: LoadResult, tags: Mapping[str, str]) -> None:
    """Send a load's counts to Airflow's metrics: counters, the lag as a gauge, durations as timings."""
    from airflow.providers.common.compat.sdk import Stats

    for name in _COUNTERS:
        Stats.incr(f"{_PREFIX}.{name}", getattr(result, name), tags=dict(tags))
    if result.lag_after is not None:
        Stats.gauge(f"{_PREFIX}.lag", result.lag_after, tags=dict(tags))
    Stats.timing(f"{_PREFIX}.duration", timedelta(seconds=result.seconds), tags=dict(tags))
    for name in ("write_p50", "write_p99"):
        millis = getattr(result, f"{name}_ms")
        if millis is not None:
            Stats.timing(f"{_PREFIX}.{name}", timedelta(milliseconds=millis), tags=dict(tags))


def count_alerts(result: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Send an evaluation of alerts to Airflow's metrics: open alerts as gauges, the rest as counters."""
    from airflow.providers.common.compat.sdk import Stats

    for severity in SEVERITIES:
        Stats.gauge(f"{_ALERTS}.open", result["open"].get(severity, 0), tags={**tags, "severity": severity})
    for kind, count in result["changed"].items():
        Stats.incr(f"{_ALERTS}.transitions", count, tags={**tags, "kind": kind})
    Stats.incr(f"{_ALERTS}.messages", result["messages"], tags=dict(tags))
    Stats.incr(f"{_ALERTS}.failed_messages", len(result["failed"]), tags=dict(tags))


def count_rollup(result: RollupResult, tags: Mapping[str, str]) -> None:
    """Send a rollup's counts to Airflow's metrics: samples, buckets by tier, and the time that it took."""
    from airflow.providers.common.compat.sdk import Stats

    Stats.incr(f"{_ROLLUP}.samples", result.samples, tags=dict(tags))
    for name, counts in (("buckets", result.buckets), ("expired", result.expired)):
        for tier, count in counts.items():
            Stats.incr(f"{_ROLLUP}.{name}", count, tags={**tags, "tier": tier})
    Stats.timing(f"{_ROLLUP}.duration", timedelta(seconds=result.seconds), tags=dict(tags))


def note_outlets(context: Mapping[str, Any], outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """Put what a task returns into the events of the assets among its outlets, for consumers."""
    from airflow.providers.common.compat.sdk import Asset

    for outlet in outlets:
        if isinstance(outlet, Asset) and "outlet_events" in context:
            context["outlet_events"][outlet].extra.update(extra)


def build_lineage(inputs: Iterable[Dataset], outputs: Iterable[Dataset]) -> Any:
    """Return the ``OperatorLineage`` of datasets; None without the OpenLineage provider."""
    try:
        from airflow.providers.openlineage.extractors import (  # type: ignore[import-not-found,unused-ignore]
            OperatorLineage,
        )
    except ImportError:
        return None
    from airflow.providers.common.compat.openlineage import facet

    def written(dataset: Dataset) -> Any:
        if dataset.rows is None:
            return facet.OutputDataset(dataset.namespace, dataset.name)
        count = facet.OutputStatisticsOutputDatasetFacet(rowCount=dataset.rows)
        return facet.OutputDataset(dataset.namespace, dataset.name, outputFacets={"outputStatistics": count})

    return OperatorLineage(
        inputs=[facet.InputDataset(one.namespace, one.name) for one in inputs],
        outputs=[written(one) for one in outputs],
    )
