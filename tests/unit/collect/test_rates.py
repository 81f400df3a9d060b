"""Rates over the time between two runs: averages where both counters are known, null where they are not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_restrack.collect.rates import CountedSession, CounterStore, counters_of, rates_since
from airflow_provider_restrack.collect.sample import CollectError, Reading

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def payload(n: int, **changes: Any) -> dict[str, Any]:
    """A host's sample after ``n`` times 300 s: 75 s of each of two CPUs, 3,000 bytes in, 1,500 written."""
    cpu = {"user": 75.0 * n, "idle": 225.0 * n}
    interface = {"recv": 3000 * n, "sent": 0, "errors": 0, "drops": 0, "once": True}
    counters = {
        "cpu": {"total": {name: 2 * t for name, t in cpu.items()}, "cores": {"cpu0": cpu, "cpu1": cpu}},
        "network": {"eth0": interface, "eth1": interface},
        "disk_io": {"sda": {"read": 0, "write": 1500 * n, "busy": 30.0 * n, "once": True}},
        "swap": {"in": 0, "out": 0},
    }
    counters.update(changes.pop("counters", {}))
    return {
        "uptime": 300.0 * n,
        "boot_id": "a",
        "cpu_usage": 1.0,
        "load_1m": 5.0,
        "counters": counters,
        **changes,
    }


