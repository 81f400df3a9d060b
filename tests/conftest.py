"""Fixtures of all tests: Airflow's home is a scratch directory, set before anything imports Airflow."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
AIRFLOW_HOME = ROOT / ".restrack" / "test" / "airflow"
os.environ["AIRFLOW_HOME"] = str(AIRFLOW_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "example_dags")
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

import pytest  # noqa: E402 - Airflow reads its environment when it is imported

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Return a maker of names that no other test uses."""
    return lambda prefix: f"{prefix}_{uuid.uuid4().hex[:12]}"
