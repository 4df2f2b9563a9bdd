"""Converts GGUF files to folders of bfloat16 safetensors: joins split files, and accounts for every tensor.

A model that lacks tensors would be filled up with random weights. Nothing of torch or transformers is imported before a
conversion.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import FetchError, ModelFileError, UnsupportedArchitectureError
from analysis.models.digests import sha256_of
from analysis.progress import Progress

if TYPE_CHECKING:
    from gguf import GGUFReader

__all__ = ["convert", "parts_of", "title_of"]

_PART = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})$")
_NOT_WEIGHTS = re.compile(r"rope_freqs|rope_factors|\.nextn\.")
"""Tensors that transformers computes itself or does not run: rotary factors, and layers that predict further tokens."""
_TOLERANCE = 0.2
"""Standard deviations between the logits of the file and of what it was converted to (bfloat16)."""
_log = logging.getLogger(__name__)


def title_of(path: Path) -> str:
    """Name of the model of a GGUF file: the file's without its ending and the number of a part."""
    part = _PART.match(path.stem)
    return part["stem"] if part else path.stem


def parts_of(path: Path) -> list[Path]:
    """All parts of a split GGUF file (`NAME-00001-of-00003.gguf`) that lie beside `path`, in order; else `path` alone."""
    part = _PART.match(path.stem)
    if part is None:
        return [path]
    count = int(part["count"])
    names = [f"{part['stem']}-{number + 1:05d}-of-{count:05d}{path.suffix}" for number in range(count)]
    return [path.with_name(name) for name in names if path.with_name(name).is_file()]


