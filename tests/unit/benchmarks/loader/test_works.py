from __future__ import annotations

import msgspec
import pytest

from airflow_provider_restrack.store.schema import FIELDS
from benchmarks.loader.works import WORKS, Work, generate

SMALL = Work("full", hosts=3, samples=2, columns=WORKS["full"].columns)


def test_samples_are_the_same_at_every_run() -> None:
    assert list(generate(SMALL, 6)) == list(generate(SMALL, 6))


def test_every_host_has_its_first_sample_before_any_has_its_second() -> None:
    keys = [(sample["timestamp"][17:19], sample["host"]) for sample in generate(SMALL, 6)]

    assert keys == [
        ("00", "host-00000"),
        ("00", "host-00001"),
        ("00", "host-00002"),
        ("10", "host-00000"),
        ("10", "host-00001"),
        ("10", "host-00002"),
    ]


def test_no_more_samples_come_than_a_work_has() -> None:
    assert len(list(generate(SMALL, 100))) == SMALL.rows == 6


@pytest.mark.parametrize(
    ("work", "size"), [pytest.param("seed", 220, id="seed"), pytest.param("full", 1850, id="full")]
)
def test_samples_have_the_size_of_real_ones(work: str, size: int) -> None:
    sizes = [len(msgspec.json.encode(sample)) for sample in generate(WORKS[work], 100)]

    assert sum(sizes) / len(sizes) == pytest.approx(size, rel=0.05)


def test_a_full_sample_has_every_field_but_the_derived_day() -> None:
    (sample,) = generate(WORKS["full"], 1)

    assert set(sample) == {field.name for field in FIELDS} - {"day"}


def test_a_seed_sample_has_the_eight_fields_of_the_description() -> None:
    (sample,) = generate(WORKS["seed"], 1)

    assert list(sample) == [
        "host",
        "timestamp",
        "id",
        "cpu_usage",
        "memory_usage",
        "disk_usage",
        "network_io_recv",
        "network_io_sent",
    ]


def test_every_row_of_the_live_work_is_of_another_host() -> None:
    hosts = [sample["host"] for sample in generate(WORKS["live"], 200)]

    assert len(set(hosts)) == 200


@pytest.mark.parametrize(
    ("name", "scale", "hosts", "samples"),
    [
        pytest.param("seed", 0.1, 1000, 50, id="fewer samples of each host"),
        pytest.param("live", 0.1, 10_000, 1, id="fewer hosts of one sample"),
        pytest.param("full", 0.0001, 1000, 1, id="never no sample"),
    ],
)
def test_a_work_is_scaled_without_changing_its_shape(
    name: str, scale: float, hosts: int, samples: int
) -> None:
    scaled = WORKS[name].scaled(scale)

    assert (scaled.hosts, scaled.samples, scaled.columns) == (hosts, samples, WORKS[name].columns)