def between(first: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    return rates_since(counters_of(first), last)


def test_rates_are_averages_over_the_whole_interval() -> None:
    rates = between(payload(1), payload(2))

    assert (rates["window_seconds"], rates["cpu_usage"], rates["cpu_core_usage"]) == (
        300.0,
        25.0,
        [25.0, 25.0],
    )
    assert (rates["network_io_recv"], rates["interface_recv"]) == (20.0, {"eth0": 10.0, "eth1": 10.0})
    assert (rates["disk_io_write"], rates["disk_io_busy"], rates["swap_in"]) == (5.0, 10.0, 0.0)
    assert rates["network_recv_bytes"] == 12000
    assert "load_1m" not in rates


RATES = {
    "cpu_usage",
    "cpu_core_usage",
    "network_io_recv",
    "interface_recv",
    "disk_io_write",
    "device_busy",
    "swap_in",
}


@pytest.mark.parametrize(
    ("first", "last"),
    [
        pytest.param(None, payload(2), id="first-run"),
        pytest.param(payload(1), payload(2, boot_id="b"), id="reboot"),
        pytest.param(payload(3, boot_id=None), payload(2, boot_id=None), id="reboot-told-by-uptime-alone"),
        pytest.param(payload(2), payload(2), id="no-time-between"),
        pytest.param(payload(1), payload(2, uptime=None), id="no-uptime"),
    ],
)
def test_without_a_start_in_the_same_boot_every_rate_is_null(first: Any, last: dict[str, Any]) -> None:
    rates = rates_since(first and counters_of(first), last)

    assert {name for name in RATES if rates[name] is not None} == set()
    assert rates["window_seconds"] is None


@pytest.mark.parametrize(
    ("passed", "window"),
    [
        pytest.param(300.0, 300.0, id="as-the-uptime"),
        pytest.param(309.0, 300.0, id="late-on-its-way"),
        pytest.param(291.0, 300.0, id="the-one-before-was-late"),
        pytest.param(100_000.0, None, id="a-container-that-was-started-anew"),
        pytest.param(-3000.0, None, id="the-worker's-clock-was-set"),
    ],
)
def test_uptime_and_the_workers_clock_agree_on_the_time_between(passed: float, window: Any) -> None:
    rates = rates_since(counters_of(payload(1), 1e9), payload(2), 1e9 + passed)

    assert (rates["window_seconds"], rates["cpu_usage"]) == (window, 25.0 if window else None)


def test_clocks_of_two_speeds_agree_over_a_month() -> None:
    month = payload(8640)

    rates = rates_since(counters_of(payload(1), 1e9), month, 1e9 + 8639 * 300 * 1.0005)

    assert rates["cpu_usage"] == 25.0


def test_counters_of_an_older_version_are_still_read() -> None:
    old = CounterStore(json.dumps({"db": counters_of(payload(1))}))

    reading = CountedSession(FakeSession(payload(2)), "db", old).collect(0.0)

    assert (reading.payload["window_seconds"], reading.payload["network_io_recv"]) == (300.0, 20.0)
    assert json.loads(old.dump(["db"]))["db"]["at"] == NOW.timestamp() + 600.0


@pytest.mark.parametrize(
    ("was", "now", "known"),
    [(7, 7, True), (7, 9, False), (None, 9, True), (7, None, True)],
)
def test_an_interface_or_disk_that_was_made_anew_is_not_the_one_before(
    was: Any, now: Any, known: bool
) -> None:
    first, last = payload(1), payload(2)
    for sample, index in ((first, was), (last, now)):
        for section, name in (("network", "eth0"), ("disk_io", "sda")):
            counters = sample["counters"][section]
            counters[name] = {**counters[name], **({} if index is None else {"index": index})}

    rates = between(first, last)

    assert rates["interface_recv"] == ({"eth0": 10.0, "eth1": 10.0} if known else {"eth1": 10.0})
    assert rates["network_io_recv"] == (20.0 if known else None)
    assert rates["disk_io_write"] == (5.0 if known else None)


def test_another_set_of_cpus_makes_their_shares_null_and_no_other_rate() -> None:
    more = payload(2)
    more["counters"]["cpu"]["cores"]["cpu2"] = {"user": 0.0, "idle": 0.0}

    rates = between(payload(1), more)

    assert (rates["cpu_usage"], rates["cpu_user"], rates["cpu_core_usage"]) == (None, None, None)
    assert (rates["cpu_count"], rates["network_io_recv"]) == (3, 20.0)


def interfaces(**recv: int) -> dict[str, Any]:
    zero = {"sent": 0, "errors": 0, "drops": 0, "once": True}
    return {"network": {name: {"recv": value, **zero} for name, value in recv.items()}}


@pytest.mark.parametrize(
    ("first", "last", "each", "total"),
    [
        pytest.param({"eth0": 0, "eth1": 900}, {"eth0": 600, "eth1": 5}, {"eth0": 2.0}, None, id="came-back"),
        pytest.param({"eth0": 0}, {"eth0": 600, "eth1": 10**12}, {"eth0": 2.0}, None, id="new"),
        pytest.param({"eth0": 0, "eth1": 900}, {"eth0": 600}, {"eth0": 2.0}, 2.0, id="gone"),
        pytest.param({"eth0": 900}, {"eth0": 5}, None, None, id="only-one-and-gone-back"),
    ],
)
def test_an_interface_without_a_start_is_null_and_so_is_the_total(
    first: dict[str, int], last: dict[str, int], each: Any, total: Any
) -> None:
    rates = between(payload(1, counters=interfaces(**first)), payload(2, counters=interfaces(**last)))

    assert (rates["interface_recv"], rates["network_io_recv"]) == (each, total)
    assert rates["cpu_usage"] == 25.0


def test_a_system_that_knows_no_busy_time_has_the_other_rates_of_its_disks() -> None:
    first, last = (
        payload(n, counters={"disk_io": {"disk0": {"read": 600 * n, "write": 0, "once": True}}})
        for n in (1, 2)
    )

    rates = between(first, last)

    assert (rates["disk_io_read"], rates["device_read"]) == (2.0, {"disk0": 2.0})
    assert (rates["disk_io_busy"], rates["device_busy"]) == (None, None)
    assert "outcome" not in rates


def test_counters_that_make_no_sense_make_the_sample_partial_and_say_so() -> None:
    broken = {"network": {"eth0": {"once": True}}}
    last = payload(2, counters=broken, outcome="ok", error=None)
    again = payload(2, counters=broken, outcome="partial", error="tasks: gone; network: KeyError 'recv'")

    rates = [between(payload(1), each) for each in (last, again)]

    assert [each["outcome"] for each in rates] == ["partial", "partial"]
    assert [each["error"] for each in rates] == [
        "network: KeyError 'recv'",
        "tasks: gone; network: KeyError 'recv'",
    ]
    assert (rates[0]["network_io_recv"], rates[0]["cpu_usage"]) == (None, 25.0)


class FakeSession:
    """Gives readings one after the other."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.calls: list[str] = []

    def collect(self, deadline: float) -> Reading:
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return Reading(result, NOW + timedelta(seconds=result["uptime"]), 0.5)

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")


def test_counters_go_from_run_to_run_and_a_host_that_was_down_keeps_its_older_ones() -> None:
    first = CounterStore()
    CountedSession(FakeSession(payload(1)), "db", first).collect(0.0)
    down = CounterStore(first.dump(["db", "never"]))
    with pytest.raises(CollectError):
        CountedSession(FakeSession(CollectError("timeout", "late")), "db", down).collect(0.0)
    last = CounterStore(down.dump(["db"]))

    reading = CountedSession(FakeSession(payload(3)), "db", last).collect(0.0)

    assert reading.payload["window_seconds"] == 600.0
    assert (reading.payload["cpu_usage"], reading.payload["load_1m"], reading.clock_skew) == (25.0, 5.0, 0.5)
    assert "counters" not in reading.payload


def test_samples_of_one_run_follow_each_other_and_hosts_that_left_are_dropped() -> None:
    store = CounterStore()
    session = CountedSession(FakeSession(payload(1), payload(2)), "db", store)

    windows = [session.collect(0.0).payload["window_seconds"] for _ in range(2)]

    assert windows == [None, 300.0]
    assert json.loads(store.dump(["web"])) == {}


@pytest.mark.parametrize("text", [None, "", "{", "[]", 5, ["{}"]])
def test_what_is_no_store_counts_as_nothing(text: Any) -> None:
    assert CounterStore(text).dump(["db"]) == "{}"


def test_the_session_below_is_aborted_and_closed() -> None:
    inner = FakeSession()
    session = CountedSession(inner, "db", CounterStore())

    session.abort()
    session.close()

    assert inner.calls == ["abort", "close"]


def test_the_counters_of_a_large_host_are_kept_small() -> None:
    cores = {
        f"cpu{n}": dict.fromkeys(("user", "nice", "system", "idle", "iowait", "irq"), 123456.78)
        for n in range(64)
    }
    large = payload(1)
    large["counters"]["cpu"]["cores"] = cores
    store = CounterStore()

    store.update("db", Reading(large, NOW, None))

    assert len(store.dump(["db"])) < 4096
