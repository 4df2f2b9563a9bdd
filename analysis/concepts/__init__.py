"""Concepts: labelled sentences and facts, built in or uploaded."""

from analysis.concepts.concept import HELD_OUT_SHARE, Concept, Fact, Sentence, Split, Translation
from analysis.concepts.conll import from_token_lines
from analysis.concepts.files import ENDINGS, parse, parse_files, preview, preview_files, read
from analysis.concepts.jsonl import digest, dump_jsonl
from analysis.concepts.library import BUILT_IN, available, load, neutral_digest, neutral_sentences, save
from analysis.concepts.neutral import split_neutral
from analysis.concepts.preview import Preview

__all__ = [
    "BUILT_IN",
    "ENDINGS",
    "HELD_OUT_SHARE",
    "Concept",
    "Fact",
    "Preview",
    "Sentence",
    "Split",
    "Translation",
    "available",
    "digest",
    "dump_jsonl",
    "from_token_lines",
    "load",
    "neutral_digest",
    "neutral_sentences",
    "parse",
    "parse_files",
    "preview",
    "preview_files",
    "read",
    "save",
    "split_neutral",
]
