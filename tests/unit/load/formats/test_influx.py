from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.formats.influx import InfluxFormat, parse_precision
from tests.unit.load.fakes import FakeMessage

KAFKA = FakeMessage(b"", moment=(1, 1_700_000_000_000))


def parse(text: str | bytes, **options: Any) -> list[dict[str, Any]]:
    raw = text if isinstance(text, bytes) else text.encode()
    return InfluxFormat.of(options).parse(raw, KAFKA)


def point(text: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    [row] = parse(text)
    return row["name"], row["tags"], row["fields"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m f=1", ("m", {}, {"f": 1.0})),
        ("m,a=x,b=y f=1,g=2i", ("m", {"a": "x", "b": "y"}, {"f": 1.0, "g": 2})),
        ("m   f=1   ", ("m", {}, {"f": 1.0})),
        (
            r"my\ m\,x,t\,a\=g\ =v\,a\=l\ u f\,i\=e\ ld=1",
            ("my m,x", {"t,a=g ": "v,a=l u"}, {"f,i=e ld": 1.0}),
        ),
        (r"m=1,t=a\b f=1", ("m=1", {"t": r"a\b"}, {"f": 1.0})),
        (r'm f="a \"b\" \\ \n c, d=e"', ("m", {}, {"f": 'a "b" \\ \\n c, d=e'})),
        ('m f="a\nb",g=1', ("m", {}, {"f": "a\nb", "g": 1.0})),
        ('m f=""', ("m", {}, {"f": ""})),
        ('m,t="q" f=1', ("m", {"t": '"q"'}, {"f": 1.0})),
        ("météo,où=né f=1", ("météo", {"où": "né"}, {"f": 1.0})),
        ("#no comment", None),
    ],
)
def test_names_and_strings_are_unescaped_by_the_specification(text: str, expected: Any) -> None:
    if expected is None:
        assert parse(text) == []
    else:
        assert point(text) == expected


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("1", 1.0), ("-1.5", -1.5), ("+2", 2.0), ("1.", 1.0), (".5", 0.5), ("1e3", 1000.0), ("1.5E-2", 0.015),
        ("1i", 1), ("-9223372036854775808i", -(2**63)), ("9223372036854775807i", 2**63 - 1),
        ("18446744073709551615u", 2**64 - 1), ("0u", 0),
        *((raw, True) for raw in ("t", "T", "true", "True", "TRUE")),
        *((raw, False) for raw in ("f", "F", "false", "False", "FALSE")),
    ],
)  # fmt: skip
def test_a_value_has_the_type_that_it_is_written_with(raw: str, value: Any) -> None:
    found = point(f"m f={raw}")[2]["f"]

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "raw",
    ["9223372036854775808i", "-9223372036854775809i", "18446744073709551616u", "-1u", "1e999", "NaN", "inf",
     "tRuE", "yes", "1_0", "1.5i", "i", "e5", ".", "0x1", "１", "abc", '"open', '"a"b'],
)  # fmt: skip
def test_a_value_that_is_none_is_rejected(raw: str) -> None:
    with pytest.raises(RejectError, match=r"^influx: line 1, column "):
        parse(f"m f={raw}")


@pytest.mark.parametrize(
    ("text", "precision", "instant"),
    [
        ("m f=1 1556813561098000000", "ns", 1_556_813_561_098),
        ("m f=1 1556813561098000", "us", 1_556_813_561_098),
        ("m f=1 1556813561098", "ms", 1_556_813_561_098),
        ("m f=1 1556813561", "s", 1_556_813_561_000),
        ("m f=1 -1000", "s", -1_000_000),
        ("m f=1", "s", 1_700_000_000_000),
    ],
)
def test_a_time_is_in_the_precision_and_a_missing_one_is_kafkas(
    text: str, precision: str, instant: int
) -> None:
    [row] = parse(text, precision=precision)

    assert row["timestamp"] == instant


