from __future__ import annotations

import pytest

from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.open_reader import open_reader
from airflow_provider_restrack.load.plan import ReadPolicy
from tests.unit.load.fakes import Clock

POLICY = ReadPolicy(("t",), "g", "my_kafka", stall_timeout_s=10)


def test_settings_that_librdkafka_refuses_are_blamed_on_the_connection() -> None:
    with pytest.raises(ConfigurationError, match=r"'my_kafka' is not valid.*no.such.setting"):
        open_reader(POLICY, {"bootstrap.servers": "b:1", "no.such.setting": 1}, now=Clock())


def test_a_reset_that_no_consumer_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="newest"):
        open_reader(POLICY, {"bootstrap.servers": "b:1", "auto.offset.reset": "newest"}, now=Clock())
