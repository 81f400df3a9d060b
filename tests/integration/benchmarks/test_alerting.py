"""A trial of the alerting benchmark: contenders agree, and every figure is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.alerting.__main__ import measure_fleet
from benchmarks.alerting.fill import fill_tables
from benchmarks.alerting.loss import measure_loss
from benchmarks.alerting.prometheus import PrometheusError, measure
from benchmarks.alerting.works import KEYSPACE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTS = 20


@pytest.fixture
def fleet(cassandra_session: Any) -> Iterator[Any]:
    """Return a session to a Cassandra that holds the fleet."""
    fill_tables(cassandra_session, HOSTS)
    yield cassandra_session
    cassandra_session.execute(f"DROP KEYSPACE {KEYSPACE}", timeout=60.0)


@pytest.mark.cassandra
@pytest.mark.slow
def test_a_fleet_is_evaluated_by_all_with_the_same_alerts(fleet: Any, tmp_path: Path) -> None:
    figures: dict[str, dict[str, dict[str, float]]] = {}

    measure_fleet(fleet, HOSTS, 1, tmp_path, figures)

    assert {work: sorted(found) for work, found in figures.items()} == {
        "20 hosts": ["prometheus", "restrack", "sequential"],
        "20 hosts, going on": ["restrack", "sequential"],
        "newest of 20 hosts": ["restrack", "sequential"],
        "newest of 20 hosts, all well": ["restrack", "sequential"],
    }
    for name in ("restrack", "sequential"):
        assert all(value > 0 for value in figures["20 hosts"][name].values())


@pytest.mark.slow
def test_prometheus_refuses_alerts_that_it_does_not_find(tmp_path: Path) -> None:
    with pytest.raises(PrometheusError, match="host-00003"):
        measure(HOSTS, tmp_path, {("cpu", "host-00003", None)})


@pytest.mark.slow
def test_lost_samples_delay_prometheus_and_not_us(tmp_path: Path) -> None:
    without = measure_loss(0.0, hosts=5, minutes=300, scratch=tmp_path)
    lossy = measure_loss(0.2, hosts=5, minutes=600, scratch=tmp_path)

    nothing = {"fire_minutes": 10.0, "false_resolves_per_day": 0.0}
    assert without == {"restrack": nothing, "prometheus": nothing}
    assert lossy["restrack"]["fire_minutes"] < 13
    assert lossy["restrack"]["false_resolves_per_day"] == 0
    assert lossy["prometheus"]["fire_minutes"] > lossy["restrack"]["fire_minutes"]
    assert lossy["prometheus"]["false_resolves_per_day"] > 0
