"""The short run of the fuzzer, and proof that it notices what it is for; the long one is ``make fuzz``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.load import cql_types, pack, rows
from airflow_provider_restrack.load.cql_types import JsonType
from airflow_provider_restrack.load.formats import influx, telegraf
from tests.fuzz.__main__ import main
from tests.fuzz.formats import FormatFuzzer
from tests.fuzz.harness import Fuzzer, WrongRowError, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    Sabotage = Callable[[pytest.MonkeyPatch], None]


def test_whatever_a_record_holds_it_becomes_its_row_or_a_reject() -> None:
    fuzzer = Fuzzer(seed=1)

    fuzzer.run(20_000)

    kinds = {outcome.partition(":")[0] for outcome in fuzzer.counts}
    assert kinds == {"row", "reject", "expired", "left open"}
    assert fuzzer.counts["row"] > 6_000
    assert fuzzer.counts["left open"] < 600


def test_whatever_a_record_of_a_format_holds_it_becomes_its_rows_or_a_reject() -> None:
    fuzzer = FormatFuzzer(seed=1)

    fuzzer.run(3000)

    for name in ("telegraf", "influx", "avro"):
        assert fuzzer.counts[f"{name} rows"] > 300
        assert sum(count for one, count in fuzzer.counts.items() if one.startswith(f"{name} reject")) > 100


@pytest.mark.parametrize(
    ("where", "what", "made", "words"),
    [
        (telegraf, "build_row", lambda name, tags, fields, time: dict(tags) | {"timestamp": time}, "is not"),
        (influx, "_read_value", lambda _text, match: match[2] or match[3], "is not"),
        (influx, "_skip_blank", lambda _text, position: 1 // position, "ZeroDivisionError escapes"),
    ],
)
def test_an_error_of_a_format_is_found_and_told_with_its_input(
    where: Any, what: str, made: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, what, made)

    with pytest.raises(WrongRowError, match=rf"(?s)^format \w+, seed 2, input \d+: .*{words}"):
        FormatFuzzer(seed=2).run(300)


def replaced(kind: str, made: JsonType) -> Sabotage:
    return lambda patch: patch.setitem(cql_types._SCALARS, kind, made)  # type: ignore[arg-type]


def wrong_ttl(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "remaining_ttl", lambda retention_s, write_us, now_us: retention_s)


def wrong_day(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pack, "day_of", lambda micros: cql_types.day_of(micros) + 1)


def careless_cache(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pack, "_CACHED_KEYS", pack._CACHED_KEYS | {"double", "decimal", "blob"})


def lost_absences(patch: pytest.MonkeyPatch) -> None:
    prepare = pack.PackedEncoder.__init__

    def prepare_wrongly(self: Any, *arguments: Any) -> None:
        prepare(self, *arguments)
        self._absent = pack.NULL

    patch.setattr(pack.PackedEncoder, "__init__", prepare_wrongly)


def unknown_error(_value: Any) -> Any:
    raise KeyError("a bug")


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        pytest.param(wrong_ttl, "time to live", id="ttl"),
        pytest.param(wrong_day, "the encoders differ", id="day"),
        pytest.param(careless_cache, "the encoders differ", id="keys-that-are-equal"),
        pytest.param(lost_absences, "the encoders differ", id="null-for-unset"),
        pytest.param(replaced("inet", JsonType(str, unknown_error)), "KeyError escapes", id="escapes"),
        pytest.param(
            replaced("bigint", JsonType(int, lambda one: one & 2**31 - 1)), "is b'", id="wrong-value"
        ),
        pytest.param(replaced("int", JsonType(float, int)), "must be rejected", id="too-lax"),
        pytest.param(replaced("boolean", JsonType(str)), "a row was rejected", id="too-strict"),
    ],
)
def test_an_error_of_the_loader_is_found_and_told_with_its_input(
    sabotage: Sabotage, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)

    with pytest.raises(WrongRowError, match=rf"(?s)seed 2, input \d+, .*{words}.*\n([0-9a-f]{{2}})+$"):
        Fuzzer(seed=2).run(3000)


def test_a_seed_gives_the_same_inputs_again() -> None:
    one, other, third = Fuzzer(5), Fuzzer(5), Fuzzer(6)
    for fuzzer in (one, other, third):
        fuzzer.run(300)

    assert one.counts == other.counts != third.counts


def test_an_input_can_be_replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["fuzz", "--replay", b'{"key": "a", "w": 1, "made": 1767322800000}'.hex()]
    )

    assert main() == 0
    assert "small row" in capsys.readouterr().out


def test_a_run_prints_its_seed_and_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "--inputs", "200", "--seed", "9"])

    assert main() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("seed 9, 200 inputs")
    assert "%  row" in printed

    monkeypatch.setattr(sys, "argv", ["fuzz", "--inputs", "200", "--formats"])
    assert main() == 0
    assert "%  influx rows" in capsys.readouterr().out


def test_outcomes_are_counted_without_what_is_a_records_own() -> None:
    assert reason("reject: JSON is malformed: trailing characters (byte 12)") == reason(
        "reject: JSON is malformed: trailing characters (byte 7)"
    )
    assert reason("reject: 'x' is no ISO 8601 date - at `$.day`").startswith("reject: … is no ISO")
