"""Loading a model: what is checked, which damage is named and how, and that nothing in a folder is ever run."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel, MixtralConfig, MixtralForCausalLM

from analysis import models
from analysis.errors import (
    ConfigError,
    FingerprintError,
    MemoryShortError,
    ModelFileError,
    UnknownModelError,
    UnsupportedArchitectureError,
)
from analysis.models import LanguageModel, fetch, memory
from analysis.models.catalog import resolve
from analysis.models.digests import sha256_of
from tests.raw_model import raw


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def load(path: Path | str, **arguments) -> LanguageModel:
    return models.load(str(path), device="cpu", **arguments)


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Rewrite the weights in place, keeping size and time stamp where the change keeps the shapes."""
    path = folder / "model.safetensors"
    stat = path.stat()
    weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_loads_and_passes_the_fingerprint(tiny_folder: Path, dtype: str):
    load(tiny_folder)  # stores the float32 fingerprint
    assert raw(load(tiny_folder, dtype=dtype)).dtype == getattr(torch, dtype)


def test_progress_ends_at_one(tiny_folder: Path):
    shares: list[tuple[str, float]] = []
    load(tiny_folder, progress=lambda what, share: shares.append((what, share)))
    assert shares[0] == ("Loading", 0.0)
    assert shares[-1] == ("Loading", 1.0)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("smollm", ["smollm2-135m", "Did you mean"]),
        ("", ["smollm2-135m"]),
        ("./nowhere", ["neither a folder nor a GGUF file"]),
        ("nowhere.gguf", ["There is no file"]),
    ],
)
def test_wrong_name(reference: str, words: list[str]):
    with pytest.raises(UnknownModelError) as error:
        load(reference)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("name", ["dtype", "device"])
def test_wrong_setting(tiny_folder: Path, name: str):
    with pytest.raises(ConfigError, match="abacus"):
        models.load(str(tiny_folder), **{"device": "cpu", name: "abacus"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(tiny_folder: Path):
    with pytest.raises(ConfigError, match="no CUDA device"):
        models.load(str(tiny_folder), device="cuda")


def test_truncated_weights(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match=r"truncated.*again"):
        load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"abc", struct.pack("<Q", 2**60), struct.pack("<Q", 4) + b"[12]", b"\x80" * 64]
)
def test_weights_that_are_no_safetensors(folder: Path, content: bytes):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match="not a readable safetensors file"):
        load(folder)


def test_a_missing_weight_is_named(folder: Path):
    change_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ModelFileError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load(folder)


def test_a_weight_of_the_wrong_shape(folder: Path):
    change_config(folder, intermediate_size=40)
    with pytest.raises(ModelFileError, match="weights"):
        load(folder)


def test_a_shard_that_is_not_there(folder: Path):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first = dict(list(weights.items())[:5])
    save_file(first, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    shards = {name: f"model-0000{1 if name in first else 2}-of-00002.safetensors" for name in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with pytest.raises(ModelFileError, match="model-00002-of-00002"):
        load(folder)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"text"', "{}"])
def test_damaged_config(folder: Path, content: str):
    (folder / "config.json").write_text(content)
    with pytest.raises((ModelFileError, UnsupportedArchitectureError), match=r"config\.json|model type"):
        load(folder)


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0", "model": 3}'])
def test_damaged_tokenizer(folder: Path, content: str):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelFileError, match="tokenizer"):
        load(folder)


def test_missing_tokenizer(folder: Path):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelFileError, match="tokenizer"):
        load(folder)


