"""What Airflow is told of this provider: the ``apache_airflow_provider`` entry point."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-restrack",
        "name": "Restrack",
        "description": "Track the resources of a fleet of servers.",
    }
