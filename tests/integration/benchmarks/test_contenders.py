"""What stands for Prometheus in the benchmark of forecasts gives the numbers of the real one."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from benchmarks.forecast.contenders import predict_linear
from services.install import require_promtool

if TYPE_CHECKING:
    from pathlib import Path


def test_predict_linear_is_promtools(tmp_path: Path) -> None:
    values = [50.0, 49.5, 49.8, 48.0, 47.9, 47.0, 47.2]
    minutes = np.arange(7.0) * 10
    slope, expected = predict_linear(minutes, np.array(values), 60.0)
    query = {"expr": "predict_linear(free[1h5m], 3600)", "eval_time": "1h", "exp_samples": []}
    series = {"series": "free", "values": " ".join(map(str, values))}
    tests = [{"interval": "10m", "input_series": [series], "promql_expr_test": [query]}]
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"tests": tests}))

    done = subprocess.run(
        [require_promtool(), "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    (got,) = re.findall(r"got: {} (\S+)", done.stdout + done.stderr)
    assert float(got) == pytest.approx(expected + 60 * slope, rel=1e-12)
