"""Notifications as Kafka messages, so that whoever handles alerts reads a topic and not Airflow."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_restrack.clock import format_utc
from airflow_provider_restrack.notify import describe_error, notify_in_thread

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

# Of these parts a notification's id is made: told again by a retry of the callback, it has the same one.
_ID_PARTS = ("dag_id", "run_id", "task_id", "map_index", "try_number", "state")
_NAMESPACE = uuid.UUID("5f0c2a5e-6d0d-5c43-9f0b-2f5b1f6c7a10")


class KafkaNotifier(BaseNotifier):
    """Send a message to a topic: as ``on_failure_callback``, ``on_success_callback`` and the like.

    A message is one JSON object. Its fields say where it comes from: ``id``, ``dag_id``, ``run_id``,
    ``task_id``, ``map_index``, ``try_number``, ``state``, ``logical_date``, ``log_url``, ``reason`` and
    ``error``, null where the callback does not know them; ``text``, ``evidence`` and the fields of
    ``message`` come on top.

    It is sent with ``acks=all``. One that fails is logged as an error with the message's id, and raised;
    Airflow logs what a callback raises and goes on, so a failed notification never changes a task's state.

    :param topic: an existing topic. (templated)
    :param message: None, a text (the field ``text``), or a dict whose fields are added, over those above.
        (templated)
    :param evidence: what to send as ``evidence``: a list of dicts or its JSON text, such as
        ``"{{ ti.xcom_pull(task_ids='threshold') | tojson }}"``. (templated)
    :param key_field: field whose text is the Kafka key.
    :param kafka_config_id: id of a ``kafka`` connection. (templated)
    :param headers: headers of the message. (templated)
    :param timeout: seconds for the whole call.
    """

    template_fields: Sequence[str] = ("topic", "message", "evidence", "kafka_config_id", "headers")

    def __init__(
        self,
        *,
        topic: str,
        message: str | Mapping[str, Any] | None = None,
        evidence: Any = None,
        key_field: str = "dag_id",
        kafka_config_id: str = "kafka_default",
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topic = topic
        self.message = message
        self.evidence = evidence
        self.key_field = key_field
        self.kafka_config_id = kafka_config_id
        self.headers = headers
        self.timeout = timeout
        self.failures = 0

    def notify(self, context: Context) -> None:
        """Send the message and wait until Kafka has acknowledged it."""
        record = build_message(context, self.message, self.evidence)
        try:
            self._send(record)
        except Exception as error:
            self.failures += 1
            self.log.error(  # noqa: TRY400 - the trace is logged by who called back
                "Notification %s to topic %s failed (failures of this notifier: %d): %s",
                record["id"], self.topic, self.failures, error,
            )  # fmt: skip
            raise
        self.log.info("Notification %s sent to topic %s", record["id"], self.topic)

    async def async_notify(self, context: Context) -> None:
        """As ``notify``, without blocking the event loop."""
        await notify_in_thread(self, context)

    def _send(self, record: Mapping[str, Any]) -> None:
        from airflow_provider_restrack.hooks.kafka import KafkaClientHook
        from airflow_provider_restrack.load.publish import PublishPolicy, publish

        policy = PublishPolicy(
            topic=self.topic,
            key_field=self.key_field,
            headers=self.headers,
            timeout_s=self.timeout,
            connection=self.kafka_config_id,
        )
        publish([record], policy, KafkaClientHook(self.kafka_config_id).config())


def build_message(
    context: Mapping[str, Any] | Context, message: str | Mapping[str, Any] | None, evidence: Any
) -> dict[str, Any]:
    """Return the message of a callback's context: its own fields, with the given ones on top."""
    known = _describe_context(context)
    parts = "/".join(str(known[part]) for part in _ID_PARTS)
    record = {"id": str(uuid.uuid5(_NAMESPACE, parts)), **known}
    if evidence is not None:
        record["evidence"] = _read_json(evidence)
    if isinstance(message, Mapping):
        return {**record, **message}
    return record if message is None else record | {"text": message}


def _describe_context(context: Mapping[str, Any] | Context) -> dict[str, Any]:
    """Return what a context says of its task; contexts of a whole DAG run have no task."""
    values: Mapping[str, Any] = context or {}
    ti, run, error = values.get("ti"), values.get("dag_run"), values.get("exception")
    state = getattr(ti, "state", None) or getattr(run, "state", None)
    return {
        "dag_id": _first(ti, run, values.get("dag"), name="dag_id"),
        "run_id": _first(ti, run, name="run_id") or values.get("run_id"),
        "task_id": _first(ti, name="task_id"),
        "map_index": _first(ti, name="map_index"),
        "try_number": _first(ti, name="try_number"),
        "state": None if state is None else str(getattr(state, "value", state)),
        "logical_date": _format_time(values.get("logical_date") or getattr(run, "logical_date", None)),
        "log_url": _first(ti, name="log_url"),
        "reason": values.get("reason"),
        "error": None if error is None else describe_error(error),
    }


def _first(*sources: Any, name: str) -> Any:
    found = (getattr(source, name, None) for source in sources if source is not None)
    return next((value for value in found if value is not None), None)


def _format_time(moment: datetime | None) -> str | None:
    return None if moment is None else format_utc(moment)


def _read_json(evidence: Any) -> Any:
    """Return evidence as data if it is the JSON that a template renders, else as it is."""
    if not isinstance(evidence, str):
        return evidence
    try:
        return json.loads(evidence)
    except ValueError:
        return evidence
