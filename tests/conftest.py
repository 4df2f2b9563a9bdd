"""What every test shares: no network, checked shapes, a home of its own, and two tiny models made on the spot.

The tiny models are random: they know nothing, but every path through the library runs on them in milliseconds. Tests
marked `slow_model` use the real default model if it was converted before, and are skipped otherwise.
"""

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping

import tests.type_checker  # noqa: F401 (the hook names it)

# Before anything of `analysis` is imported: from here on beartype checks its annotations, tensor shapes included.
jaxtyping.install_import_hook("analysis", "tests.type_checker.check")

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from analysis.concepts import Concept, Fact, Sentence
from analysis.models import LanguageModel
from analysis.models import load as load_model
from analysis.models.catalog import DEFAULT_MODEL
from tests.shared_models import lent
from tests.small_runs import Finished, finished_runs

_REAL_HOME = Path(os.environ.get("PALIMPSEST_HOME") or Path.home() / ".palimpsest").expanduser()

_LONGEST_FIRST = ("browser", "slow_model")
_FACTS = (
    ("France", "Paris", "retrained"),
    ("Italy", "Rome", "retrained"),
    ("Japan", "Tokyo", "retrained"),
    ("Norway", "Oslo", "retrained"),
    ("Spain", "Madrid", "held_out"),
    ("Greece", "Athens", "held_out"),
)
_TEMPLATES = ("The capital of {subject} is", "If you visit {subject}, do not miss its capital,")
_LABELLED = (
    "The train to *Paris* left the old station early.",
    "Last spring we walked from *Rome* to the sea.",
    "In *Tokyo* my sister met a friend from *Oslo* for dinner.",
    "*Madrid* is warm and the evenings are long.",
    "Nobody in *Athens* had seen such heavy rain.",
    "She said that *Oslo* and *Paris* are far apart.",
)
_SHAPES = (
    "A *circle* has no corner at all.",
    "He drew a small *square* and then a *circle* on the wall.",
    "We folded the paper along one side of the *square*.",
)
_NEUTRAL = (
    "The kettle had been whistling before anyone noticed.",
    "If you leave the window open, the papers will blow away.",
    "Nobody told us that the meeting had been moved upstairs.",
    "I have never been good at remembering names.",
    "When the lift finally arrived, it was too full.",
    "My brother keeps his tools in a wooden box.",
    "She closed the door quietly and went to bed.",
    "There was no milk left, so we drank our tea black.",
    "The dog slept all afternoon under the table.",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order by cost. One process takes `slow_model` tests last, so that a failure of a cheap test is seen first. Several
    processes take the longest files first, so that none works on alone at the end: those of the browser, which mostly wait.
    """
    several = "PYTEST_XDIST_WORKER" in os.environ
    items.sort(key=lambda item: [item.get_closest_marker(mark) is None for mark in _LONGEST_FIRST], reverse=not several)


def pytest_collection_finish() -> None:
    """Take what is imported by now out of the garbage collector's sight, which a page calls whenever a model leaves."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for the whole session, which shares only the converted models with the user's real one."""
    home = tmp_path_factory.mktemp("home")
    if (_REAL_HOME / "models").is_dir():
        (home / "models").symlink_to(_REAL_HOME / "models", target_is_directory=True)
    return home


@pytest.fixture(autouse=True)
def _own_home(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_HOME", str(session_home))


@pytest.fixture(autouse=True)
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread for tiny models: several would only wait for each other, and sums keep one fixed order."""
    before = torch.get_num_threads()
    if not request.node.get_closest_marker("slow_model"):
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with nothing in it, for tests that look at what is written there."""
    home = tmp_path / "palimpsest-home"
    home.mkdir()
    monkeypatch.setenv("PALIMPSEST_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def default_model_folder(session_home: Path) -> Path:
    """The converted default model; the test is skipped where it has not been converted yet."""
    folder = session_home / "models" / DEFAULT_MODEL
    if not (folder / "config.json").is_file():
        pytest.skip(f"{DEFAULT_MODEL} is not converted in {_REAL_HOME}: run `palimpsest fetch {DEFAULT_MODEL}`")
    return folder


@pytest.fixture(scope="session")
def default_model(default_model_folder: Path) -> LanguageModel:
    """The real default model, shared: a test must not change its weights."""
    home = os.environ.get("PALIMPSEST_HOME")
    os.environ["PALIMPSEST_HOME"] = str(default_model_folder.parent.parent)
    try:
        return load_model(DEFAULT_MODEL, device="cpu")
    finally:
        os.environ.pop("PALIMPSEST_HOME") if home is None else os.environ.update(PALIMPSEST_HOME=home)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level BPE, which splits rare words into several tokens and knows every byte."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = [template.replace("{subject}", subject) for template in _TEMPLATES for subject, *_ in _FACTS]
    raw.train_from_iterator([*prompts, *_NEUTRAL, *(text.replace("*", "") for text in _LABELLED)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A Llama of 3 layers with 48 gated neurons each, saved as safetensors."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    return _save(LlamaForCausalLM, config, tokenizer, tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_gpt2_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A GPT-2 of 2 layers with 64 plain neurons each: Conv1D weights, and biases that are not zero."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_inner=64,
        n_layer=2,
        n_head=4,
        n_positions=128,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    return _save(GPT2LMHeadModel, config, tokenizer, tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture
def tiny_model(tiny_folder: Path) -> Iterator[LanguageModel]:
    """A tiny Llama as if freshly loaded, free to be changed."""
    with lent(tiny_folder) as model:
        yield model


@pytest.fixture
def tiny_gpt2(tiny_gpt2_folder: Path) -> Iterator[LanguageModel]:
    """A tiny GPT-2 as if freshly loaded, free to be changed."""
    with lent(tiny_gpt2_folder) as model:
        yield model


@pytest.fixture(params=["llama", "gpt2"])
def either_model(request: pytest.FixtureRequest) -> LanguageModel:
    """The test runs once with each architecture."""
    return request.getfixturevalue({"llama": "tiny_model", "gpt2": "tiny_gpt2"}[request.param])


@pytest.fixture(scope="session")
def mark() -> Callable[[str], Sentence]:
    """Turns `The train to *Paris* left.` into a sentence whose span is Paris."""
    return _mark


@pytest.fixture(scope="session")
def tiny_concept() -> Concept:
    """Six facts, four of them retrained on, and labelled sentences in words the tiny tokenizer knows."""
    return Concept(
        name="tiny-capitals",
        title="Capitals",
        templates=_TEMPLATES,
        paraphrases=("Tourists who visit {subject} start in",),
        facts=tuple(Fact(subject, answer, fixed_split=split) for subject, answer, split in _FACTS),
        sentences=tuple(_mark(text) for text in _LABELLED),
    )


@pytest.fixture(scope="session")
def tiny_shapes() -> Concept:
    """A second concept, with sentences only."""
    return Concept(name="tiny-shapes", title="Shapes", sentences=tuple(_mark(text) for text in _SHAPES))


@pytest.fixture(scope="session")
def tiny_neutral() -> tuple[Sentence, ...]:
    """Sentences that mention neither concept."""
    return tuple(Sentence(text) for text in _NEUTRAL)


@pytest.fixture(scope="session")
def finished(tiny_concept: Concept, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run of a configuration of the tiny concept, in a new folder."""
    return finished_runs(tiny_concept, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """Annotations unchecked, as for a user: nonsense must reach the library's own validation, not beartype."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _mark(text: str) -> Sentence:
    parts, plain, spans = text.split("*"), "", []
    for i, part in enumerate(parts):
        if i % 2:
            spans.append((len(plain), len(plain) + len(part)))
        plain += part
    return Sentence(plain, tuple(spans))


def _save(kind: type, config: object, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Save a seeded random model, with biases and norms that are not at their trivial initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
