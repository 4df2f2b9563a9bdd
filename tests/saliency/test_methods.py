"""The registry of saliency methods: what each declares, where it is defined, and that a new file is all a new one takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.components.sites import HEADS, MLP, RESIDUAL
from analysis.concepts import Concept, dump_jsonl
from analysis.errors import ConfigError
from analysis.saliency import CAUSAL_METHODS, METHODS, MOMENT_METHODS, RANKING_METHODS, SAMPLE_METHODS, check_method
from analysis.saliency.method import Groups
from analysis.saliency.methods import moment_method
from analysis.saliency.methods.standardised import STILL, in_deviations

ROOT = Path(__file__).parents[2]


def test_every_method_is_of_one_kind():
    assert sorted((*MOMENT_METHODS, *SAMPLE_METHODS, *CAUSAL_METHODS)) == sorted(METHODS)


def test_the_order_of_methods():
    assert tuple(METHODS)[:8] == (
        "probeless",
        "standardised",
        "average_precision",
        "probe",
        "gradient_x_activation",
        "integrated_gradients",
        "attribution_patching",
        "ablation",
    )
    assert tuple(name for name in METHODS if name != "ablation") == RANKING_METHODS


def test_every_method_has_a_module_and_a_line_in_the_documentation():
    documented = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name, method in METHODS.items():
        assert (ROOT / "analysis" / "saliency" / "methods" / f"{name}.py").is_file()
        assert f"\n| {method.title} |" in documented
        assert method.says.endswith(".")
        assert method.unit.startswith(method.short_unit) or method.axis


def test_methods_and_sites():
    for method in METHODS:
        check_method(method, MLP)
        check_method(method, RESIDUAL)
    for method in ("probeless", *CAUSAL_METHODS):
        check_method(method, HEADS)
    for method in ("standardised", *SAMPLE_METHODS):
        with pytest.raises(ConfigError, match="an attention head writes a vector"):
            check_method(method, HEADS)
    with pytest.raises(ConfigError, match="“astrology” is no saliency method"):
        check_method("astrology")


def test_methods_that_need_more_than_moments():
    with pytest.raises(ConfigError, match="probe cannot be computed from means and variances"):
        moment_method("probe")


def groups(kind: type) -> Groups:
    """Four units: two that move, one that never does, one just above the threshold."""
    values = np.array(
        [
            [3.0, -1.0, 2.0, 1.0],
            [1.0, 1.0, 2.0, 0.0],
            [2.0, 9.0, 0.0, (2 * STILL) ** 2],
            [6.0, 7.0, 0.0, (2 * STILL) ** 2],
        ]
    )
    return Groups(*(torch.tensor(row) if kind is torch.Tensor else row for row in values))


@pytest.mark.parametrize("kind", [np.ndarray, torch.Tensor])
def test_d_prime_by_hand(kind: type):
    found = METHODS["standardised"].signed(groups(kind))
    assert isinstance(found, kind)
    np.testing.assert_allclose(np.asarray(found), [2 / 2, -2 / np.sqrt(8), 0, 1 / (2 * STILL)])
    assert not np.signbit(np.asarray(found)[2])


def test_d_prime_is_the_same_on_arrays_and_tensors():
    random = np.random.default_rng(0)
    rows = [random.normal(size=(5, 40)) for _ in range(2)] + [random.exponential(size=(5, 40)) for _ in range(2)]
    for row in rows[2:]:
        row[:, ::7] = 0
    arrays, tensors = Groups(*rows), Groups(*map(torch.from_numpy, rows))
    expected = in_deviations(arrays.difference, arrays)
    np.testing.assert_allclose(expected, in_deviations(tensors.difference, tensors).numpy(), rtol=1e-15)
    assert (expected[:, ::7] == 0).all()
    assert (expected[:, 1::7] != 0).all()


def test_d_prime_does_not_hide_what_is_not_finite():
    broken = Groups(*(torch.tensor([value]) for value in (float("nan"), 0.0, float("nan"), 0.0)))
    assert torch.isnan(in_deviations(broken.difference, broken)).all()


NEW_METHOD = '''"""Largest mean: the mean activation over the concept's tokens."""

from analysis.saliency.method import MomentMethod

METHOD = MomentMethod(
    name="largest_mean",
    title="largest mean",
    says="How active the neuron is on the concept's words.",
    unit="activation units: |mean over concept tokens|",
    signed=lambda groups: groups.own_mean,
    error=lambda error, groups: error,
)
'''


def test_a_new_method_is_one_file(tmp_path: Path, tiny_folder: Path, tiny_concept: Concept):
    """In a copy of the library with one file more, the command line lists the method and ranks by it."""
    shutil.copytree(ROOT / "analysis", tmp_path / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "analysis" / "saliency" / "methods" / "largest_mean.py").write_text(NEW_METHOD, encoding="utf-8")
    (tmp_path / "concept.jsonl").write_text(dump_jsonl(tiny_concept), encoding="utf-8")

    def command(*arguments: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "analysis", *arguments, "--json"], cwd=tmp_path, capture_output=True, check=True
        )
        return json.loads(done.stdout)

    assert "largest_mean" in command("methods")["methods"]
    found = command(
        "saliency",
        "--model",
        str(tiny_folder),
        "--concept",
        "concept.jsonl",
        "--method",
        "largest_mean",
        "--device",
        "cpu",
    )
    assert found["unit"] == "activation units: |mean over concept tokens|"
    assert len(found["top"]) == 10
