"""Calls Airflow's notifiers from within a task, and tells what went wrong with one without its secrets."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseNotifier

MAX_ERROR_CHARS = 2000


def notify(notifier: BaseNotifier, context: Any) -> None:
    """Call ``notify`` of a copy with its templates filled in, so that one notifier can be told many times.

    To call the notifier itself would swallow its errors.
    """
    one = copy.copy(notifier)
    one.render_template_fields(context)
    one.notify(context)


async def notify_in_thread(notifier: BaseNotifier, context: Any) -> None:
    """Call ``notify`` without blocking the event loop."""
    # By sync_to_async: the connection is asked of the supervisor, over the loop that is running.
    from asgiref.sync import sync_to_async

    await sync_to_async(notifier.notify, thread_sensitive=False)(context)


def describe_error(error: object) -> str:
    """Return an exception in words, cut to ``MAX_ERROR_CHARS``, known secrets masked."""
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else str(error)
    return mask(text)[:MAX_ERROR_CHARS]


def mask(text: str) -> str:
    """Return a text known secrets masked."""
    from airflow.providers.common.compat.sdk import redact

    return str(redact(text))
