"""What the fault tests stand on: the ledger and the comparison, without any server."""

from __future__ import annotations

import json

import pytest

from airflow_provider_restrack.store import schema
from tests.faults.ledger import Ledger, Record, Row, Sent, find_differences, find_lost

KEY = schema.SYSTEM_METRICS.primary_key


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger(seed=1, hosts=20)
    for number, record in enumerate(made.make(2000)):
        made.sent.append(Sent(record, partition=0, offset=number))
    return made


def stored(ledger: Ledger) -> list[Row]:
    return [dict(row) for row in ledger.rows.values()]


def test_the_same_seed_makes_the_same_samples() -> None:
    def fields(seed: int) -> list[dict[str, object]]:
        values = [json.loads(record.value or b"") for record in Ledger(seed).make(50)]
        return [{name: one[name] for name in one if name not in ("timestamp", "id")} for one in values]

    assert fields(7) == fields(7)
    assert fields(7) != fields(8)


def test_samples_are_late_doubled_and_of_hosts_that_are_down_too(ledger: Ledger) -> None:
    samples = [json.loads(one.record.value or b"") for one in ledger.sent]
    newest: dict[str, str] = {}
    late = 0
    for one in samples:
        late += one["timestamp"] < newest.get(one["host"], "")
        newest[one["host"]] = max(one["timestamp"], newest.get(one["host"], ""))

    assert late > 100
    assert len(samples) - len(ledger.rows) > 50
    assert sum(not one["up"] for one in samples) > 100
    filled = {name for row in ledger.rows.values() for name, value in row.items() if value is not None}
    assert filled == {one.name for one in schema.FIELDS}


def test_the_latest_row_of_a_host_is_its_newest_and_holds_no_older_value(ledger: Ledger) -> None:
    latest = ledger.latest()

    assert len(latest) == 20
    for (host,), row in latest.items():
        assert row["timestamp"] == max(key[2] for key in ledger.rows if key[0] == host)
        assert row == ledger.rows[host, row["day"], row["timestamp"]]


def test_equal_tables_have_no_differences(ledger: Ledger) -> None:
    assert find_differences(ledger.rows, stored(ledger), KEY) == []


def test_a_missing_a_foreign_a_doubled_and_a_changed_row_are_found(ledger: Ledger) -> None:
    missing, changed, *rest = stored(ledger)
    changed["outcome"], changed["cpu_usage"] = "lost", None if changed["cpu_usage"] else 1.0
    foreign = rest[0] | {"host": "nobody"}

    found = find_differences(ledger.rows, [changed, *rest, foreign, rest[3]], KEY)

    assert len(found) == 5
    assert sum("is missing" in one and missing["host"] in one for one in found) == 1
    assert sum("was never sent" in one and "nobody" in one for one in found) == 1
    assert sum("twice" in one for one in found) == 1
    assert sum("outcome is 'lost', not" in one or "cpu_usage is" in one for one in found) == 2


def test_a_record_below_the_committed_offset_that_is_not_stored_is_lost(ledger: Ledger) -> None:
    rows, latest = stored(ledger), [dict(row) for row in ledger.latest().values()]
    gone = ledger.sent[500].record.row
    without = [row for row in rows if tuple(row[name] for name in KEY) != gone]

    assert find_lost(ledger.sent, {0: 2000}, rows, latest) == []
    assert any("offset 500, committed and not in system_metrics" in one for one in lost(ledger, 501, without))
    assert not [one for one in lost(ledger, 500, without) if "offset 500" in one]


def lost(ledger: Ledger, committed: int, rows: list[Row]) -> list[str]:
    return find_lost(ledger.sent, {0: committed}, rows, [dict(row) for row in ledger.latest().values()])


def test_a_stale_latest_row_is_lost_too_and_a_poison_record_is_not(ledger: Ledger) -> None:
    rows, latest = stored(ledger), [dict(row) for row in ledger.latest().values()]
    latest[0]["timestamp"] = min(row["timestamp"] for row in rows)
    ledger.sent.append(Sent(Record(None, b"poison", None), partition=0, offset=2000))

    found = find_lost(ledger.sent, {0: 2001}, rows, latest)

    assert found
    assert all("not in latest_metrics" in one for one in found)
