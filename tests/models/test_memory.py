"""Estimates from headers, and what is free."""

import json
import struct
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from analysis.errors import MemoryShortError, ModelFileError
from analysis.models import memory
from analysis.models.memory import MemoryEstimate


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(
        {"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.bfloat16), "c": torch.zeros(())},
        path,
        metadata={"format": "pt"},
    )
    return path


def test_header(weights: Path):
    header = memory.read_safetensors_header(weights)
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {
        "a": ("F32", [3, 5]),
        "b": ("BF16", [7]),
        "c": ("F32", []),
    }


def test_parameters_are_counted_over_all_shards(weights: Path):
    save_file({"d": torch.zeros(2, 2)}, weights.with_name("other.safetensors"))
    assert memory.count_parameters(weights.parent) == 15 + 7 + 1  # a file beside the weights is not read
    weights.rename(weights.with_name("one.safetensors"))
    index = {"weight_map": {"a": "one.safetensors", "d": "other.safetensors"}}
    weights.with_name("model.safetensors.index.json").write_text(json.dumps(index))
    assert memory.count_parameters(weights.parent) == 15 + 7 + 1 + 4


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[: len(data) // 2]]
)
def test_a_file_of_the_wrong_length(weights: Path, change):
    weights.write_bytes(change(weights.read_bytes()))
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        memory.read_safetensors_header(weights)


def raw(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\xff" * 8,
        raw([]),
        raw(3),
        raw({"a": 3}),
        raw({"a": {}}),
        raw({"a": {"data_offsets": [0]}}),
        struct.pack("<Q", 3) + b"\xff\xff\xff",
    ],
)
def test_damaged_headers(tmp_path: Path, content: bytes):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="not a readable safetensors file"):
        memory.read_safetensors_header(path)


@pytest.mark.parametrize(("dtype", "bytes_each"), [("float32", 4), ("bfloat16", 2), ("float16", 2)])
def test_load_estimate_grows_with_size_and_dtype(dtype: str, bytes_each: int):
    small, large = (memory.load_estimate(n, dtype, "cpu") for n in (0, 10**9))
    assert large.needed - small.needed == pytest.approx(1.15 * bytes_each * 10**9)
    assert dtype in large.what


def test_training_estimate_counts_weights_gradients_and_moments():
    bare, whole = (memory.training_estimate(n, "cpu", tokens_per_batch=0, vocabulary=0) for n in (0, 10**9))
    assert whole.needed - bare.needed == 16 * 10**9
    logits = memory.training_estimate(0, "cpu", tokens_per_batch=512, vocabulary=50_000)
    assert logits.needed - bare.needed >= 2 * 4 * 512 * 50_000


@pytest.mark.parametrize(("needed", "fits"), [(99, True), (100, True), (101, False)])
def test_check(needed: int, fits: bool):
    estimate = MemoryEstimate(
        needed=needed * 2**30, free=100 * 2**30, device="cpu", what="Loading", advice="Take less."
    )
    assert estimate.fits is fits
    if fits:
        estimate.check()
    else:
        with pytest.raises(
            MemoryShortError, match=r"Loading needs about 101\.0 GiB; 100\.0 GiB are free on cpu\. Take less\."
        ):
            estimate.check()


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("max", "5", 1000), ("600", "100", 500), ("5000", "100", 1000), ("100", "600", 0), (None, None, 1000)],
)
def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit, used, expected: int):
    class Available:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Available)
    for name, value in (("_CGROUP_LIMIT", limit), ("_CGROUP_USED", used)):
        path = tmp_path / name
        if value is not None:
            path.write_text(f"{value}\n")
        monkeypatch.setattr(memory, name, path)
    assert memory.free_bytes("cpu") == expected