def test_unknown_model_type(folder: Path):
    change_config(folder, model_type="abacus", architectures=["AbacusForCausalLM"])
    with pytest.raises(UnsupportedArchitectureError, match="model type"):
        load(folder)


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertLMHeadModel"])
def test_encoder_is_refused(tmp_path: Path, tokenizer, architecture: str):
    """BERT sees later tokens: loss, P(answer) and unmasked padding would all be meaningless."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    model = BertLMHeadModel(config)
    model.save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    change_config(tmp_path / "bert", architectures=[architecture])
    with pytest.raises(UnsupportedArchitectureError, match="Bert"):
        load(tmp_path / "bert")


def test_mixture_of_experts_is_refused(tmp_path: Path, tokenizer):
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
        max_position_embeddings=64,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "mixtral")
    tokenizer.save_pretrained(tmp_path / "mixtral")
    with pytest.raises(UnsupportedArchitectureError, match="mixture of experts"):
        load(tmp_path / "mixtral")


def test_too_little_memory_says_both_numbers(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100 * 2**20)
    with pytest.raises(MemoryShortError, match=r"0\.4 GiB.*0\.1 GiB") as error:
        load(tiny_folder)
    assert "smaller model" in str(error.value)


def test_fingerprint_is_stored_at_the_first_load(folder: Path, empty_home: Path):
    load(folder)
    (stored,) = (empty_home / "fingerprints").glob("*.json")
    before = stored.read_bytes()
    load(folder)
    assert [path.read_bytes() for path in (empty_home / "fingerprints").iterdir()] == [before]


def test_no_fingerprint_is_stored_from_half_precision(folder: Path, empty_home: Path):
    load(folder, dtype="bfloat16")
    assert not list(empty_home.rglob("*.json"))


def test_weights_changed_behind_the_fingerprint(folder: Path, empty_home: Path):
    load(folder)
    change_weights(folder, lambda weights: weights["model.layers.1.mlp.up_proj.weight"].mul_(-1))
    with pytest.raises(FingerprintError, match=r"standard deviations.*again"):
        load(folder)


def test_a_fingerprint_beside_the_weights_is_checked(folder: Path, empty_home: Path):
    load(folder)
    (stored,) = (empty_home / "fingerprints").iterdir()
    shutil.copy(stored, folder / "fingerprint.json")
    load(folder)
    change_weights(folder, lambda weights: weights["model.layers.1.mlp.up_proj.weight"].mul_(-1))
    os.utime(folder / "model.safetensors")  # a new time stamp must not help
    with pytest.raises(FingerprintError):
        load(folder)


@pytest.mark.parametrize("content", ["", "[]", '{"tokens": [1]}'])
def test_a_damaged_fingerprint_says_which_file(folder: Path, content: str):
    (folder / "fingerprint.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"fingerprint\.json is damaged"):
        load(folder)


def test_nan_weights_are_refused(folder: Path, empty_home: Path):
    load(folder)
    change_weights(folder, lambda weights: weights["model.norm.weight"].fill_(float("nan")))
    with pytest.raises(ModelFileError, match="not finite"):
        load(folder)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def cache_as_the_hub_does(folder: Path, cache: Path, hub_id: str) -> None:
    """Blobs named by digest, snapshots of symbolic links, and a ref."""
    repository, revision = cache / f"models--{hub_id.replace('/', '--')}", "0123456789abcdef0123456789abcdef01234567"
    snapshot = repository / "snapshots" / revision
    for part in (repository / "blobs", repository / "refs", snapshot):
        part.mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    for path in folder.iterdir():
        blob = repository / "blobs" / sha256_of(path)
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))


def test_hub_model_out_of_the_local_cache(tiny_folder: Path, hub_cache: Path):
    cache_as_the_hub_does(tiny_folder, hub_cache, "someone/tiny-llama")
    assert fetch.is_fetched(resolve("someone/tiny-llama"))
    model = load("someone/tiny-llama")
    assert (model.name, model.shape) == ("someone/tiny-llama", (3, 48))


def test_hub_model_that_is_not_cached(hub_cache: Path):
    assert not fetch.is_fetched(resolve("someone/absent"))
    with pytest.raises(UnknownModelError, match=r"someone/absent.*cannot be reached.*local folder"):
        load("someone/absent")


def test_hub_model_cached_without_its_weights(tiny_folder: Path, tmp_path: Path, hub_cache: Path):
    partial = Path(shutil.copytree(tiny_folder, tmp_path / "partial"))
    (partial / "model.safetensors").unlink()
    cache_as_the_hub_does(partial, hub_cache, "someone/half")
    assert not fetch.is_fetched(resolve("someone/half"))
    with pytest.raises((UnknownModelError, ModelFileError)):
        load("someone/half")


@pytest.mark.parametrize("hub_id", ["someone/a--b", "someone/a..b", "someone/ends.", f"someone/{'x' * 100}"])
def test_hub_id_that_the_hub_does_not_allow(hub_cache: Path, hub_id: str):
    with pytest.raises(UnknownModelError):
        load(hub_id)


@pytest.mark.parametrize("model_type", ["llama", "abacus"])
def test_code_in_a_folder_never_runs(folder: Path, tmp_path: Path, model_type: str):
    """A folder that brings its own code is loaded without it (a known model type) or refused."""
    trace = tmp_path / "code-was-run"
    code = f"from pathlib import Path\nPath({str(trace)!r}).touch()\n"
    for name in ("configuration_own", "modeling_own", "tokenization_own"):
        (folder / f"{name}.py").write_text(code)
    change_config(
        folder,
        model_type=model_type,
        auto_map={"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"},
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "tokenization_own.Own"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if model_type == "llama":
        assert load(folder).shape == (3, 48)
    else:
        with pytest.raises(UnsupportedArchitectureError, match="never run"):
            load(folder)
    assert not trace.exists()
