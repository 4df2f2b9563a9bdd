"""Writes a tiny Llama as a GGUF file, whole, split or with tensors missing."""

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import load_file

__all__ = ["write_gguf"]

_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(
    folder: Path, path: Path, architecture: str = "llama", *, per_part: int = 0, drop: str = "", n_layers: int = 3
) -> None:
    """Write the tiny Llama of `folder` as llama.cpp's own converter would.

    Args:
        folder: Folder of the model.
        path: The file.
        architecture: Name of the architecture in the file's header.
        per_part: Tensors in a file, if the model is split; `path` then becomes `NAME-00001-of-….gguf` and so on.
        drop: Leave out the tensors whose name contains this.
        n_layers: Layers that the header speaks of.
    """
    writer = GGUFWriter(path, architecture, split_max_tensors=per_part)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    vocabulary = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] + [1] * (len(vocabulary) - 1))
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in tokenizer["merges"]])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(0)
    for name, tensor in load_file(folder / "model.safetensors").items():
        name = name.removesuffix(".weight")
        if name.startswith("model.layers."):
            _, _, layer, part = name.split(".", 3)
            name = f"blk.{layer}.{_GGUF_NAMES[part]}"
        else:
            name = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}[name]
        heads = {"attn_q": 4, "attn_k": 2}.get(name.rpartition(".")[2])
        if heads:  # llama.cpp keeps the two halves of a rotary pair side by side
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        if not drop or drop not in name:
            writer.add_tensor(f"{name}.weight", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
