"""What Airflow and its registry are told of the package agrees with what is in it."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest
import yaml

import airflow_provider_restrack
from airflow_provider_restrack.provider_info import get_provider_info

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_provider_restrack"
REGISTRY = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())
KINDS = ("operators", "sensors", "triggers", "hooks", "notifications")


def modules_of(kind: str) -> set[str]:
    folder = importlib.import_module(f"{PACKAGE}.{kind}")
    return {f"{PACKAGE}.{kind}.{module.name}" for module in pkgutil.iter_modules(folder.__path__)}


def test_provider_info_validates_against_airflows_own_schema() -> None:
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())

    jsonschema.validate(get_provider_info(), schema)


def test_the_entry_point_leads_to_the_provider_info() -> None:
    points = [
        point for point in entry_points(group="apache_airflow_provider") if point.module.startswith(PACKAGE)
    ]

    assert [point.load() for point in points] == [get_provider_info]


@pytest.mark.parametrize("kind", ["operators", "sensors", "triggers", "hooks"])
def test_provider_info_names_every_module_of_a_kind(kind: str) -> None:
    named = {module for entry in get_provider_info()[kind] for module in entry["python-modules"]}

    assert named == modules_of(kind)


def test_provider_info_names_every_notifier() -> None:
    named = {path.rpartition(".")[0] for path in get_provider_info()["notifications"]}

    assert named == modules_of("notifications")


def test_provider_info_names_integrations_that_exist() -> None:
    info = get_provider_info()
    integrations = {entry["integration-name"] for entry in info["integrations"]}

    assert {entry["integration-name"] for kind in KINDS[:4] for entry in info[kind]} == integrations


def test_every_how_to_guide_is_a_page_of_the_docs() -> None:
    guides = [guide for entry in get_provider_info()["integrations"] for guide in entry["how-to-guide"]]
    pages = [ROOT / "docs" / Path(guide).name for guide in guides]

    assert guides
    assert [page for page in pages if not page.is_file()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_registry_describes_every_class_of_a_kind(kind: str) -> None:
    described = {entry["module"] for entry in REGISTRY[kind]}
    suffixes = {"operators": "Operator", "sensors": "Sensor", "triggers": "Trigger", "hooks": "Hook"}
    there = {
        f"{module}.{name}"
        for module in modules_of(kind)
        for name, of in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if of.__module__ == module and name.endswith(suffixes.get(kind, "Notifier"))
    }

    assert described == there


def test_the_distribution_has_the_name_that_example_discovery_derives() -> None:
    assert get_provider_info()["package-name"].replace("-", "_") == airflow_provider_restrack.__name__


def test_the_version_stands_once() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["version"] == airflow_provider_restrack.__version__


def test_every_module_of_the_package_has_a_test_file_at_the_mirrored_path() -> None:
    package = ROOT / PACKAGE
    missing = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.name not in {"__init__.py", "errors.py"}  # neither has anything to run
        and not (ROOT / "tests" / "unit" / path.relative_to(package).parent / f"test_{path.name}").is_file()
    ]

    assert missing == []
