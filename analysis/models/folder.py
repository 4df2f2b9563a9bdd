"""Looks at a folder that transformers saved, before anything is loaded: which files are its weights, and whether it is whole.

It does not import torch, so importing it is cheap.
"""

import json
from pathlib import Path

from analysis.errors import ModelFileError

__all__ = ["check_folder", "weight_files"]

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers reads: those of the index, else `model.safetensors`; empty if there are none.

    Other files beside them, such as `consolidated.safetensors`, hold the same weights again.

    Raises:
        ModelFileError: the index is damaged or names files that are missing.
    """
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if not index.is_file():
        return []
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFileError(f"{index} is damaged ({error!r}). Download the model again.") from error
    if any(Path(name).name != name for name in names):
        raise ModelFileError(f"{index} names files outside its folder. Download the model again.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelFileError(
            f"{folder} lacks {len(missing)} of {len(names)} files of weights (first: {missing[0]}). Download it again."
        )
    return [folder / name for name in names]


def check_folder(folder: Path) -> None:
    """Raise an error with the reason if a folder cannot hold a loadable model.

    Raises:
        ModelFileError: it holds no whole model, only pickles, or a model and an adapter, of which only one could be meant.
    """
    if not (folder / "config.json").is_file():
        if (folder / _ADAPTER).is_file():
            raise ModelFileError(
                f"{folder} is a LoRA adapter, not a whole model. Merge it into its base model "
                "(peft: model.merge_and_unload().save_pretrained(...)) and load the merged folder."
            )
        raise ModelFileError(f"{folder} has no config.json. Give the folder that save_pretrained wrote.")
    if not weight_files(folder):
        pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(pattern))]
        others = [path.name for path in sorted(folder.glob("*.safetensors"))]
        if others:
            reason = f"no {_SINGLE}, only {others[0]}, which transformers does not read"
        else:
            reason = f"only pickled weights ({pickles[0]}), which are never loaded" if pickles else "no weights"
        raise ModelFileError(f"{folder} has {reason}. Save it as safetensors: model.save_pretrained(folder).")
    if (folder / _ADAPTER).is_file():
        raise ModelFileError(
            f"{folder} holds both a whole model and a LoRA adapter ({_ADAPTER}), and it cannot be known which is meant. "
            "Move the adapter's files to a folder of their own, or merge it (peft: merge_and_unload) and save the result."
        )
