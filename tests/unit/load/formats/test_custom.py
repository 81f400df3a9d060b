from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.formats.custom import CustomFormat, import_function


def parse(made: Any) -> list[dict[str, Any]]:
    return CustomFormat("mine", lambda _value, _record: made).parse(b"", None)


@pytest.mark.parametrize(
    ("made", "rows"),
    [
        (None, []),
        ([], []),
        ({"a": 1}, [{"a": 1}]),
        ([{"a": 1}, {"b": 2}], [{"a": 1}, {"b": 2}]),
        (({"a": n} for n in (1, 2)), [{"a": 1}, {"a": 2}]),
    ],
)
def test_a_function_makes_no_row_one_or_several(made: Any, rows: list[dict[str, Any]]) -> None:
    assert parse(made) == rows


def test_it_is_given_value_and_record() -> None:
    calls: list[Any] = []
    CustomFormat("mine", lambda *given: calls.append(given)).parse(b"v", "record")

    assert calls == [(b"v", "record")]


def test_what_it_raises_rejects_the_record_with_its_text() -> None:
    with pytest.raises(RejectError, match=r"^mine: ZeroDivisionError: division by zero"):
        CustomFormat("mine", lambda _value, _record: 1 / 0).parse(b"", None)
    with pytest.raises(RejectError, match=r"^mine: KeyError: 'x'"):
        parse({"x": n}["x"] if n else {}["x"] for n in (1, 0))


@pytest.mark.parametrize("made", [3, "text", b"ab", [{"a": 1}, None], [[("a", 1)]]])
def test_another_result_rejects_the_record(made: Any) -> None:
    with pytest.raises(RejectError, match=r"^mine"):
        parse(made)


def test_an_interrupt_is_no_reject() -> None:
    def interrupted(_value: bytes, _record: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CustomFormat("mine", interrupted).parse(b"", None)


def test_a_path_is_imported_or_its_failure_told() -> None:
    assert import_function("os.path.join")("a", "b") == "a/b"  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"AttributeError: .*give the dotted path"):
        import_function("os.path.no_such_thing")
    with pytest.raises(ConfigurationError, match="is a str and no function"):
        import_function("os.path.sep")
