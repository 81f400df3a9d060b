"""Asks a schema registry for schemas by their id, over HTTP.

The interface: https://docs.confluent.io/platform/current/schema-registry/develop/api.html (``GET
/schemas/ids/{id}`` and, for schemas that refer to others, ``GET /subjects/{subject}/versions/{version}``).
Apicurio, Karapace and Redpanda speak it, too.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError, SchemaRegistryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_URL = "schema.registry.url"
_USER_INFO = "schema.registry.basic.auth.user.info"
_CA = "schema.registry.ssl.ca.location"
_MAX_ANSWER = 16_000_000


@dataclass(frozen=True, slots=True)
class RegistryPolicy:
    """Where the registry is.

    :ivar urls: without login; tried in turn.
    :ivar user_info: ``user:password``, or empty.
    :ivar ca_location: file of certificates to trust; None for the system's.
    :ivar timeout_s: for connecting and for each part of an answer.
    """

    urls: tuple[str, ...]
    user_info: str = field(default="", repr=False)
    ca_location: str | None = None
    timeout_s: float = 10.0
    connection: str = "kafka_default"


def parse_registry(config: Mapping[str, Any], *, connection: str) -> RegistryPolicy:
    """Read the registry's settings from those of the Kafka connection.

    :raises ConfigurationError: if there is no address, or none of HTTP.
    """
    urls = tuple(url.strip() for url in str(config.get(_URL) or "").split(",") if url.strip())
    if not urls:
        raise ConfigurationError(
            f"Kafka connection {connection!r} lacks {_URL} in its extra, which format 'avro' needs"
            " unless it is given a schema"
        )
    user_info = str(config.get(_USER_INFO) or "")
    found = []
    for url in urls:
        parts = _split(url)
        if parts is None:
            raise ConfigurationError(
                f"Kafka connection {connection!r}: {_URL} is to be http://host:port or https://host:port"
            )
        if parts.username and not user_info:
            user_info = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        address = parts.netloc.rpartition("@")[2]
        found.append(f"{parts.scheme}://{address}{parts.path.rstrip('/')}")
    return RegistryPolicy(tuple(found), user_info, config.get(_CA), connection=connection)


class SchemaRegistry:
    """Gives schemas; whoever asks keeps them."""

    def __init__(self, policy: RegistryPolicy) -> None:
        self._policy = policy

    def fetch(self, schema_id: int) -> list[str]:
        """Return an Avro schema as JSON, after those that it refers to.

        :raises RejectError: if the registry has no schema of this id, or none of Avro.
        :raises SchemaRegistryError: if no registry answers, or not as one.
        :raises ConfigurationError: if it refuses the login.
        """
        found = self._get(f"/schemas/ids/{schema_id}")
        if found is None:
            raise RejectError("the schema registry has no such schema")
        ordered: dict[tuple[str, int], str] = {}
        self._follow(found, ordered, ())
        return [*ordered.values(), _text_of(found)]

    def _follow(
        self,
        found: Mapping[str, Any],
        ordered: dict[tuple[str, int], str],
        within: tuple[tuple[str, int], ...],
    ) -> None:
        """Add the schemas that one refers to, each after those that it refers to itself."""
        for place in _places_of(found):
            if place in ordered:
                continue
            if place in within:
                raise RejectError(f"{place[0]} version {place[1]} refers to itself")
            inner = self._get(f"/subjects/{quote(place[0], safe='')}/versions/{place[1]}")
            if inner is None:
                raise RejectError(
                    f"the schema registry lacks {place[0]} version {place[1]}, to which it refers"
                )
            self._follow(inner, ordered, (*within, place))
            ordered[place] = _text_of(inner)

    def _get(self, path: str) -> Mapping[str, Any] | None:
        """Return an answer, or None if there is no such schema; try one registry after the other."""
        failures = []
        for url in self._policy.urls:
            try:
                status, body = self._ask(url, path)
            except (OSError, http.client.HTTPException) as error:
                failures.append(f"{url} does not answer: {type(error).__name__}: {error}")
                continue
            answer = _read_answer(body)
            if status == http.client.OK and answer is not None and isinstance(answer.get("schema"), str):
                return answer
            if status == http.client.NOT_FOUND and answer is not None and "error_code" in answer:
                return None
            if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
                raise ConfigurationError(
                    f"schema registry {url} refuses the login (HTTP {status}): check {_USER_INFO} of Kafka"
                    f" connection {self._policy.connection!r}"
                )
            failures.append(f"{url}{path} answers with HTTP {status}, and no schema")
        raise SchemaRegistryError(
            f"schema registry (Kafka connection {self._policy.connection!r}): {'; '.join(failures)}"
        )

    def _ask(self, url: str, path: str) -> tuple[int, bytes]:
        parts = urlsplit(url)
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if self._policy.user_info:
            token = base64.b64encode(self._policy.user_info.encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        connection = self._connect(parts)
        try:
            connection.request("GET", parts.path + path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_ANSWER)
        finally:
            connection.close()

    def _connect(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, timeout_s = parts.hostname or "", self._policy.timeout_s
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        context = ssl.create_default_context(cafile=self._policy.ca_location)
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _read_answer(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _places_of(found: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return subject and version of the schemas that one refers to."""
    try:
        return [(str(one["subject"]), int(one["version"])) for one in found.get("references") or ()]
    except (TypeError, LookupError, ValueError):
        raise RejectError("its references are none that can be followed") from None


def _text_of(found: Mapping[str, Any]) -> str:
    kind = found.get("schemaType", "AVRO")
    if kind != "AVRO":
        raise RejectError(f"it is a schema of {kind}, and not of Avro")
    return str(found["schema"])