def convert(path: Path, folder: Path, scratch: Path, report: Progress) -> None:
    """Dequantise a GGUF file into `folder`, and store a fingerprint of the converted model's logits.

    Args:
        path: The file, or a part of a split one.
        folder: New folder for safetensors, config, tokenizer, fingerprint and `palimpsest.json` (the files' digests).
        scratch: Folder for temporary files.
        report: Called with a stage's name and its share done.

    Raises:
        ModelFileError: it is no GGUF file, or is damaged, or lacks parts or tensors.
        UnsupportedArchitectureError: transformers cannot read this architecture from GGUF.
        FetchError: the converted model computes something else.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from analysis.models.fingerprint import Fingerprint

    parts = parts_of(path)
    readers = [_opened(part) for part in parts]
    _check_parts(path, readers)
    report("Converting", 0.05)
    whole = path if len(parts) == 1 else _joined(readers, scratch / f"{title_of(path)[:80]}.gguf")
    n_stored = sum(int(tensor.n_elements) for reader in readers for tensor in reader.tensors if _is_weight(tensor.name))
    names = [tensor.name for reader in readers for tensor in reader.tensors]
    del readers
    report("Converting", 0.1)
    model, tokenizer = _read(whole, path.name, n_stored, names)
    direct = Fingerprint.of(model)
    report("Converting", 0.7)
    folder.mkdir()
    state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")  # otherwise a later load would treat the weights as quantised
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model, state
    report("Verifying", 0.85)
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    fingerprint = Fingerprint.of(converted.eval())
    difference = direct.difference(fingerprint)
    if not difference <= _TOLERANCE:  # also true for NaN
        raise FetchError(
            f"The converted {path.name} does not compute what the GGUF file does (logits differ by {difference:.2f} "
            "standard deviations). This is a fault in the conversion: please report it with the file's name."
        )
    _log.info("converted %s: logits within %.4f standard deviations of the direct load", path.name, difference)
    fingerprint.save(folder / "fingerprint.json")
    digests = {part.name: sha256_of(part) for part in parts}
    provenance: dict[str, Any] = {"gguf": parts[0].name, "sha256": digests[parts[0].name]}
    provenance |= {"parts": digests} if len(parts) > 1 else {}
    provenance["difference_from_direct_load"] = difference
    (folder / "palimpsest.json").write_text(json.dumps(provenance, indent=2))
    report("Verifying", 1.0)


def _opened(path: Path) -> GGUFReader:
    from gguf import GGUFReader

    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelFileError(
                f"{path.name} is not a GGUF file (wrong first bytes). Give a .gguf file of a text model."
            )
    try:
        return GGUFReader(path)
    except Exception as error:  # the GGUF reader raises whatever numpy or struct raise on a damaged file
        raise _damaged(path.name, error) from error


def _check_parts(path: Path, readers: Sequence[GGUFReader]) -> None:
    """Compare the parts that are here with what their headers say."""
    count = max(_number(reader, "split.count", 1) for reader in readers)
    numbers = [_number(reader, "split.no", 0) for reader in readers]
    lacking = sorted(set(range(count)) - set(numbers))
    if lacking:
        raise ModelFileError(
            f"{path.name} is a part of a model that is split into {count} files, and part {lacking[0] + 1} is not beside it. "
            f"Put all of them into one folder, named {title_of(path)}-{lacking[0] + 1:05d}-of-{count:05d}.gguf and so on."
        )
    expected = max(_number(reader, "split.tensors.count", 0) for reader in readers)
    found = sum(len(reader.tensors) for reader in readers)
    if expected and found != expected:
        raise ModelFileError(
            f"The {count} parts of {title_of(path)} hold {found} tensors instead of {expected}: they are not parts of one "
            "model. Download them again."
        )


def _number(reader: GGUFReader, key: str, default: int) -> int:
    field = reader.fields.get(key)
    return default if field is None else int(field.contents())


def _joined(readers: Sequence[GGUFReader], path: Path) -> Path:
    """Write the parts as one file: the metadata of the first, and the tensors of all, as they are stored."""
    from gguf import GGUFValueType, GGUFWriter

    first = readers[0]
    writer = GGUFWriter(path, str(first.fields["general.architecture"].contents()))
    for field in first.fields.values():
        if field.name.startswith(("GGUF.", "split.")) or field.name == "general.architecture":
            continue
        kind = field.types[0]
        writer.add_key_value(
            field.name, field.contents(), kind, sub_type=field.types[-1] if kind == GGUFValueType.ARRAY else None
        )
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    for tensor in tensors:
        data = tensor.data
        writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()
    return path


def _is_weight(name: str) -> bool:
    return not _NOT_WEIGHTS.search(name)


def _read(path: Path, name: str, n_stored: int, names: Sequence[str]) -> tuple[Any, Any]:
    """The model in float32 and its tokenizer, with every stored weight in it and no other.

    Args:
        path: The whole file.
        name: Name of the user's file, for messages.
        n_stored: Numbers that are stored as weights.
        names: Names of the stored tensors.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        arguments = {"gguf_file": path.name, "local_files_only": True}
        config = AutoConfig.from_pretrained(path.parent, **arguments)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, config=config, dtype=torch.float32, output_loading_info=True, **arguments
        )
        model, info = loaded
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **arguments)
    except (ValueError, KeyError, NotImplementedError) as error:
        if "not supported" in str(error) or isinstance(error, (KeyError, NotImplementedError)):
            raise UnsupportedArchitectureError(
                f"{name}: transformers cannot read this GGUF architecture ({error}). Use a safetensors folder."
            ) from error
        raise _damaged(name, error) from error
    except Exception as error:
        raise _damaged(name, error) from error
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise ModelFileError(
            f"{name} lacks {len(missing)} weights of the model that it describes (first: {missing[0]}), or they have the "
            "wrong shape; the model would compute noise. Download it again."
        )
    n_loaded = sum(parameter.numel() for parameter in model.parameters())
    if n_loaded != n_stored:
        beyond = [one for one in names if (block := re.match(r"blk\.(\d+)\.", one)) and int(block[1]) >= _depth(model)]
        which = f", such as {beyond[0]}" if beyond else ""
        raise ModelFileError(
            f"{name} stores {n_stored:,} weights{which}, but the model that it describes has {n_loaded:,}. Some would be "
            "left out, or filled up with noise: use another file, or a safetensors folder."
        )
    return model.eval(), tokenizer


def _depth(model: Any) -> int:
    return int(model.config.get_text_config().num_hidden_layers)


def _damaged(name: str, error: Exception) -> ModelFileError:
    return ModelFileError(f"{name} is damaged or incomplete ({type(error).__name__}: {error}). Download it again.")
