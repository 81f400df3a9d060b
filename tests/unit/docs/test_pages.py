"""What the pages say of the code is checked against the code, so that neither can move alone."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from airflow_provider_restrack.alert import rules, suppress
from airflow_provider_restrack.alert.evaluate import Breach
from airflow_provider_restrack.alert.evidence import describe_breach
from airflow_provider_restrack.alert.maintenance import DAYS
from airflow_provider_restrack.alert.messages import Message, Notice, What
from airflow_provider_restrack.alert.notices import Scene, describe_message
from airflow_provider_restrack.alert.presets import PRESETS
from airflow_provider_restrack.alert.records import AlertRecord, InstanceKey
from airflow_provider_restrack.alert.rule_keys import RULE_KEYS
from airflow_provider_restrack.alert.rule_schema import build_schema
from airflow_provider_restrack.alert.rule_values import PERCENTILES
from airflow_provider_restrack.capacity.forecast import Verdict
from airflow_provider_restrack.capacity.policy import AGGREGATES
from airflow_provider_restrack.collect.inventory import _DICT_KEYS
from airflow_provider_restrack.collect.sample import Outcome
from airflow_provider_restrack.hooks import cassandra
from airflow_provider_restrack.load.policy import LoadResult
from airflow_provider_restrack.notifications.kafka import build_message
from airflow_provider_restrack.operators.provision import _TOPIC_KEYS
from airflow_provider_restrack.store.alert_tables import SILENCES
from airflow_provider_restrack.store.forecasts import FORECASTS

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CLASSES = {
    "remote_metrics.md": ["operators.remote_metrics.RemoteMetricsOperator"],
    "kafka_publish.md": ["operators.kafka_publish.KafkaPublishOperator"],
    "kafka_to_cassandra.md": ["operators.kafka_to_cassandra.KafkaToCassandraOperator"],
    "provision.md": ["operators.provision.ProvisionOperator"],
    "forecast.md": ["operators.forecast.ForecastOperator"],
    "rollup.md": ["operators.rollup.RollupOperator"],
    "silence.md": ["operators.silence.SilenceOperator"],
    "report.md": ["operators.report.CapacityReportOperator"],
    "threshold.md": ["sensors.threshold.ThresholdSensor", "triggers.threshold.ThresholdTrigger"],
    "evaluate_alerts.md": ["operators.evaluate_alerts.EvaluateAlertsOperator"],
    "kafka_notifier.md": [
        "notifications.kafka.KafkaNotifier",
        "notifications.kafka_alerts.KafkaAlertNotifier",
    ],
    "connections.md": [
        "hooks.ssh_fleet.SSHFleetHook",
        "hooks.kafka.KafkaClientHook",
        "hooks.cassandra.CassandraSessionHook",
    ],
}
CASES = [pytest.param(page, name, id=name.rpartition(".")[2]) for page in CLASSES for name in CLASSES[page]]
REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def read_blocks() -> list[Block]:
    blocks = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 2
            blocks.append(Block(page.name, line, match[1], match[2]))
    return blocks


BLOCKS = read_blocks()


def blocks_of(language: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{block.page}:{block.line}") for block in BLOCKS if block.language == language
    ]


def connections_of(*kinds: str) -> list[Any]:
    return [case for case in blocks_of("json") if json.loads(case.values[0].text).get("conn_type") in kinds]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def find_class(name: str) -> type:
    module, _, found = name.rpartition(".")
    return getattr(importlib.import_module(f"airflow_provider_restrack.{module}"), found)  # type: ignore[no-any-return]


def read_parameters(page: str, class_name: str) -> dict[str, dict[str, str]]:
    """Return the rows of a class's parameter table: the one below the heading that names the class."""
    rows: dict[str, dict[str, str]] = {}
    heading, columns = "", []
    for line in without_blocks((ROOT / "docs" / page).read_text()).splitlines():
        if line.startswith("#"):
            heading = line
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            columns = []
        elif cells[0] == "parameter":
            columns = cells
        elif columns and class_name in heading and not set(cells[0]) <= set("-: "):
            rows[cells[0].strip("`")] = dict(zip(columns, cells, strict=True))
    return rows


def describe_default(parameter: inspect.Parameter) -> Any:
    return REQUIRED if parameter.default is parameter.empty else parameter.default


def read_default(cell: str) -> Any:
    return cell if cell == REQUIRED else ast.literal_eval(cell.strip("`"))


@pytest.mark.parametrize(("page", "name"), CASES)
def test_parameter_table_has_every_parameter_with_the_default_of_the_signature(page: str, name: str) -> None:
    found = find_class(name)
    expected = {
        parameter.name: describe_default(parameter)
        for parameter in inspect.signature(found).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    rows = read_parameters(page, found.__name__)
    assert {parameter: read_default(row["default"]) for parameter, row in rows.items()} == expected


@pytest.mark.parametrize(("page", "name"), CASES)
def test_parameter_table_marks_what_is_templated(page: str, name: str) -> None:
    found = find_class(name)
    rows = read_parameters(page, found.__name__)
    marked = {parameter for parameter, row in rows.items() if row.get("templated") == "yes"}
    assert marked == set(getattr(found, "template_fields", ()))


@pytest.mark.parametrize("block", blocks_of("python"))
def test_python_example_runs_as_a_dag_file_does_when_it_is_parsed(block: Block) -> None:
    code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
    exec(code, {"__name__": "example"})


@pytest.mark.parametrize("block", blocks_of("json"))
def test_json_example_parses(block: Block) -> None:
    assert json.loads(block.text)


def test_examples_are_found() -> None:
    assert {block.language for block in BLOCKS} >= {"python", "json"}
    assert {block.page for block in BLOCKS if block.language == "python"} >= set(CLASSES)


def read_links() -> list[Any]:
    return [
        pytest.param(page, target, id=f"{page.name}->{target}")
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text()))
        if not re.match(r"[a-z]+:", target)
    ]


