"""A model's folder, before it is loaded: which files count, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis import models
from analysis.errors import ModelFileError
from analysis.models import memory
from analysis.models.folder import check_folder, weight_files


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_a_second_copy_of_the_weights_is_not_counted(folder: Path):
    count = memory.count_parameters(folder)
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert weight_files(folder) == [folder / "model.safetensors"]
    assert memory.count_parameters(folder) == count
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"no model\.safetensors, only consolidated\.safetensors"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}', r"lacks 2 of 2 files .*one\.safetensors"),
        ('{"weight_map": {"a": "../one.safetensors"}}', "outside its folder"),
        ('{"weight_map": 3}', "is damaged"),
        ("{", "is damaged"),
    ],
)
def test_an_index_that_cannot_be_followed(folder: Path, index: str, message: str):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelFileError, match=message):
        check_folder(folder)


def test_an_adapter_beside_full_weights_is_refused(folder: Path):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelFileError, match="both a whole model and a LoRA adapter"):
        models.load(str(folder), device="cpu")


def test_a_layer_too_many_is_refused(folder: Path, empty_home: Path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(ModelFileError, match=r"stores 9 weights that the model .* does not have .*layers\.2\."):
        models.load(str(folder), device="cpu")


def test_constants_of_old_versions_are_no_weights(folder: Path, empty_home: Path):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert models.load(str(folder), device="cpu").n_layers == 3


def test_a_config_without_the_name_of_its_class(folder: Path, empty_home: Path):
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert models.load(str(folder), device="cpu").architecture == "LlamaForCausalLM"
