"""Training texts from files: what ends a line, what is refused, and that what is stored comes back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from analysis import runs
from analysis.concepts import Concept, text_files
from analysis.errors import ConfigError
from analysis.relearning import RelearnConfig
from analysis.runs import execution

SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""Where `str.splitlines` ends a line and JSON does not."""
ODD = tuple(f"before{separator}after" for separator in SEPARATORS)


@pytest.mark.parametrize("ascii_only", [True, False])
def test_separators_inside_a_text_do_not_end_its_line(tmp_path: Path, ascii_only: bool):
    source, kept = tmp_path / "source.jsonl", tmp_path / "kept.jsonl"
    source.write_text("".join(json.dumps(text, ensure_ascii=ascii_only) + "\r\n" for text in ODD), encoding="utf-8")
    texts = text_files.read(str(source))
    assert texts == ODD
    text_files.store(kept, texts)
    assert text_files.load(kept) == ODD
    assert kept.read_bytes().isascii()


def test_a_plain_file_has_one_text_a_line(tmp_path: Path):
    source = tmp_path / "source.txt"
    source.write_bytes("\ufefffirst\u2028line\r\n\r\n  second \nthird".encode())
    assert text_files.read(str(source)) == ("first\u2028line", "second", "third")


def test_a_run_reads_the_text_that_it_stored(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path):
    source = tmp_path / "source.jsonl"
    source.write_text("\n".join(json.dumps(text) for text in ODD))
    config = RelearnConfig(
        model=str(tiny_folder),
        concept=tiny_concept.name,
        edit=None,
        steps=2,
        batch_size=4,
        neutral_share=0.25,
        text=str(source),
        text_share=0.25,
        known_threshold=0.0,
        follow_top=0,
        device="cpu",
    )
    run = runs.create(config, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})
    assert run.text() == ODD
    assert execution.execute(run).state == "finished"
    half = tmp_path / "half.jsonl"
    half.write_text('"whole"\n"a lone \\ud800 surrogate"\n')
    with pytest.raises(ConfigError, match=r"half\.jsonl line 2 holds half a character"):
        runs.create(replace(config, text=str(half)), tmp_path / "other", concepts={tiny_concept.name: tiny_concept})
    assert not (tmp_path / "other").exists()


def test_a_whole_pair_of_surrogates_is_one_character(tmp_path: Path):
    source = tmp_path / "source.jsonl"
    source.write_text('"\\ud83d\\ude00"\n')
    assert text_files.read(str(source)) == ("\U0001f600",)


@pytest.mark.parametrize("name", ["~no-such-user/texts.txt", "nul\0.txt"])
def test_a_path_that_cannot_be_one_is_told(name: str):
    with pytest.raises(ConfigError, match="cannot be"):
        text_files.read(name)
