"""Ask for the time that labelled disks are full, beside the rules of Prometheus, Zabbix and Netdata."""

from __future__ import annotations

import argparse
import sys

from benchmarks import report
from benchmarks.forecast.contenders import CONTENDERS, OURS
from benchmarks.forecast.figures import judge, list_verdicts, summarize
from benchmarks.forecast.series import KINDS, make_series

# The table's seeds. The constants of capacity/trend.py were chosen with those below 1000.
FIRST_SEED = 1000


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecast", description=__doc__)
    parser.add_argument("--series", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first (default: 1000)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    arguments = parser.parse_args(argv)
    figures = {}
    for kind in arguments.kinds:
        many = [make_series(kind, arguments.seed + n) for n in range(arguments.series)]
        figures[kind] = {name: judge(name, many) for name in arguments.contenders}
    if set(arguments.kinds) == set(KINDS) and OURS in arguments.contenders:
        figures["all"] = summarize(figures)
    print(report.show(figures, baseline=OURS, figure="error_percent_at_30_days"))
    if "all" in figures:
        print("\n" + "\n".join(list_verdicts(figures["all"])))
    print(f"written: {report.write('forecast', figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
