"""GGUF files: parts are joined, and a file whose tensors are not those of its model is refused."""

from pathlib import Path

import pytest

from analysis import models
from analysis.errors import ModelFileError, UnknownModelError
from analysis.models import fetch
from analysis.models.catalog import resolve
from analysis.models.digests import sha256_of
from tests.gguf_writer import write_gguf


@pytest.fixture
def parts(tiny_folder: Path, tmp_path: Path) -> list[Path]:
    """The tiny model in several files."""
    write_gguf(tiny_folder, tmp_path / "tiny.gguf", per_part=12)
    found = sorted(tmp_path.glob("tiny-*.gguf"))
    assert len(found) == 3
    return found


@pytest.mark.parametrize("given", [0, 2])
def test_parts_are_joined_whichever_is_given(parts: list[Path], given: int, tiny_folder: Path, empty_home: Path):
    source = resolve(str(parts[given]))
    assert (source.name, source.path) == ("tiny", parts[0])
    joined = models.load(str(parts[given]), device="cpu")
    whole = models.load(str(tiny_folder), device="cpu")
    assert whole.fingerprint().difference(joined.fingerprint()) < 0.05  # bfloat16
    record = (fetch.locate(source) / "palimpsest.json").read_text()
    assert all(sha256_of(part) in record for part in parts)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_part_alone_is_refused(parts: list[Path], lost: int, empty_home: Path):
    parts.pop(lost).unlink()
    with pytest.raises(ModelFileError, match=f"split into 3 files, and part {lost + 1} is not beside it"):
        fetch.locate(resolve(str(parts[0])))
    assert not list((empty_home / "models").glob("gguf-*/config.json"))


def test_a_renamed_part_is_refused(parts: list[Path], empty_home: Path):
    renamed = parts[0].rename(parts[0].with_name("model.gguf"))
    with pytest.raises(ModelFileError, match="split into 3 files"):
        fetch.locate(resolve(str(renamed)))


def test_a_part_of_another_model_is_refused(parts: list[Path], tiny_folder: Path, tmp_path: Path, empty_home: Path):
    write_gguf(tiny_folder, tmp_path / "other.gguf", per_part=12, drop="ffn_up")
    next(tmp_path.glob("other-00003*")).replace(parts[2])
    with pytest.raises(ModelFileError, match="they are not parts of one model"):
        fetch.locate(resolve(str(parts[0])))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop": "blk.2.ffn_up"}, r"lacks 1 weights of the model .*layers\.2\.mlp\.up_proj"),
        ({"drop": "blk.1."}, r"lacks 9 weights"),
        ({"n_layers": 4}, r"lacks 9 weights .*layers\.3\."),
        ({"n_layers": 2}, r"stores [\d,]+ weights, such as blk\.2\.[\w.]+, but the model that it describes has"),
    ],
)
def test_every_tensor_is_accounted_for(
    tiny_folder: Path, tmp_path: Path, empty_home: Path, arguments: dict, message: str
):
    write_gguf(tiny_folder, tmp_path / "tiny.gguf", **arguments)
    with pytest.raises(ModelFileError, match=message):
        models.load(str(tmp_path / "tiny.gguf"), device="cpu")
    assert not list((empty_home / "models").glob("gguf-*/config.json"))


def test_a_name_as_long_as_the_file_system_allows(tiny_folder: Path, tmp_path: Path, empty_home: Path):
    path = tmp_path / f"{'n' * 235}.gguf"
    write_gguf(tiny_folder, path)
    assert models.load(str(path), device="cpu").n_layers == 3


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UnknownModelError, match="There is no file"):
        resolve(str(tmp_path / "none-00001-of-00002.gguf"))
