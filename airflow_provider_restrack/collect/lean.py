"""Paramiko's transport without what a login to each of a thousand hosts does not need.

Nothing here changes what is encrypted or checked. Paramiko 5 spends much of a host's CPU on log lines that
nobody reads, on a timer thread for each handshake, and on compressing the same agent again. What a host sends
compressed is expanded within a limit, and only after the login.
"""

from __future__ import annotations

import inspect
import logging
import struct
import threading
import zlib
from functools import cache
from typing import Any, ClassVar

import paramiko
from paramiko.packet import Packetizer

log = logging.getLogger(__name__)

_HEADER = b"\x78\x9c"  # of a zlib stream, RFC 1950
_MAX_STORED = 1024
_MAX_KEPT = 8
_BEST = 9
# Of one packet: RFC 4253 asks for 32 KiB, OpenSSH sends no more than 256.
_MAX_PACKET = 256 * 1024
# Of a connection, beyond what a sample may have: text that repeats itself shrinks to a tenth, zeros to a
# thousandth.
_MAX_FREE = 16 * 1024 * 1024
_MAX_RATIO = 100
# What is compressed from the login on. Plain zlib is before the host's key is checked: never offered.
_DELAYED = "zlib@openssh.com"
# What is overridden or counted on, with the parameters that it had when this was written; where a release
# of Paramiko differs, its own transport is used as it is.
_SEAMS = (
    (paramiko.Transport, "_log", ("self", "level", "msg", "args")),
    (paramiko.Transport, "_filter_algorithm", ("self", "type_")),
    (paramiko.Transport, "_parse_debug", ("self", "m")),
    (paramiko.Transport, "use_compression", ("self", "compress")),
    (Packetizer, "start_handshake", ("self", "timeout")),
)


class _Deflated:
    """Chunks that are sent to every host, as deflate blocks: compressed once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[bytes, bytes] = {}

    def __call__(self, data: bytes) -> bytes:
        """Return the blocks of ``data``, which refer to nothing before them and end on a byte."""
        with self._lock:
            found = self._kept.get(data)
            if found is None:
                compressor = zlib.compressobj(_BEST, zlib.DEFLATED, -zlib.MAX_WBITS)
                found = compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)
                if len(self._kept) >= _MAX_KEPT:
                    self._kept.clear()
                self._kept[data] = found
            return found


_deflate = _Deflated()


class SharedCompressor:
    """A zlib stream (RFC 1950, 1951) whose large packets are compressed once for all connections.

    Small ones are stored as they are: what Paramiko flushes after each saves them nothing. There is no
    state of 256 KiB for each connection, as zlib's own compressor has.
    """

    def __init__(self) -> None:
        self._header = _HEADER

    def __call__(self, data: bytes) -> bytes:
        """Return the next part of the stream, which a peer can read to the end of ``data``."""
        header, self._header = self._header, b""
        if len(data) > _MAX_STORED:
            return header + _deflate(data)
        size = len(data)
        return header + struct.pack("<BHH", 0, size, size ^ 0xFFFF) + data


class BoundedDecompressor:
    """Reads a zlib stream whose packets do not grow without end: 9 MiB that are sent could be gigabytes."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._left = _MAX_FREE

    def __call__(self, data: bytes) -> bytes:
        """Return what a packet holds.

        :raises paramiko.SSHException: if that is more than a packet or a connection may hold, or no zlib.
        """
        try:
            expanded = self._stream.decompress(data, _MAX_PACKET)
        except zlib.error as error:
            raise paramiko.SSHException(f"a compressed packet cannot be read: {error}") from error
        self._left = min(_MAX_FREE, self._left + _MAX_RATIO * len(data) - len(expanded))
        if self._stream.unconsumed_tail or self._left < 0:
            raise paramiko.SSHException("a compressed packet holds more than any sample takes")
        return expanded


class LeanPacketizer(Packetizer):
    """Leaves the handshake's time limit to whoever connects, in place of a thread that only waits for it."""

    def start_handshake(self, timeout: float) -> None:
        """Start no timer: ``Transport.start_client`` has its own limit."""


class LeanTransport(paramiko.Transport):
    """Makes no line of a log that is turned off, and no list of algorithms anew at each look."""

    _compression_info: ClassVar[dict[str, Any]] = {
        _DELAYED: (SharedCompressor, BoundedDecompressor),
        "none": (None, None),
    }

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, packetizer_class=LeanPacketizer, **options)

    def use_compression(self, compress: bool = True) -> None:
        """Offer compression from the login on, where it is wanted."""
        self._preferred_compression = (_DELAYED, "none") if compress else ("none",)

    def _log(self, level: int, msg: Any, *args: Any) -> None:
        if self.logger.isEnabledFor(level):
            super()._log(level, msg, *args)  # type: ignore[misc]

    def _filter_algorithm(self, type_: str) -> tuple[str, ...]:
        if self.disabled_algorithms:
            return super()._filter_algorithm(type_)  # type: ignore[misc, no-any-return]
        return tuple(getattr(self, f"_preferred_{type_}"))

    def _parse_debug(self, m: paramiko.Message) -> None:
        if self.logger.isEnabledFor(logging.DEBUG):
            super()._parse_debug(m)  # type: ignore[misc]


@cache
def choose_transport() -> type[paramiko.Transport]:
    """Return the lean transport, or Paramiko's own where its inside is not what the lean one builds on.

    That one expands what it is sent without a limit: see ``may_compress``.
    """
    changed = [
        f"{owner.__name__}.{name}" for owner, name, known in _SEAMS if _parameters(owner, name) != known
    ]
    if "packetizer_class" not in (_parameters(paramiko.Transport, "__init__") or ()):
        changed.append("Transport.__init__")
    if not _is_zlib():
        changed.append("Transport._compression_info")
    if not changed:
        return LeanTransport
    log.info(
        "Paramiko %s differs in %s: each host costs more CPU, and none is compressed",
        paramiko.__version__,
        ", ".join(changed),
    )
    return paramiko.Transport


def may_compress() -> bool:
    """Whether what a host sends compressed is expanded within a limit."""
    return issubclass(choose_transport(), LeanTransport)


def _parameters(owner: type, name: str) -> tuple[str, ...] | None:
    method = getattr(owner, name, None)
    return None if method is None else tuple(inspect.signature(method).parameters)


def _is_zlib() -> bool:
    """Whether Paramiko's decompressor, and so its idea of a compressor, reads what ours writes."""
    try:
        decompress = paramiko.Transport._compression_info[_DELAYED][1]()  # type: ignore[attr-defined]  # noqa: SLF001
        compress, samples = SharedCompressor(), (b"small", bytes(_MAX_STORED + 1))
        return all(decompress(compress(sample)) == sample for sample in samples)
    except (AttributeError, LookupError, TypeError, zlib.error):
        return False
