"""The wheel, installed as a user would in a clean environment: Airflow knows it and parses its examples."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "restrack_alerts.py",
    "restrack_celery_workers.py",
    "restrack_pipeline.py",
    "restrack_production.py",
    "restrack_rollup.py",
    "restrack_capacity.py",
}
BUNDLES = """
import json
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag
bundles = {bundle.name: str(bundle.path) for bundle in DagBundlesManager().get_all_dag_bundles()}
ours = bundles["airflow-provider-restrack-example-dags"]
bag = DagBag(ours)
print(json.dumps({"path": ours, "errors": bag.import_errors, "dags": sorted(bag.dags)}))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the work tree."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(ROOT))
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel and its dependencies, at the versions of the lock."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home / "venv", with_pip=False)
    constraints = home / "constraints.txt"
    constraints.write_text("\n".join(versions_of_the_lock()))
    python = home / "venv" / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    run(str(uv), "pip", "install", "--quiet", "--python", str(python), "-c", str(constraints), str(wheel))
    return python.parent


def versions_of_the_lock() -> list[str]:
    """The pins of the lock without hashes, as constraints; those of development tools do no harm."""
    pins = re.findall(r"^(\S+==\S+(?: ;[^\\\n]*)?)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(pins) > 100
    return [pin.strip() for pin in pins]


def run(*command: str, **environment: str) -> str:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))
    }
    done = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_package_examples_and_licence_and_nothing_else(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0] for name in names}
    examples = {name.rpartition("/")[2] for name in names if "/example_dags/" in name}

    assert roots == {"airflow_provider_restrack", wheel.name.rsplit("-py3", 1)[0] + ".dist-info"}
    assert examples == EXAMPLES
    assert "airflow_provider_restrack/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_airflow_lists_the_provider_in_a_clean_environment(clean: Path, tmp_path: Path) -> None:
    shown = run(
        str(clean / "airflow"), "providers", "get", "airflow-provider-restrack", "--output", "json",
        AIRFLOW_HOME=str(tmp_path),
    )  # fmt: skip

    found = json.loads(shown[shown.index("[") :])
    assert found[0]["Provider"] == "airflow-provider-restrack"


def test_airflow_finds_and_parses_the_installed_examples(clean: Path, tmp_path: Path) -> None:
    shown = run(
        str(clean / "python"), "-c", BUNDLES, AIRFLOW_HOME=str(tmp_path), AIRFLOW__CORE__LOAD_EXAMPLES="True"
    )

    found = json.loads(shown.splitlines()[-1])
    assert Path(found["path"]).parts[-2:] == ("airflow_provider_restrack", "example_dags")
    assert found["errors"] == {}
    assert "restrack_pipeline" in found["dags"]
    assert len(found["dags"]) == 10
