from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_restrack.notify import MAX_ERROR_CHARS, describe_error, mask, notify, notify_in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence


class Listener(BaseNotifier):
    """Remembers what it was told, and by which thread."""

    template_fields: Sequence[str] = ("text",)

    def __init__(self, text: str = "{{ who }}") -> None:
        super().__init__()
        self.text = text
        self.told: list[tuple[str, int]] = []

    def notify(self, context: Any) -> None:
        if context.get("broken"):
            raise OSError("no line")
        self.told.append((self.text, threading.get_ident()))


def secret(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    from airflow.providers.common.compat import sdk

    monkeypatch.setattr(sdk, "redact", lambda value: value.replace(text, "***"))


def test_one_notifier_is_told_many_times_each_with_its_own_templates() -> None:
    listener = Listener()

    notify(listener, {"who": "db-1"})
    notify(listener, {"who": "db-2"})

    assert [text for text, _ in listener.told] == ["db-1", "db-2"]
    assert listener.text == "{{ who }}"


def test_what_a_notifier_raises_comes_out() -> None:
    with pytest.raises(OSError, match="no line"):
        notify(Listener(), {"who": "db-1", "broken": True})


def test_the_event_loop_is_not_blocked() -> None:
    listener = Listener("as is")

    asyncio.run(notify_in_thread(listener, {}))

    ((text, thread),) = listener.told
    assert text == "as is"
    assert thread != threading.get_ident()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("POST https://hooks/T0KEN refused"), "OSError: POST https://hooks/*** refused"),
        ("a text with T0KEN", "a text with ***"),
        (None, "None"),
    ],
)
def test_errors_are_told_without_secrets(monkeypatch: pytest.MonkeyPatch, error: object, text: str) -> None:
    secret(monkeypatch, "T0KEN")

    assert describe_error(error) == text


def test_a_secret_at_the_cut_is_masked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    secret(monkeypatch, "T0KEN")

    described = describe_error("x" * (MAX_ERROR_CHARS - 2) + "T0KEN")

    assert len(described) == MAX_ERROR_CHARS
    assert "T0" not in described
    assert mask("T0KEN") == "***"
