"""The error of the development servers: one class, because each message names server and remedy."""

from __future__ import annotations


class ServiceError(RuntimeError):
    """A development server cannot be installed, started or stopped."""
