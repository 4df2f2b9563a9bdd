"""What a user's words resolve to."""

from pathlib import Path

import pytest

from analysis.errors import UnknownModelError
from analysis.models.catalog import CATALOG, DEFAULT_MODEL, resolve


def test_the_default_model_needs_no_hub():
    entry = next(entry for entry in CATALOG if entry.name == DEFAULT_MODEL)
    assert entry.kind == "wheel"
    assert entry.wheel is not None
    assert "==" in entry.wheel.requirement
    assert len(entry.wheel.sha256) == len(entry.wheel.member_sha256) == 64


def test_entries_are_complete():
    names = [entry.name for entry in CATALOG]
    assert len(set(names)) == len(names)
    for entry in CATALOG:
        assert entry.name == entry.name.lower()
        assert entry.title
        assert entry.licence
        assert entry.good_for
        assert entry.parameters > 0
        assert entry.size > entry.parameters
        assert (entry.wheel is None) == (entry.kind != "wheel")


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
@pytest.mark.parametrize("change", [str, str.upper, "  {}\n".format])
def test_catalog_names(entry, change):
    source = resolve(change(entry.name))
    assert (source.name, source.kind, source.location, source.entry) == (entry.name, entry.kind, entry.location, entry)


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "my model"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for reference in (str(folder), "my model", "./my model", "~/my model", "link", "my model/"):
        source = resolve(reference)
        assert (source.name, source.kind, source.path, source.entry) == ("my model", "folder", folder, None)


def test_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "tiny.Q4.GGUF"
    path.write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    for reference in (str(path), "tiny.Q4.GGUF", "./tiny.Q4.GGUF"):
        source = resolve(reference)
        assert (source.name, source.kind, source.path) == ("tiny.Q4", "gguf", path)


def test_a_hub_id():
    source = resolve("EleutherAI/pythia-70m")
    assert (source.name, source.kind, source.location) == ("EleutherAI/pythia-70m", "hub", "EleutherAI/pythia-70m")


def test_a_folder_goes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name").kind == "folder"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", f"No model named.*{DEFAULT_MODEL}"),
        (" ", "No model named"),
        ("gpt-2", "Did you mean “gpt2”"),
        ("smolm2-135m", f"Did you mean “{DEFAULT_MODEL}”"),
        ("zzz", "The catalog has smollm2-135m, gpt2"),
        ("/nowhere", "neither a folder nor a GGUF file"),
        ("./org/name", "neither a folder nor a GGUF file"),
        ("a/b/c", "neither a folder nor a GGUF file"),
        ("org/na me", "not a model of the catalog"),
        ("org/name.gguf", "There is no file"),
        ("~nobody-of-this-name/model", "model"),
        ("a" * 5000, "a"),
        ("/" + "a" * 5000, "a"),
        ("a\0b", "a"),
    ],
)
def test_what_is_not_understood(reference: str, message: str):
    with pytest.raises(UnknownModelError, match=message):
        resolve(reference)


def test_a_file_that_is_no_model(tmp_path: Path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"")
    with pytest.raises(UnknownModelError, match=r"neither a folder nor a GGUF file.*config\.json"):
        resolve(str(path))
