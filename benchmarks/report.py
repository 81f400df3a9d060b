"""How every benchmark reports: a table on screen, and JSON under ``build/bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping

    Figures = Mapping[str, Mapping[str, Mapping[str, float]]]

OUTPUT = Path("build/bench")


def write(name: str, figures: Figures) -> Path:
    """Write ``{work: {contender: {figure: value}}}`` to ``build/bench/NAME.json`` and return the path."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    return path


def show(figures: Figures, baseline: str, figure: str) -> str:
    """Return a table of all figures, with the ratio of ``figure`` to the baseline's, where that took part."""
    rows = []
    for work, contenders in figures.items():
        base = contenders.get(baseline, {}).get(figure)
        for contender, values in contenders.items():
            shown = {name: f"{value:,.2f}" for name, value in values.items()}
            ratio = f"{values[figure] / base:.2f}" if base else ""
            rows.append({"work": work, "contender": contender, **shown, f"{figure} / {baseline}": ratio})
    return tabulate(rows, headers="keys", disable_numparse=True, stralign="right")