def list_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "target"), read_links())
def test_link_leads_to_a_file_and_a_heading_that_exist(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists()
    assert file.is_relative_to(ROOT)
    assert not anchor or anchor in list_anchors(file)


@pytest.mark.parametrize("block", connections_of("ssh", "kafka", "cassandra"))
def test_connection_example_has_only_settings_that_the_page_tells_of(block: Block) -> None:
    page = (ROOT / "docs" / "connections.md").read_text()
    data = json.loads(block.text)
    extra = data.get("extra", {})
    names = [
        *(data.keys() - {"extra"}),
        *extra,
        *(name for value in extra.values() if isinstance(value, dict) for name in value),
    ]
    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize("block", connections_of("cassandra"))
def test_cassandra_example_is_a_connection_that_the_hook_reads(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.loads(block.text)
    monkeypatch.setenv("AIRFLOW_CONN_OF_THE_PAGE", block.text)
    policy = cassandra.CassandraSessionHook("of_the_page").policy()
    assert ",".join(policy.contact_points) == data["host"]
    assert (policy.tls is not None) == bool({"ssl", "ssl_options"} & data.get("extra", {}).keys())


def list_alert_keys() -> list[str]:
    record = AlertRecord(InstanceKey("r", "h"), open=True, severity="info", since_ms=0, at_ms=0)
    message = describe_message(Message("m", "info", (Notice(record, "firing"),)), Scene({}, {}, 0))
    return [*message, *message["alerts"][0]]


def list_evidence_keys() -> list[str]:
    (rule,) = rules.parse_rules({"name": "r", "metric": "cpu_usage", "op": ">", "threshold": 1})
    breach = Breach(rule, "h", None, (0,), (2.0,), coverage=1.0, open_start=False)
    return list(describe_breach(breach))


@pytest.mark.parametrize(
    ("page", "names"),
    [
        pytest.param("remote_metrics.md", get_args(Outcome), id="outcomes"),
        pytest.param("remote_metrics.md", sorted(_DICT_KEYS), id="keys of a host"),
        pytest.param("kafka_to_cassandra.md", [field.name for field in fields(LoadResult)], id="load result"),
        pytest.param("provision.md", sorted(_TOPIC_KEYS), id="keys of a topic"),
        pytest.param("forecast.md", get_args(Verdict), id="verdicts"),
        pytest.param("forecast.md", AGGREGATES, id="aggregates of a day"),
        pytest.param("forecast.md", list(FORECASTS.columns), id="columns of forecasts"),
        pytest.param("silence.md", list(SILENCES.columns), id="columns of silences"),
        pytest.param("rules.md", [*RULE_KEYS], id="keys of a rule"),
        pytest.param("rules.md", rules.OPS, id="comparisons"),
        pytest.param("rules.md", rules.SEVERITIES, id="severities"),
        pytest.param("rules.md", rules.NO_DATA, id="what silence means"),
        pytest.param("rules.md", DAYS, id="days of maintenance"),
        pytest.param("rules.md", sorted(set(rules.AGGREGATES) - set(PERCENTILES[1:-1])), id="aggregates"),
        pytest.param("threshold.md", list_evidence_keys(), id="evidence"),
        pytest.param("alerting.md", list_alert_keys(), id="keys of an alert"),
        pytest.param("alerting.md", get_args(What), id="kinds of notices"),
        pytest.param("alerting.md", get_args(suppress.Reason), id="reasons not to tell"),
        pytest.param("kafka_notifier.md", list(build_message({}, None, None)), id="fields of a message"),
        pytest.param("connections.md", sorted(cassandra._KNOWN_EXTRAS), id="extras of cassandra"),
        pytest.param("connections.md", sorted(cassandra._TLS_KEYS), id="TLS keys of cassandra"),
    ],
)
def test_page_names_all_that_the_code_knows(page: str, names: list[str]) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in {"host_down", "stale"}])
def test_the_page_gives_metric_and_thresholds_of_a_preset(name: str) -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    (row,) = re.findall(rf"^\| `{name}` \| (.*?) \|", text, re.MULTILINE)
    (rule,) = rules.parse_rules({"preset": name})
    limits = " / ".join(f"{level.threshold:g}" for level in rule.levels)
    ends = " / ".join(f"{limit:g}" for _, limit in rule.clear_thresholds)

    assert row.startswith(f"`{rule.metric}`")
    assert re.search(rf" (above|below) {limits}\b", row)
    assert (f"ends below {ends}" in row) if ends else ("ends" not in row)


@pytest.mark.parametrize("block", blocks_of("yaml"))
def test_yaml_example_with_rules_is_a_file_of_rules(block: Block) -> None:
    data = yaml.safe_load(block.text)
    if "rules" in data:
        assert rules.parse_rules(data["rules"])
        jsonschema.validate(data, build_schema())
