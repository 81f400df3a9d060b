"""The lean transport does what Paramiko's does; real sshd test it in whole."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import paramiko
import pytest

from airflow_provider_restrack.collect import lean
from airflow_provider_restrack.collect.lean import (
    BoundedDecompressor,
    LeanTransport,
    SharedCompressor,
    choose_transport,
    may_compress,
)
from airflow_provider_restrack.collect.tiers import read_agent_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    choose_transport.cache_clear()
    yield
    choose_transport.cache_clear()


@pytest.fixture
def open_transport() -> Iterator[Callable[..., Any]]:
    with contextlib.ExitStack() as stack:

        def open_one(kind: type[paramiko.Transport], **options: Any) -> paramiko.Transport:
            ours, theirs = socket.socketpair()
            theirs.close()
            return kind(stack.enter_context(ours), **options)

        yield open_one


@pytest.mark.parametrize(
    "packets",
    [
        pytest.param([b"a", b"", b"b" * 1024], id="small"),
        pytest.param([read_agent_source()[:32768], read_agent_source()[32768:]], id="large-first"),
        pytest.param([b"x", b"y" * 5000, b"z", b"y" * 5000, b"end"], id="mixed"),
    ],
)
def test_a_peer_reads_each_packet_when_it_has_come(packets: list[bytes]) -> None:
    compress, peer = SharedCompressor(), zlib.decompressobj()

    assert [peer.decompress(compress(packet)) for packet in packets] == packets


@pytest.mark.parametrize("level", [1, 9])
def test_each_packet_of_a_peer_is_read_when_it_has_come(level: int) -> None:
    peer, read = zlib.compressobj(level), BoundedDecompressor()
    packets = [b"x", b"", b"y" * 32768, read_agent_source(), *[bytes(32768)] * 240, b"end"]

    sent = [peer.compress(packet) + peer.flush(zlib.Z_SYNC_FLUSH) for packet in packets]

    assert [read(data) for data in sent] == packets


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(zlib.compress(bytes(64 << 20), 9), id="bomb"),
        pytest.param(zlib.compress(bytes(300 << 10)), id="somewhat-too-large"),
        pytest.param(b"no zlib at all", id="garbage"),
    ],
)
def test_a_packet_that_would_grow_beyond_measure_ends_the_connection(sent: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(paramiko.SSHException, match="compressed packet"):
        BoundedDecompressor()(sent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 << 20


def test_many_packets_that_grow_a_thousandfold_end_the_connection() -> None:
    peer, read = zlib.compressobj(9), BoundedDecompressor()
    sent = [peer.compress(bytes(250_000)) + peer.flush(zlib.Z_SYNC_FLUSH) for _ in range(100)]
    kept: list[bytes] = []

    with pytest.raises(paramiko.SSHException, match="more than any sample"):
        kept.extend(map(read, sent))

    assert 8 << 20 < sum(map(len, kept)) < 20 << 20


@pytest.mark.parametrize(("compress", "offered"), [(True, ("zlib@openssh.com", "none")), (False, ("none",))])
def test_compression_is_offered_from_the_login_on_and_never_before_the_host_is_known(
    compress: bool, offered: tuple[str, ...], open_transport: Callable[..., Any]
) -> None:
    transport = open_transport(LeanTransport)

    transport.use_compression(compress=compress)

    assert transport.preferred_compression == offered
    assert set(transport._compression_info) == {"zlib@openssh.com", "none"}
    assert transport._compression_info["zlib@openssh.com"][1] is BoundedDecompressor


def test_the_agent_is_as_small_as_zlib_makes_it() -> None:
    source = read_agent_source()

    assert len(SharedCompressor()(source)) <= len(zlib.compress(source, 6)) + 16


def test_what_is_sent_to_all_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    compressobj: Callable[..., Any] = zlib.compressobj

    def count(*arguments: Any) -> Any:
        made.append(1)
        return compressobj(*arguments)

    monkeypatch.setattr(lean.zlib, "compressobj", count)
    monkeypatch.setattr(lean, "_deflate", lean._Deflated())
    data = b"agent" * 1000

    streams = {SharedCompressor()(data) for _ in range(3)}

    assert len(streams) == len(made) == 1


def test_few_chunks_are_kept_whatever_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = lean._Deflated()

    for number in range(100):
        kept(b"%d" % number)

    assert len(kept._kept) <= 8


def test_the_release_of_paramiko_that_is_locked_has_the_lean_transport(fresh_choice: None) -> None:
    assert choose_transport() is LeanTransport
    assert may_compress()


@pytest.mark.parametrize("name", ["_log", "_filter_algorithm", "_parse_debug", "use_compression"])
def test_another_paramiko_is_used_as_it_is(
    name: str, fresh_choice: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(paramiko.Transport, name, lambda self, something_else: None)

    with caplog.at_level(logging.INFO):
        assert choose_transport() is paramiko.Transport

    assert not may_compress()
    assert f"Transport.{name}" in caplog.text


def test_a_paramiko_with_another_compression_is_used_as_it_is(
    fresh_choice: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paramiko.Transport, "_compression_info", {"none": (None, None)})

    assert choose_transport() is paramiko.Transport


@pytest.mark.parametrize("disabled", [None, {"ciphers": ["aes128-ctr"], "kex": ["curve25519-sha256"]}])
def test_the_same_algorithms_are_offered_as_by_paramiko(
    disabled: dict[str, Any] | None, open_transport: Callable[..., Any]
) -> None:
    theirs = open_transport(paramiko.Transport, disabled_algorithms=disabled)
    ours = open_transport(LeanTransport, disabled_algorithms=disabled)

    for kind in ("ciphers", "macs", "keys", "pubkeys", "kex", "compression"):
        name = f"preferred_{kind}"
        assert getattr(ours, name) == getattr(theirs, name), name


def test_a_log_that_is_on_has_what_the_host_says(
    caplog: pytest.LogCaptureFixture, open_transport: Callable[..., Any]
) -> None:
    transport = open_transport(LeanTransport)
    message = paramiko.Message()
    message.add_boolean(False)
    message.add_string("from the host")
    message.add_string("")

    for level in (logging.DEBUG, logging.CRITICAL):
        with caplog.at_level(level, logger="paramiko.transport"):
            transport._parse_debug(paramiko.Message(message.asbytes()))

    assert caplog.text.count("from the host") == 1


def test_a_handshake_has_no_thread_that_waits_for_its_limit(open_transport: Callable[..., Any]) -> None:
    transport = open_transport(LeanTransport)
    before = threading.active_count()

    transport.packetizer.start_handshake(3600)

    assert threading.active_count() == before
    assert not transport.packetizer.handshake_timed_out()
