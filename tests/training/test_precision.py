"""Tests of the choice of an autocast format."""

import json
from pathlib import Path

import pytest
import torch

from analysis.training import precision
from analysis.training.precision import choose_precision


@pytest.fixture(autouse=True)
def _measured_anew(empty_home: Path):
    precision._on_processor.cache_clear()
    yield
    precision._on_processor.cache_clear()


def _seconds(monkeypatch: pytest.MonkeyPatch, bf16: float, float32: float) -> list[torch.dtype]:
    """Replace the measurement; returns the formats measured since."""
    measured: list[torch.dtype] = []

    def seconds(dtype: torch.dtype) -> float:
        measured.append(dtype)
        return {torch.bfloat16: bf16, torch.float32: float32}[dtype]

    monkeypatch.setattr(precision, "_seconds", seconds)
    return measured


@pytest.mark.parametrize(("bf16", "float32", "name"), [(3.4, 1.0, "float32"), (0.5, 1.0, "bf16")])
def test_the_faster_format_is_chosen_on_a_processor(bf16, float32, name, monkeypatch: pytest.MonkeyPatch):
    _seconds(monkeypatch, bf16, float32)
    chosen = choose_precision("auto", "cpu")
    assert chosen.name == name
    assert f"{bf16:.2g} times as long" in chosen.reason


def test_the_measurement_is_kept_for_the_host(empty_home: Path, monkeypatch: pytest.MonkeyPatch):
    measured = _seconds(monkeypatch, 3.0, 1.0)
    choose_precision("auto", "cpu")
    precision._on_processor.cache_clear()  # as in another process
    assert choose_precision("auto", torch.device("cpu")).name == "float32"
    assert len(measured) == 2
    monkeypatch.setattr(precision, "_processor", lambda: "another host")
    choose_precision("auto", "cpu")
    assert len(measured) == 4
    assert len(json.loads((empty_home / "precision.json").read_text())) == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}', "\0"])
def test_a_damaged_file_means_to_measure_again(content: str, empty_home: Path, monkeypatch: pytest.MonkeyPatch):
    (empty_home / "precision.json").write_text(content)
    _seconds(monkeypatch, 3.0, 1.0)
    assert choose_precision("auto", "cpu").name == "float32"


def test_what_is_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    measured = _seconds(monkeypatch, 3.0, 1.0)
    assert [choose_precision(name, "cpu").name for name in ("bf16", "float32")] == ["bf16", "float32"]
    assert not measured


def test_a_gpu_is_asked_and_other_devices_use_float32(monkeypatch: pytest.MonkeyPatch):
    for has_it, name in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, found=has_it: found)
        assert choose_precision("auto", "cuda:0").name == name
    assert choose_precision("auto", "mps").name == "float32"


def test_a_real_product_is_measured():
    assert choose_precision("auto", "cpu").name in ("bf16", "float32")
