"""Makes the inputs: valid samples, samples that are damaged as fields or as bytes, and noise.

Values are kept as JSON text until the end, so that what no JSON library would write can be written: a field
twice, a number of 400 digits, NaN, half a surrogate pair.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from airflow_provider_restrack.load.cql_types import CqlType

_POOL = 80  # ready values of a type: to make each anew would take most of a run
_NUMBERS = (
    "0", "-0", "-0.0", "1.0", "1e3", "1E-7", "1.5", "127", "128", "-129", "32767", "32768", "2147483647",
    "2147483648", "-2147483649", "9007199254740993", "9223372036854775807", "9223372036854775808",
    "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
    "9223372036854776", "-9223372036854776", "1" * 30, "-" + "9" * 400, "1e308", "1.8e308", "1e400",
    "-1e999", "5e-324", "1e-400", "3.4028235e38", "3.5e38",
    "0.1000000000000000055511151231257827021181583404541015625", "2.2250738585072011e-308",
    "123456789.123456789e-5", "1e6144", "1e6145", "1e99999", "1234567890123456789012345678901234567890.5",
)  # fmt: skip
_TEXTS = (
    "", "a", " ", "true", "null", "NaN", "1", "-1.5e3", "1_0", "\u0000", "\u00e4\u00f6", "\u2028",
    "\U0001f600", "'; --", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.1234565+05:30",
    "2026-01-02T03:04:05", "2026-01-02", "2026-02-30", "2026-12-31T23:59:59.9999999Z",
    "9999-12-31T23:59:59.9999999Z", "0001-01-01T00:00:00+14:00", "2026-W01-1", "20260102",
    "2026-01-02T24:00:00Z", "2026-01-02T03:04:60Z", "2026-01-02T03:04:05-23:59", "2026-01-02t03:04:05z",
    "1969-12-31T23:59:59.9999Z", "2026-01-02T03:04:05+24:00", "2026-01-02T03:04:05+0100",
    "2026-01-02T03:04Z", "9999-12-31T23:59:59-12:00", "2026-1-2", "03:04:05", "23:59:59.9999999",
    "03:04:05.123456789", "03:04:05Z", "24:00:00", "03:04", "00:00:00.0000000001",
    "6f1d2c3b-4a59-5867-8123-9abcdef01234", "6F1D2C3B4A59186781239ABCDEF01234",
    "6f1d2c3b-4a59-1867-8123-9abcdef01234", "{6f1d2c3b-4a59-1867-8123-9abcdef01234}", "1.2.3.4", "01.2.3.4",
    "::ffff:1.2.3.4", "fe80::1%eth0", "::", "1.2.3", "AA==", "AB==", "AAA", "_-8=", "1.10", "1e5", "1e7000",
    "P", "PT", "-P1Y2M3W4DT5H6M7.89S", "PT1.0000000001S", "P1M1Y", "1m1h", "1mo1m", "2147483647mo",
    "P2147483648D", "1us1\u00b5s", "9223372036854775807ns", "9223372036854775808ns", "-1d", "1D", "p1d",
    "P1\u0663D", "PT1.5M", "1" * 5000 + "y",
    "Infinity", "-0.0", " 1 ", "\u0663", "x" * 300, "x" * 70_000, "/srv/" * 120,
)  # fmt: skip
_LITERALS = (
    "null", "true", "false", "NaN", "Infinity", "-Infinity", "nul", "[]", "{}", "[null]", '{"a": null}',
    '[[]]', '{"a": {}}', '{"": 1}', '{"a": 1, "a": 2}', '{"a": "x", "a": "y"}', '["a", 1]', "[1, 2.5, -0]",
    '"\\ud800"', '"\\udc00x"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"\\u12"', "'a'", "01", "1.", ".5",
    "+1", "-", "0x10", "1e", "", "[1,]", '{"a":}', "// comment", '{"1": 1, "-0": 2, "01": 3}',
    '{"2026-01-02": 1, "2026-01-02T00:00:00Z": 2}', '[0.0, -0.0, 0]', '["1.0", "1.00"]',
)  # fmt: skip
_BYTES = (
    b"\x00", b"\xef\xbb\xbf", b"\xff", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xc3", b"\xe2\x82", b'"', b"\\", b"\\u", b"{", b"}", b"[", b"]", b",", b":", b"-", b"e", b".", b"\n",
    b"\x1f", b"\x7f", b"null", b"NaN", b'"":', b"9" * 40,
)  # fmt: skip
# Of the records' times; some are older than any retention, some come from a clock that is ahead.
NOW_S = 1_767_322_800


def _deep(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "1" + closing * depth


_DEPTHS = (2, 30, 200, 700, 1500, 20_000)
_DEEP = [_deep(depth, "[", "]") for depth in _DEPTHS] + [_deep(depth, '{"a":', "}") for depth in _DEPTHS]
_ODD = [*_NUMBERS, *map(json.dumps, _TEXTS), *_LITERALS]


class Inputs:
    """Makes values of records for one set of tables.

    :param fields: the type of each field that a table takes.
    :param needed: fields that a valid sample has.
    """

    def __init__(self, rng: random.Random, fields: Mapping[str, CqlType], needed: set[str]) -> None:
        self._rng, self._needed = rng, needed
        self._types = dict(fields)
        self._pools = {name: [self._valid(cql) for _ in range(_POOL)] for name, cql in self._types.items()}
        self._names = list(fields)
        self._gone = [frozenset(), *(self._absences() for _ in range(20))]

    def make(self) -> bytes | None:
        """Return the value of a record; None is a tombstone."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.003:
            return None
        if kind < 0.03:
            return rng.randbytes(rng.randrange(120))
        pairs = self._sample()
        if kind > 0.45:
            for _ in range(rng.randrange(1, 3)):
                rng.choice(_DAMAGES)(self, pairs)
        raw = self._write(pairs)
        if kind > 0.85:
            for _ in range(rng.randrange(1, 4)):
                raw = damage(rng, raw)
        return raw

    def _sample(self) -> list[tuple[str, str]]:
        """Return a valid sample; like a host's, most lack the same fields as those before."""
        rng = self._rng
        if rng.random() < 0.05:
            self._gone[rng.randrange(len(self._gone))] = self._absences()
        gone = rng.choice(self._gone)
        pools = self._pools
        pairs = [(json.dumps(name), rng.choice(pools[name])) for name in self._names if name not in gone]
        if rng.random() < 0.3:
            rng.shuffle(pairs)
        if rng.random() < 0.1:
            name = rng.choice(self._names)
            pools[name][rng.randrange(_POOL)] = self._valid(self._types[name])
        return pairs

    def _absences(self) -> frozenset[str]:
        """Return fields that a sample lacks: few, half of them, or nearly all."""
        share = self._rng.random()
        return frozenset(
            name for name in self._names if name not in self._needed and self._rng.random() < share
        )

    def _write(self, pairs: list[tuple[str, str]]) -> bytes:
        comma, colon = self._rng.choice(((", ", ": "), (",", ":"), (" ,\n", "\t:\r\n")))
        text = "{" + comma.join([name + colon + value for name, value in pairs]) + "}"
        return text.encode("utf-8", "surrogatepass")

    def _valid(self, cql: CqlType) -> str:
        """Return JSON that a column of the type takes."""
        if cql.name in ("list", "set"):
            count = 70 if self._rng.random() < 0.005 else self._rng.choice((0, 1, 1, 2, 2, 3, 4))
            return "[" + ", ".join([self._valid(cql.arguments[0]) for _ in range(count)]) + "]"
        if cql.name == "vector":
            size = int(cql.arguments[1].name)
            return "[" + ", ".join([self._valid(cql.arguments[0]) for _ in range(size)]) + "]"
        if cql.fields:
            pairs = zip(cql.fields, cql.arguments, strict=True)
            kept = [(name, self._or_null(one)) for name, one in pairs if self._rng.random() < 0.8]
            return "{" + ", ".join([f"{json.dumps(name)}: {value}" for name, value in kept]) + "}"
        if cql.name == "tuple":
            return "[" + ", ".join([self._or_null(one) for one in cql.arguments]) + "]"
        if cql.name == "map":
            key, value = cql.arguments
            keys = [self._valid(key).strip('"') for _ in range(self._rng.choice((0, 1, 1, 2, 2, 5)))]
            return "{" + ", ".join([f'"{one}": {self._valid(value)}' for one in keys]) + "}"
        return VALID[cql.name](self._rng)

    def _or_null(self, cql: CqlType) -> str:
        return "null" if self._rng.random() < 0.2 else self._valid(cql)


