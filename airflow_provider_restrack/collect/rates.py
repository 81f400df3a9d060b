"""Rates over the time since a task's previous run, from the counters that each run leaves for its next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_restrack.collect import fields
from airflow_provider_restrack.collect.sample import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_provider_restrack.collect.fleet import HostSession
    from airflow_provider_restrack.collect.inventory import Target

Rates = Literal["window", "since_last_run"]
# Taken from another moment than the counters', or from no counter at all, and so left as they are.
_AS_MEASURED = frozenset(fields.build({}, {})[0]) - {
    name for builder in fields.BUILDERS for name in builder(None, None, None)
}


# How far the host's uptime and the worker's clock may go apart between two samples: what a sample takes from
# the host to here, and clocks that run at different speeds.
_APART_S = 10.0
_APART_SHARE = 0.001


def counters_of(payload: Mapping[str, Any], at: float | None = None) -> dict[str, Any] | None:
    """Return what the next sample of a host needs of this one, or None if the agent sent no counters.

    The host's own uptime is their clock: it does not jump as the calendar does.

    :param at: when the sample arrived, by the worker's clock in epoch seconds.
    """
    counters, uptime = payload.get("counters"), payload.get("uptime")
    if not isinstance(counters, dict) or not isinstance(uptime, int | float):
        return None
    kept = {**counters, "clock": float(uptime), "boot_id": payload.get("boot_id")}
    if at is not None:
        kept["at"] = round(at, 3)
    if counters.get("cpu"):
        kept["cpu"] = {**counters["cpu"], "cores": _shorten(counters["cpu"].get("cores") or {})}
    return kept


def rates_since(
    previous: Mapping[str, Any] | None, payload: Mapping[str, Any], at: float | None = None
) -> dict[str, Any]:
    """Return the fields of a sample that are averages, over the time since the previous counters.

    All of them are null without previous counters, after a reboot, and where a clock was set. The CPU's are
    with another set of CPUs; a rate whose counter went back, or that of a disk or interface that was not
    there before, is null too, and so is the total that it belongs to. A section that cannot be read makes the
    sample ``partial``.

    :param previous: what ``counters_of`` returned for the sample before.
    :param at: when the sample arrived.
    """
    now = counters_of(payload, at) or {}
    before = dict(previous or {}) if is_same_boot(previous, now) else {}
    built, problems = fields.build(before, now)
    rates = {name: value for name, value in built.items() if name not in _AS_MEASURED}
    return {**rates, "window_seconds": built["window_seconds"], **_tell(problems, payload)}


def _tell(problems: list[str], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outcome and error of a sample to which problems of its rates are added."""
    if not problems:
        return {}
    said = [part for part in str(payload.get("error") or "").split("; ") if part]
    outcome = payload.get("outcome")
    return {
        "outcome": "partial" if outcome == "ok" else outcome,
        "error": "; ".join(dict.fromkeys(said + problems)),
    }


def is_same_boot(previous: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Whether the counters of both count on from the same start; systems without boot ids tell by uptime.

    A container has the boot id of its host, and an uptime of its own that is past the old one some time after
    it was started anew: uptime and the worker's clock have to agree on the time between.
    """
    if not previous or not now or previous.get("boot_id") != now.get("boot_id"):
        return False
    passed = now["clock"] - previous["clock"]
    if previous.get("at") is None or now.get("at") is None:  # counters of an older version
        return bool(passed > 0)
    elapsed = now["at"] - previous["at"]
    return bool(passed > 0 and abs(passed - elapsed) <= _APART_S + _APART_SHARE * abs(elapsed))


def _shorten(cores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return busy and idle seconds of each CPU: no more is reported of a single one, and there are many."""
    return {
        name: {
            "user": round(sum(times.get(part, 0.0) for part in fields.CPU_BUSY), 2),
            "idle": round(times.get("idle", 0.0) + times.get("iowait", 0.0), 2),
        }
        for name, times in cores.items()
    }


class CounterStore:
    """The newest counters of each host: those of the run before, then those of this one."""

    def __init__(self, text: Any = None) -> None:
        """Take what ``dump`` returned in the run before; anything else counts as nothing."""
        try:
            found = json.loads(text) if isinstance(text, str) else {}
        except ValueError:
            found = {}
        self._counters: dict[str, Any] = found if isinstance(found, dict) else {}

    def update(self, host: str, reading: Reading) -> Reading:
        """Return a host's reading with rates since its counters before, and keep its own."""
        at = reading.received_at.timestamp()
        rates = rates_since(self._counters.get(host), reading.payload, at)
        counters = counters_of(reading.payload, at)
        if counters is not None:
            self._counters[host] = counters
        payload = {name: value for name, value in reading.payload.items() if name != "counters"}
        return Reading({**payload, **rates}, reading.received_at, reading.clock_skew)

    def dump(self, hosts: Iterable[str]) -> str:
        """Return the counters of these hosts as JSON; a host that gave none keeps those before."""
        kept = {host: self._counters[host] for host in hosts if host in self._counters}
        return json.dumps(kept, separators=(",", ":"))


class CountedSession:
    """A host's session whose readings have rates since the previous run."""

    def __init__(self, session: HostSession, host: str, store: CounterStore) -> None:
        self._session = session
        self._host = host
        self._store = store

    def collect(self, deadline: float) -> Reading:
        """Take one sample.

        :raises CollectError: with the outcome of the row.
        """
        return self._store.update(self._host, self._session.collect(deadline))

    def abort(self) -> None:
        """Cut what ``collect`` works on."""
        self._session.abort()

    def close(self) -> None:
        """Let go of what is kept between samples."""
        self._session.close()


def count_sessions(
    open_session: Callable[[Target], HostSession], store: CounterStore
) -> Callable[[Target], HostSession]:
    """Return an opener of sessions whose counters are kept in a store."""
    return lambda target: CountedSession(open_session(target), target.host, store)