def test_lines_of_any_ending_are_points_and_comments_and_empty_ones_are_not() -> None:
    text = "# head\n\nm f=1 1000000\r\n  m f=2 2000000\n\t# more\n \nm f=3 3000000 \n"

    assert [(row["f"], row["timestamp"]) for row in parse(text)] == [(1.0, 1), (2.0, 2), (3.0, 3)]
    assert parse("") == parse("\n\r\n ") == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("m", "line 1, column 2", "a comma, or a space and the fields"),
        ("m f=1\n,a=b f=1", "line 2, column 1", "a measurement"),
        ("m,a f=1", "line 1, column 3", "a tag is expected"),
        ("m,a= f=1", "line 1, column 3", "a tag is expected"),
        ("m,=b f=1", "line 1, column 3", "a tag is expected"),
        ("m,a=b=c f=1", "line 1, column 6", "a comma, or a space"),
        ("m,a=b,a=c f=1", "line 1, column 7", "tag 'a' stands twice"),
        ("m f=1,f=2", "line 1, column 7", "field 'f' stands twice"),
        ("m f=1,", "line 1, column 7", "a field is expected"),
        ("m f=1, g=2", "line 1, column 7", "a field is expected"),
        ("m f", "line 1, column 3", "a field is expected"),
        ("m f=1 5 6", "line 1, column 6", "a comma, a timestamp or the end"),
        ("m f=1 1.5", "line 1, column 6", "a comma, a timestamp or the end"),
        ("m f=1\nm f=oops 5", "line 2, column 5", "'oops' is no number"),
        ('m f=1\nm f="a\nb",g=x', "line 3, column 6", "'x' is no number"),
    ],
)
def test_a_malformed_line_is_rejected_with_its_place(text: str, place: str, words: str) -> None:
    with pytest.raises(RejectError, match=f"^influx: {place}: .*{words}"):
        parse(text)


def test_bytes_that_are_no_utf8_and_times_that_no_calendar_has_are_rejected() -> None:
    with pytest.raises(RejectError, match=r"^influx: line 2 is not UTF-8: .* at byte 8"):
        parse(b"m f=1\nm \xff=1")
    with pytest.raises(RejectError, match="line 1, column 6: the timestamp is out of range"):
        parse("m f=1 1000000000000000001", precision="us")
    with pytest.raises(RejectError, match="neither the metric nor Kafka"):
        InfluxFormat().parse(b"m f=1", FakeMessage(b"", moment=(0, -1)))


@pytest.mark.parametrize("value", [None, 1, "", "m", "NS"])
def test_what_is_no_precision_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="give one of ns, us, ms, s"):
        parse_precision(value)


@given(st.binary() | st.text(alphabet='m,= \\"\n\r#1itu.-éf').map(str.encode))
def test_whatever_comes_is_rows_or_rejected(raw: bytes) -> None:
    try:
        rows = InfluxFormat().parse(raw, KAFKA)
    except RejectError:
        return
    assert all(row["name"] and row["fields"] for row in rows)


_name = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\\"), min_size=1).filter(
    lambda text: not text.startswith(("#", " ", "\t"))
)
_value = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)


def escape(text: str, characters: str) -> str:
    return "".join(f"\\{one}" if one in characters else one for one in text)


def write(value: Any) -> str:
    if isinstance(value, str):
        return '"' + escape(value, '"\\') + '"'
    return str(value).lower() if isinstance(value, bool) else f"{value!r}{'i' * isinstance(value, int)}"


@given(
    _name,
    st.dictionaries(_name, _name),
    st.dictionaries(_name, _value, min_size=1),
    st.integers(0, 2**63 - 1),
)
def test_what_is_written_by_the_specification_is_read_back(
    name: str, tags: dict[str, str], fields: dict[str, Any], at: int
) -> None:
    head = escape(name, ", ") + "".join(f",{escape(key, ',= ')}={escape(tags[key], ',= ')}" for key in tags)
    body = ",".join(f"{escape(key, ',= ')}={write(value)}" for key, value in fields.items())

    rows = parse(f"{head} {body} {at}\n" * 2)

    assert [(row["name"], row["tags"], row["fields"]) for row in rows] == [(name, tags, fields)] * 2


@pytest.mark.parametrize(
    "text",
    [
        "m f=" + "1" * 10**6 + "x",
        "m f=" + "1" * 10**6 + "i",
        "m,a=" + "\\ " * 10**6,
        'm f="' + "\\\\" * 10**6,
        "m" * 10**6,
    ],
    ids=["number", "integer", "tag", "string", "measurement"],
)
def test_a_long_value_is_read_once_and_not_again_from_each_of_its_characters(text: str) -> None:
    with pytest.raises(RejectError, match=r"^influx: line 1, column "):
        parse(text)
