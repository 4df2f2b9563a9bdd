"""Loading starts no process and opens no connection, whatever lies in the folder."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

from analysis import models


@pytest.fixture
def multimodal_folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A Gemma 3 with a tower for pictures, whose processor needs torchvision."""
    config = Gemma3Config(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 128,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=1,
    )
    torch.manual_seed(0)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "multimodal")
    tokenizer.save_pretrained(tmp_path / "multimodal")
    return tmp_path / "multimodal"


@pytest.mark.parametrize("kind", ["tiny_folder", "tiny_gpt2_folder", "multimodal_folder"])
def test_a_load_starts_no_process_and_opens_no_connection(
    kind: str, request: pytest.FixtureRequest, empty_home: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = request.getfixturevalue(kind)
    calls: list[str] = []

    def forbid(owner: object, name: str) -> None:
        def called(*arguments: object, **options: object) -> None:
            calls.append(name)
            raise OSError(f"{name} was called")

        monkeypatch.setattr(owner, name, called)

    forbid(subprocess.Popen, "__init__")
    forbid(os, "system")
    forbid(os, "posix_spawn")
    forbid(socket.socket, "connect")
    forbid(socket, "getaddrinfo")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE")
    model = models.load(str(folder), device="cpu")
    assert model.n_layers in (2, 3)
    assert calls == []
