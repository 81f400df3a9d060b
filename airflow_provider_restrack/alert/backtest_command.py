"""``python -m airflow_provider_restrack.alert backtest``: what rules would have said of the stored past."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_restrack import clock
from airflow_provider_restrack.alert.backtest import DEFAULT_FLAP_S, backtest
from airflow_provider_restrack.alert.backtest_panels import DEFAULT_PANELS, read_panels
from airflow_provider_restrack.alert.backtest_plot import PlotUnavailableError, draw, load_matplotlib
from airflow_provider_restrack.alert.backtest_tables import DEFAULT_ROWS, build_data, format_report
from airflow_provider_restrack.alert.durations import parse_duration
from airflow_provider_restrack.alert.observe import StoreReader
from airflow_provider_restrack.alert.rule_files import load_rules

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from airflow_provider_restrack.alert.backtest import Report
    from airflow_provider_restrack.alert.observe import SampleReader
    from airflow_provider_restrack.alert.rules import AlertRule

PASSWORD_VARIABLE = "RESTRACK_CASSANDRA_PASSWORD"  # noqa: S105 - the name of a variable
HELP = "replay rules over stored samples: alerts, time in alert, and what other thresholds would have done"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    add = parser.add_argument
    add("rules", type=Path, metavar="RULES.yaml", help="a file of rules")
    add("--from", dest="since", required=True, metavar="TIME", help="ISO 8601, or a duration before --to: 7d")
    add("--to", dest="until", metavar="TIME", help="ISO 8601; default: now")
    add("--rule", action="append", metavar="NAME", help="only this rule; may be repeated")
    add("--hosts", nargs="+", metavar="PATTERN", help="only these; default: all that have a newest sample")
    add(
        "--thresholds", action="append", metavar="[RULE=]80,85,90",
        help="others to try; default: a ladder around each rule's own; none: no others",
    )  # fmt: skip
    add("--flap", default=f"{DEFAULT_FLAP_S:g}s", metavar="DURATION", help="shorter alerts are flaps (15m)")
    add("--rows", type=int, default=DEFAULT_ROWS, help="of each table (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all as JSON; - is standard output, without tables")
    add("--plot", type=Path, metavar="FILE", help="draw the worst instances; .png, .svg or .pdf")
    add("--panels", type=int, default=DEFAULT_PANELS, help="of the plot (%(default)s)")
    store = parser.add_argument_group("Cassandra", f"The password is read from {PASSWORD_VARIABLE}.")
    store.add_argument("--contact-points", nargs="+", default=["127.0.0.1"], metavar="ADDRESS")
    store.add_argument("--port", type=int, default=9042)
    store.add_argument("--keyspace", default="metrics")
    store.add_argument("--username")
    store.add_argument("--local-dc")
    store.add_argument("--consistency", default="LOCAL_QUORUM")
    store.add_argument("--ca-certs", metavar="FILE", help="connect with TLS, and check against these")


def run(options: argparse.Namespace) -> int:
    """Run the backtest and return 0; 2 if an argument or a file cannot be used, or Cassandra not be read."""
    from airflow_provider_restrack.store.session import CassandraError, open_session

    try:
        if options.plot:
            load_matplotlib()  # before what takes long
        rules = choose_rules(load_rules(str(options.rules), Path.cwd()), options.rule)
        plan = _Plan(
            rules,
            *read_window(options.since, options.until, clock.utc_now()),
            read_thresholds(options.thresholds, rules),
            parse_duration(options.flap),
        )
        with open_session(_build_policy(options)) as session:
            _run(options, plan, StoreReader(session, options.keyspace))
    except (OSError, ValueError, CassandraError, PlotUnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


class _Plan(NamedTuple):
    """What is asked for, checked before anything is read."""

    rules: Sequence[AlertRule]
    since: datetime
    until: datetime
    thresholds: Mapping[str, list[float]] | None
    flap_seconds: float


def _run(options: argparse.Namespace, plan: _Plan, reader: SampleReader) -> None:
    report = backtest(
        plan.rules,
        reader,
        choose_hosts(reader, options.hosts),
        plan.since,
        plan.until,
        thresholds=plan.thresholds,
        flap_seconds=plan.flap_seconds,
        on_step=_tell_progress,
    )
    _tell(options, report)
    if options.plot:
        draw(report, read_panels(report, reader, options.panels), options.plot)


def _tell(options: argparse.Namespace, report: Report) -> None:
    if options.json is None or str(options.json) != "-":
        sys.stdout.write(format_report(report, options.rows))
    if options.json is not None:
        text = json.dumps(build_data(report), indent=2) + "\n"
        if str(options.json) == "-":
            sys.stdout.write(text)
        else:
            options.json.write_text(text)


def _tell_progress(horizon: datetime) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\revaluated up to {horizon:%Y-%m-%d %H:%M} UTC ")
        sys.stderr.flush()


def choose_rules(rules: Sequence[AlertRule], names: Sequence[str] | None) -> list[AlertRule]:
    """Return the rules of the names, or all.

    :raises ValueError: if there is none of a name.
    """
    known = {rule.name: rule for rule in rules}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ValueError(f"--rule {unknown[0]}: no such rule; there are: {', '.join(known)}")
    return [known[name] for name in names] if names else list(rules)


def choose_hosts(reader: SampleReader, patterns: Sequence[str] | None) -> list[str] | None:
    """Return the hosts of the patterns; None: all.

    :raises ValueError: if none fits. A name without wildcards needs not be known: it may be gone by now.
    """
    if not patterns:
        return None
    wild = [pattern for pattern in patterns if any(sign in pattern for sign in "*?[")]
    found = {pattern for pattern in patterns if pattern not in wild}
    if wild:
        found |= {host for host in reader.hosts() if any(fnmatchcase(host, one) for one in wild)}
    if not found:
        raise ValueError(f"--hosts {' '.join(patterns)}: no host with a newest sample fits")
    return sorted(found)


def read_window(since: str, until: str | None, now: datetime) -> tuple[datetime, datetime]:
    """Return the start and end of the window; a time without a zone is UTC.

    :raises ValueError: if one is no time.
    """
    end = now if until is None else _read_time("--to", until)
    try:
        return _read_time("--from", since), end
    except ValueError as error:
        try:
            return end - timedelta(seconds=parse_duration(since)), end
        except ValueError:
            raise error from None


def _read_time(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{name} {text}: is no time such as 2026-05-04T12:00Z, and no duration such as 7d"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_thresholds(
    texts: Sequence[str] | None, rules: Sequence[AlertRule]
) -> Mapping[str, list[float]] | None:
    """Return the thresholds to try by the rule's name; None: ladders, empty: none.

    :raises ValueError: if one is no number, or it is not clear which rule is meant.
    """
    if not texts:
        return None
    if list(texts) == ["none"]:
        return {}
    found: dict[str, list[float]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        if not equals and len(rules) != 1:
            raise ValueError(
                f"--thresholds {text}: name the rule, as in {rules[0].name}={text}, or choose one by --rule"
            )
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise ValueError(
                f"--thresholds {text}: give numbers with commas between, as in 80,85,90"
            ) from None
        found.setdefault(name or rules[0].name, []).extend(values)
    return found


def _build_policy(options: argparse.Namespace) -> Any:
    from airflow_provider_restrack.store.session import CassandraPolicy, TlsPolicy

    return CassandraPolicy(
        contact_points=tuple(options.contact_points),
        port=options.port,
        username=options.username,
        password=os.environ.get(PASSWORD_VARIABLE),
        local_dc=options.local_dc,
        consistency=options.consistency,
        tls=TlsPolicy(ca_certs=options.ca_certs) if options.ca_certs else None,
        origin="the command line",
    )
