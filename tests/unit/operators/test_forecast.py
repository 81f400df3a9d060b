"""The operator over a reader of the tests' own: what it asks, writes, returns and tells."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_restrack.capacity.forecast import DailyRow, SeriesKey
from airflow_provider_restrack.operators.forecast import ForecastOperator, find_as_of
from airflow_provider_restrack.store import forecasts as store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AS_OF = datetime(2026, 3, 2, tzinfo=UTC)
CONTEXT: Any = {"data_interval_end": AS_OF}


class Reader:
    """Has a series that fills in about ten days, and one that stands still."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def read_daily(
        self, hosts: Sequence[str] | None, metrics: Sequence[str], since: date, until: date
    ) -> Iterator[tuple[SeriesKey, list[DailyRow]]]:
        self.asked.append((hosts, metrics, since, until))
        for host, slope in (("calm", 0.0), ("busy", 1.0)):
            rows = [
                DailyRow(until - timedelta(days=n), 100, 0, 90 - slope * n + n % 2 / 10, 0, 0, 0)
                for n in range(30)
            ]
            yield SeriesKey(host, metrics[0], "/"), rows


class Notifier(BaseNotifier):
    template_fields = ("message",)

    def __init__(self, message: str, error: Exception | None = None) -> None:
        super().__init__()
        self.message = message
        self.error = error
        self.told: list[Any] = []

    def notify(self, context: Any) -> None:
        if self.error:
            raise self.error
        self.told.append((self.message, context["forecasts"]))


class Forecasting(ForecastOperator):
    reader: Any = None

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        yield "session", self.reader


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    rows: list[Any] = []

    def write(session: Any, keyspace: str, forecasts: Any, written_at: datetime) -> int:
        rows.extend(forecasts)
        return len(rows)

    monkeypatch.setattr(store, "write_forecasts", write)
    return rows


def make(reader: Any = None, **arguments: Any) -> Forecasting:
    operator = Forecasting(task_id="forecast", metrics=["filesystem_usage"], **arguments)
    operator.reader = reader or Reader()
    return operator


def test_all_are_written_and_the_near_ones_returned(written: list[Any]) -> None:
    reader = Reader()

    result = make(reader, hosts=["busy", "calm"]).execute(CONTEXT)

    assert reader.asked == [(["busy", "calm"], ["filesystem_usage"], date(2025, 12, 2), date(2026, 3, 1))]
    assert {(row["host"], row["verdict"]) for row in written} == {("calm", "flat"), ("busy", "filling")}
    assert (result["written"], result["near"], result["verdicts"]) == (2, 1, {"flat": 1, "filling": 1})
    (near,) = result["forecasts"]
    assert (near["host"], near["device"], near["as_of"]) == ("busy", "/", "2026-03-02T00:00:00.000Z")
    assert near["days_likely"] == pytest.approx(9.5, abs=1)


@pytest.mark.parametrize("hosts", [None, ""])
def test_no_hosts_are_all_hosts(written: list[Any], hosts: str | None) -> None:
    reader = Reader()

    make(reader, hosts=hosts).execute(CONTEXT)

    assert [asked[0] for asked in reader.asked] == [None]


def test_metrics_that_a_template_rendered_are_read(written: list[Any]) -> None:
    operator = make()
    operator.metrics = '{"filesystem_usage": {"limit": 95}}'

    operator.execute(CONTEXT)

    assert {row["limit"] for row in written} == {95.0}


def test_what_is_further_off_than_asked_is_written_but_not_told(written: list[Any]) -> None:
    notifier = Notifier("m")

    result = make(within_days=3, notifiers=[notifier]).execute(CONTEXT)

    assert (len(written), result["near"], notifier.told) == (2, 0, [])


def test_a_notifier_gets_its_templates_rendered_with_the_list(written: list[Any]) -> None:
    notifier = Notifier("{{ forecasts | length }}: {{ forecast_text }}")
    operator = make(notifiers=[notifier])

    operator.execute(CONTEXT)
    operator.execute(CONTEXT)

    assert [text.partition(",")[0] for text, _ in notifier.told] == ["1: busy /: filesystem_usage 90.0"] * 2
    assert notifier.told[0][1][0]["host"] == "busy"


def test_a_notifier_that_fails_keeps_no_other_from_being_called_and_fails_the_task(
    written: list[Any],
) -> None:
    good = Notifier("m")
    operator = make(notifiers=[Notifier("m", ConnectionError("no mail today")), good])

    with pytest.raises(
        RuntimeError, match="are written, but not told to all: Notifier: ConnectionError: no mail today"
    ):
        operator.execute(CONTEXT)

    assert len(written) == 2
    assert len(good.told) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metrics": ["nothing"]}, "'nothing'"),
        ({"within_days": 0}, "within_days"),
        ({"history_days": 3}, "history_days"),
        ({"confidence": 1}, "confidence"),
        ({"keyspace": "No Keyspace"}, "keyspace"),
    ],
)
def test_a_mistake_is_told_when_the_dag_is_parsed(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ForecastOperator(task_id="forecast", **arguments)


def test_a_template_is_checked_later() -> None:
    assert ForecastOperator(task_id="forecast", metrics="{{ var.json.metrics }}").metrics


def test_a_run_without_an_interval_is_as_of_now() -> None:
    assert abs(find_as_of({}) - datetime.now(UTC)) < timedelta(minutes=1)
