from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError, SchemaRegistryError
from airflow_provider_restrack.load.formats.schema_registry import (
    RegistryPolicy,
    SchemaRegistry,
    parse_registry,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NO_SCHEMA = (404, b'{"error_code": 40403, "message": "Schema not found"}')


class Registry:
    """A real HTTP server with answers by path; any other path gets ``otherwise``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.otherwise = NO_SCHEMA
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    def add(self, path: str, schema: Any, **more: Any) -> None:
        self.answers[path] = (200, json.dumps({"schema": json.dumps(schema)} | more).encode())


@contextmanager
def serve() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append((self.path, dict(self.headers)))
            status, body = registry.answers.get(self.path, registry.otherwise)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry = Registry(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serve() as found:
        yield found


def client(url: str, **extra: Any) -> SchemaRegistry:
    settings = {"schema.registry.url": url} | {f"schema.registry.{key}": one for key, one in extra.items()}
    return SchemaRegistry(parse_registry(settings, connection="my_kafka"))


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_schema_comes_by_its_id_with_the_login(registry: Registry) -> None:
    registry.add("/base/schemas/ids/7", {"type": "string"})

    found = client(registry.url + "/base/", **{"basic.auth.user.info": "me:se:cret"}).fetch(7)

    assert [json.loads(one) for one in found] == [{"type": "string"}]
    [(_, headers)] = registry.asked
    assert headers["Authorization"] == "Basic bWU6c2U6Y3JldA=="


def test_without_a_login_none_is_sent(registry: Registry) -> None:
    registry.add("/schemas/ids/7", "int")
    client(registry.url).fetch(7)

    assert "Authorization" not in registry.asked[0][1]


def test_what_a_schema_refers_to_precedes_it_each_once(registry: Registry) -> None:
    def refer(*places: tuple[str, int]) -> list[dict[str, Any]]:
        return [{"name": "x", "subject": subject, "version": version} for subject, version in places]

    registry.add("/schemas/ids/7", "top", references=refer(("a/b", 1), ("c", 2)))
    registry.add("/subjects/a%2Fb/versions/1", "ab", references=refer(("c", 2)))
    registry.add("/subjects/c/versions/2", "c")

    assert [json.loads(one) for one in client(registry.url).fetch(7)] == ["c", "ab", "top"]
    assert len(registry.asked) == 3


def test_an_id_or_a_reference_that_it_lacks_and_other_kinds_are_the_records_fault(registry: Registry) -> None:
    registry.add("/schemas/ids/1", "x", schemaType="PROTOBUF")
    registry.add("/schemas/ids/2", "x", references=[{"name": "x", "subject": "gone", "version": 3}])
    registry.add("/schemas/ids/3", "x", references=[{"name": "x", "subject": "self", "version": 1}])
    registry.add(
        "/subjects/self/versions/1", "x", references=[{"name": "x", "subject": "self", "version": 1}]
    )
    registry.add("/schemas/ids/4", "x", references=[{"subject": "no version"}])

    for schema_id, words in [
        (9, "no such schema"), (1, "of PROTOBUF"), (2, "lacks gone version 3"), (3, "refers to itself"),
        (4, "references"),
    ]:  # fmt: skip
        with pytest.raises(RejectError, match=words):
            client(registry.url).fetch(schema_id)


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"boom"),
        (503, b'{"error_code": 50301}'),
        (404, b"<html>no registry here</html>"),
        (200, b"<html>hello</html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"schema": 5}'),
        (302, b""),
    ],
)
def test_an_answer_of_no_registry_is_no_verdict_on_the_record(
    registry: Registry, answer: tuple[int, bytes]
) -> None:
    registry.otherwise = answer

    with pytest.raises(
        SchemaRegistryError, match=rf"'my_kafka'\): {registry.url}/schemas/ids/7 .*HTTP {answer[0]}"
    ):
        client(registry.url).fetch(7)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_is_a_matter_of_the_connection(registry: Registry, status: int) -> None:
    registry.otherwise = (status, b'{"error_code": 40101}')

    with pytest.raises(ConfigurationError, match=r"refuses the login .*connection 'my_kafka'") as failure:
        client(registry.url, **{"basic.auth.user.info": "me:secret"}).fetch(7)
    assert "secret" not in str(failure.value)


def test_the_next_registry_is_asked_when_one_is_down(registry: Registry) -> None:
    registry.add("/schemas/ids/7", "int")

    assert client(f"{closed_port()}, {registry.url}").fetch(7) == ['"int"']


def test_a_registry_that_is_down_or_silent_is_named() -> None:
    with pytest.raises(SchemaRegistryError, match="does not answer: ConnectionRefusedError"):
        client(closed_port()).fetch(7)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SchemaRegistryError, match="does not answer: TimeoutError"):
            SchemaRegistry(RegistryPolicy((url,), timeout_s=0.1)).fetch(7)


def test_what_speaks_no_http_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x00\x01\x02\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(SchemaRegistryError, match="does not answer: BadStatusLine"):
            client(f"http://127.0.0.1:{server.getsockname()[1]}").fetch(7)
        thread.join()


def test_a_login_in_the_address_is_taken_out_of_it() -> None:
    policy = parse_registry({"schema.registry.url": "https://me:s%40crt@r:8081/x/"}, connection="k")

    assert (policy.urls, policy.user_info) == (("https://r:8081/x",), "me:s@crt")
    assert "s@crt" not in repr(policy)


@pytest.mark.parametrize("url", ["registry:8081", "ftp://r", "http://", "http://r:port", "http://[x"])
def test_an_address_that_is_none_of_http_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"'k': schema\.registry\.url is to be http"):
        parse_registry({"schema.registry.url": url}, connection="k")


def test_the_certificates_to_trust_are_a_setting(tmp_path: Any) -> None:
    with pytest.raises(SchemaRegistryError, match="FileNotFoundError"):
        client("https://127.0.0.1:1", **{"ssl.ca.location": str(tmp_path / "none.pem")}).fetch(7)
