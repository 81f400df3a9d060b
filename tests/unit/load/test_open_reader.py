from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_restrack.load import open_reader as open_reader_module
from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.open_reader import open_reader
from airflow_provider_restrack.load.plan import ReadPolicy
from tests.unit.load.fakes import Clock, FakeConsumer

POLICY = ReadPolicy(("t",), "g", "my_kafka", stall_timeout_s=10)


def test_settings_that_librdkafka_refuses_are_blamed_on_the_connection() -> None:
    with pytest.raises(ConfigurationError, match=r"'my_kafka' is not valid.*no.such.setting"):
        open_reader(POLICY, {"bootstrap.servers": "b:1", "no.such.setting": 1}, now=Clock())


def test_a_reset_that_no_consumer_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="newest"):
        open_reader(POLICY, {"bootstrap.servers": "b:1", "auto.offset.reset": "newest"}, now=Clock())


@pytest.mark.parametrize(
    ("partitions", "settings", "hand_over_s"),
    [(None, {}, 100.0), (None, {"max.poll.interval.ms": 30_000}, 10.0), ((0,), {}, 100.0)],
)
def test_writes_are_waited_for_a_third_of_what_the_group_allows(
    partitions: Any, settings: dict[str, int], hand_over_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = FakeConsumer(ends={("t", 0): (0, 0)})
    monkeypatch.setattr(open_reader_module, "open_consumer", lambda *_: consumer)
    monkeypatch.setattr(open_reader_module, "build_admin", lambda _config: None)
    monkeypatch.setattr(open_reader_module, "ask_topic_ids", lambda *_, **__: {})
    policy = replace(POLICY, partitions=partitions)

    reader = open_reader(policy, {"bootstrap.servers": "b:1", **settings}, now=Clock())

    assert reader._policy.hand_over_s == hand_over_s
