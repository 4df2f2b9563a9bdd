"""Where things are kept, and files that are never half-written."""

import threading
from pathlib import Path

import pytest

from analysis import paths
from analysis.errors import ConfigError


def test_home_is_made_and_holds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PALIMPSEST_HOME", str(tmp_path / "deep" / "home"))
    home = paths.home()
    assert home == tmp_path / "deep" / "home"
    assert home.is_dir()
    assert [root().name for root in (paths.models_root, paths.concepts_root, paths.runs_root)] == [
        "models",
        "concepts",
        "runs",
    ]
    assert {root().parent for root in (paths.models_root, paths.concepts_root, paths.runs_root)} == {home}


@pytest.mark.parametrize("setting", [None, ""])
def test_default_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str | None):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PALIMPSEST_HOME")
    if setting is not None:
        monkeypatch.setenv("PALIMPSEST_HOME", setting)
    assert paths.home() == tmp_path / ".palimpsest"


def test_home_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PALIMPSEST_HOME", "~/here")
    assert paths.home() == tmp_path / "here"


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "status.json"
    for content in (b"first", b"", b"second"):
        paths.write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "status.json"
    paths.write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        paths.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_may_write_the_same_file(tmp_path: Path):
    path, errors = tmp_path / "status.json", []

    def write(letter: bytes) -> None:
        try:
            for _ in range(30):
                paths.write_atomically(path, letter * 5000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_bytes() in {letter * 5000 for letter in (b"a", b"b", b"c")}
    assert list(tmp_path.iterdir()) == [path]


def test_a_home_of_an_unknown_user_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PALIMPSEST_HOME", "~no-such-user/home")
    with pytest.raises(ConfigError, match="whole path"):
        paths.home()


def test_one_name_for_what_links_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    monkeypatch.chdir(tmp_path)
    for name in ("folder/run", "link/run", tmp_path / "link" / ".."):
        expected = tmp_path if str(name).endswith("..") else tmp_path / "folder" / "run"
        assert paths.real(Path(name)) == expected