def damage(rng: random.Random, raw: bytes) -> bytes:
    """Return a value with some bytes changed, cut, doubled or put in."""
    where = rng.randrange(len(raw) + 1)
    until = min(len(raw), where + rng.randrange(1, 9))
    piece = rng.choice(_BYTES)
    choice = rng.randrange(6)
    if choice == 0 and where < len(raw):
        return raw[:where] + bytes([raw[where] ^ 1 << rng.randrange(8)]) + raw[where + 1 :]
    if choice == 1:
        return raw[:where]
    if choice == 2:
        return raw[:where] + raw[until:]
    if choice == 3:
        return raw[:until] + raw[where:]
    if choice == 4:
        return rng.choice((piece + raw, raw + piece))
    return raw[:where] + piece + raw[where:]


def _any_pair(self: Inputs, pairs: list[tuple[str, str]]) -> int:
    return self._rng.randrange(len(pairs)) if pairs else 0


def _drop(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    if pairs:
        del pairs[_any_pair(self, pairs)]


def _repeat(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    if pairs:
        name, value = self._rng.choice(pairs)
        pairs.insert(
            _any_pair(self, pairs), (name, self._rng.choice((value, "null", self._rng.choice(_ODD))))
        )


def _rename(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    if pairs:
        index = _any_pair(self, pairs)
        name, value = pairs[index]
        escaped = '"' + "".join(f"\\u{ord(one):04x}" for one in name.strip('"')) + '"'
        other = ('""', name.upper(), name[:-1] + ' "', escaped, escaped, "null", name + '"', "1", '"\\ud800"')
        pairs[index] = (self._rng.choice(other), value)


def _swap(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    if pairs:
        one, other = _any_pair(self, pairs), _any_pair(self, pairs)
        (first, here), (second, there) = pairs[one], pairs[other]
        pairs[one], pairs[other] = (first, there), (second, here)


def _null(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    if pairs:
        index = _any_pair(self, pairs)
        pairs[index] = (pairs[index][0], "null")


def _odd(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    if pairs:
        index = _any_pair(self, pairs)
        pairs[index] = (pairs[index][0], self._rng.choice(_ODD))


def _nest(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    """Put an odd value where a collection's items are."""
    if pairs:
        index = _any_pair(self, pairs)
        inner = self._rng.choice((self._rng.choice(_ODD), pairs[index][1]))
        key = json.dumps(self._rng.choice(_TEXTS))
        shape = self._rng.choice((f"[{inner}]", f"[{inner}, {inner}]", f"{{{key}: {inner}}}"))
        pairs[index] = (pairs[index][0], shape)


def _unknown(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    value = self._rng.choice(_DEEP) if self._rng.random() < 0.2 else self._rng.choice(_ODD)
    pairs.insert(_any_pair(self, pairs), ('"an unknown field"', value))


def _deepen(self: Inputs, pairs: list[tuple[str, str]]) -> None:
    if pairs and self._rng.random() < 0.2:
        index = _any_pair(self, pairs)
        pairs[index] = (pairs[index][0], self._rng.choice(_DEEP))


_DAMAGES: tuple[Callable[[Inputs, list[tuple[str, str]]], None], ...] = (
    _drop, _repeat, _rename, _swap, _null, _odd, _odd, _odd, _nest, _unknown, _deepen,
)  # fmt: skip


def _integer(bits: int) -> Callable[[random.Random], str]:
    def make(rng: random.Random) -> str:
        limit = 2 ** (bits - 1)
        return str(rng.choice((rng.randrange(-limit, limit), rng.randrange(100), limit - 1, -limit)))

    return make


def _float(rng: random.Random) -> str:
    return rng.choice(
        (repr(rng.random() * 100), str(rng.randrange(10**6)), repr(rng.gauss(0, 1e12)), "0.0", "-0.0")
    )


def _text(rng: random.Random) -> str:
    plain = rng.choice(("host-", "/srv/", "sd", "\u00e4", "\U0001f600", "")) + str(rng.randrange(40))
    return json.dumps(plain, ensure_ascii=rng.random() < 0.5)


def _day(rng: random.Random) -> tuple[int, int, int]:
    return rng.choice((2026, 2026, 2025, 1969, 1, 9999)), rng.randrange(1, 13), rng.randrange(1, 29)


def _clock(rng: random.Random, digits: int) -> str:
    text = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    if rng.random() < 0.7:
        count = rng.randrange(1, digits + 1)
        text += "." + f"{rng.choice((rng.randrange(10**count), 10**count - 1)):0{count}}"
    return text


def _instant(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return str(
            rng.choice(
                (
                    rng.randrange(NOW_S - 10**5, NOW_S + 10**4) * 1000 + rng.randrange(1000),
                    rng.randrange(-(10**13), 10**13),
                )
            )
        )
    day = rng.choice((f"2026-01-0{rng.randrange(1, 4)}", "{:04}-{:02}-{:02}".format(*_day(rng))))
    zone = rng.choice(("Z", "Z", "z", "+00:00", "-00:00", "+0530", "-11:45", "+14:00"))
    return f'"{day}{rng.choice("TTt ")}{_clock(rng, 9)}{zone}"'


def _date(rng: random.Random) -> str:
    day = "{:04}-{:02}-{:02}".format(*_day(rng))
    return f'"{day}"' if rng.random() < 0.7 else f'"{day}T{_clock(rng, 6)}+01:00"'


def _uuid(rng: random.Random) -> str:
    made = uuid.UUID(int=rng.getrandbits(128))
    return f'"{rng.choice((str(made), made.hex, str(made).upper()))}"'


def _inet(rng: random.Random) -> str:
    four = ".".join(str(rng.randrange(256)) for _ in range(4))
    six = ":".join(f"{rng.getrandbits(16):x}" for _ in range(8))
    return f'"{rng.choice((four, six, "::1", "fe80::" + six[-4:].strip(":"), "::ffff:" + four))}"'


def _decimal(rng: random.Random) -> str:
    text = f"{rng.choice(('', '-'))}{rng.randrange(10**6)}.{rng.randrange(10**4):04}"
    return rng.choice(
        (text, f'"{text}"', f'"{text}e-300"', str(rng.randrange(-99, 99)), "1.10", '"1.1"', "12e30")
    )


def _duration(rng: random.Random) -> str:
    days = "".join(f"{rng.randrange(40)}{one}" for one in "YMWD" if rng.random() < 0.4)
    clock = "".join(f"{rng.randrange(99)}{one}" for one in ("H", "M", "S", ".5S") if rng.random() < 0.4)
    units = ("y", "mo", "w", "d", "h", "m", "s", "ms", rng.choice(("us", "\u00b5s")), "ns")
    own = "".join(f"{rng.randrange(10**5)}{one}" for one in units if rng.random() < 0.3)
    iso = "P" + days + ("T" + clock.replace("S.", ".")) * bool(clock)
    return json.dumps(rng.choice(("", "-")) + rng.choice((iso if iso != "P" else "PT0S", own or "0s")))


VALID: dict[str, Callable[[random.Random], str]] = {
    "text": _text, "varchar": _text, "ascii": lambda rng: f'"a{rng.randrange(99)}"',
    "boolean": lambda rng: rng.choice(("true", "false")), "tinyint": _integer(8), "smallint": _integer(16),
    "int": _integer(32), "bigint": _integer(64), "varint": _integer(200), "double": _float,
    "float": lambda rng: repr(rng.gauss(0, 1e6)), "decimal": _decimal, "timestamp": _instant, "date": _date,
    "time": lambda rng: f'"{_clock(rng, 9)}"', "uuid": _uuid,
    "timeuuid": lambda rng: f'"{uuid.UUID(int=rng.getrandbits(128), version=1)}"', "inet": _inet,
    "blob": lambda rng: json.dumps(base64.b64encode(rng.randbytes(rng.randrange(20))).decode()),
    "duration": _duration,
}  # fmt: skip


def moment(rng: random.Random) -> tuple[int, int]:
    """Return a record's time as Kafka gives it: a kind, and milliseconds."""
    if rng.random() < 0.9:
        return 1, NOW_S * 1000 - rng.randrange(10**8)
    return rng.choice(((0, -1), (1, 0), (1, -1), (2, NOW_S * 1000), (1, 2**63 - 1), (1, 2**53)))
