"""Every argument of every function of the front door, given what it cannot be: a sentence says so, and no other error.

Each argument is listed with those values of `POOL` that are right for it. All others must be refused.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

import analysis
from analysis import PalimpsestError
from analysis.concepts import Concept
from analysis.edits import METHODS
from analysis.models import LanguageModel
from analysis.relearning import RelearnConfig

POOL: dict[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "0": 0,
    "3": 3,
    "-1": -1,
    "0.5": 0.5,
    "2.5": 2.5,
    "-2.5": -2.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "10^30": 10**30,
    "no text": "",
    "blank": " ",
    "nonsense": "nonsense",
    "digit": "5",
    "L0.N1": "L0.N1",
    "zero byte": "a\0b",
    "long text": "x" * 5000,
    "half a character": "\ud800",
    "bytes": b"5",
    "path": Path("nowhere"),
    "list": [],
    "list of number": [1],
    "list of text": ["nonsense"],
    "tuple of number": (1,),
    "mapping": {},
    "array": np.ones(2),
    "object": object(),
    "type": int,
    "function": len,
}
SWITCH = {"True", "False"}
SEED = {"0", "3"}
COUNT = {"3", "10^30"}
SHARE = {"0.5"}
SMALL = {"steps": 1, "batch_size": 4, "known_threshold": 0.0, "precision": "float32", "follow_top": 2, "cadence": "log"}


@dataclass(frozen=True)
class Usual:
    """A function with arguments that are right, and for each argument what in `POOL` is right as well."""

    function: Callable[..., Any]
    given: dict[str, Any]
    right: dict[str, set[str]]


@pytest.fixture
def usual(tiny_folder: Path, tiny_model: LanguageModel, tiny_concept: Concept) -> Callable[[str], Usual]:
    """Calls that work, by the function's name."""
    on_model = {"model": tiny_model, "concept": tiny_concept, "progress": False}
    calls = {
        "load_model": Usual(
            analysis.load_model,
            {"reference": str(tiny_folder), "device": "cpu", "progress": False},
            {"reference": set(), "device": set(), "dtype": set(), "progress": SWITCH},
        ),
        "load_concept": Usual(
            analysis.load_concept, {"reference": "capitals"}, {"reference": set(), "label": {"None"}}
        ),
        "measure_saliency": Usual(
            analysis.measure_saliency,
            on_model,
            {"model": set(), "concept": set(), "method": set(), "site": set(), "seed": SEED, "progress": SWITCH},
        ),
        "find_circuit": Usual(
            analysis.find_circuit,
            on_model | {"facts": tiny_concept.facts},
            {"model": set(), "concept": set(), "method": set(), "top": COUNT, "seed": SEED, "progress": SWITCH},
        ),
        "prune": Usual(
            analysis.prune,
            {"top": 5},
            {
                "top": COUNT,
                "share": {"None"},  # beside top
                "by": set(),
                "components": {"None"},
                "fill": set(),
                "hold": SWITCH,
                "control": set(),
                "seed": SEED,
            },
        ),
        "reverse": Usual(
            analysis.reverse,
            {"top": 5},
            {"top": COUNT, "share": {"None"}, "by": set(), "components": {"None"}, "control": set(), "seed": SEED},
        ),
        "edit": Usual(analysis.edit, {"method": "prune"}, {"method": set()}),
        "remove": Usual(
            analysis.remove,
            on_model | {"edit": analysis.prune(top=2), "evaluate": ["neutral_perplexity"], "known_threshold": 0},
            {
                "model": set(),
                "concept": set(),
                "edit": set(),
                "evaluate": {"list"},
                "maintain": {"list"},
                "known_threshold": {"0", "0.5"},
                "seed": SEED,
                "progress": SWITCH,
            },
        ),
        "relearn": Usual(
            analysis.relearn,
            on_model | SMALL,
            {
                "model": set(),
                "concept": set(),
                "edit": {"None"},
                "steps": COUNT,
                "control": SWITCH,
                "seed": SEED,
                "track": {"list"},
                "train_only": {"no text", "L0.N1"},
                "progress": SWITCH,
            },
        ),
        "open_run": Usual(analysis.open_run, {"name": "nowhere"}, {"name": set()}),
        "list_runs": Usual(analysis.list_runs, {}, {}),
    }
    return calls.__getitem__


FUNCTIONS = sorted(name for name in analysis.__all__ if inspect.isfunction(getattr(analysis, name)))
OTHER_NAMES = {
    "reference": "model|concept|folder|path|file",
    "name": "run",
    "method": "method|localization",
    "by": "saliency method|ranked",
    "share": "top and share",
    "components": "components|component",
    "top": "top|number",
    "concept": "concept|track",
    "evaluate": "evaluation",
    "maintain": "concept",
    "track": "concept",
    "site": "site",
    "train_only": "component",
    "kind": "figure",
    "kinds": "measures",
    "ranked_by": "saliency method",
}
"""What a message may call an argument instead, where it knows better what the value is."""


def refused(call: Callable[..., Any], given: dict[str, Any], argument: str, right: set[str]) -> list[str]:
    """What went wrong: each value of the pool that was taken and is not right, or that met another error than a sentence."""
    wrong = []
    for words, value in POOL.items():
        try:
            call(**{**given, argument: value})
        except PalimpsestError as error:
            said = str(error)
            if words in right:  # of the right type, and still too large for the model, say
                continue
            names = [argument, *OTHER_NAMES.get(argument, argument).split("|")]
            if not any(name in said for name in names) or not said.rstrip().endswith((".", "…", ")")):
                wrong.append(f"{words}: says “{said}”")
        except Exception as error:  # noqa: BLE001 (any other error is what is looked for)
            wrong.append(f"{words}: {error!r}"[:300])
        else:
            if words not in right:
                wrong.append(f"{words}: is taken")
    return wrong


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_refuses_what_it_cannot_be(unchecked_types: None, empty_home: Path, usual, name: str):
    call: Usual = usual(name)
    parameters = [
        one.name for one in inspect.signature(call.function).parameters.values() if one.kind != one.VAR_KEYWORD
    ]
    assert sorted(call.right) == sorted(parameters)
    found = {argument: refused(call.function, call.given, argument, right) for argument, right in call.right.items()}
    assert not {argument: wrong for argument, wrong in found.items() if wrong}


adapter = functools.cache(TypeAdapter)


def of_type(value: object, kind: Any, *, typed: bool = False) -> bool:
    """Whether pydantic takes it for the type: another opinion than the library's own check.

    Args:
        value: Any.
        kind: The annotated type.
        typed: Whether a text may stand for a number, as on the command line, and a list for a tuple.
    """
    if typed and isinstance(value, str) and "tuple" in str(kind):
        return True
    value = tuple(value) if typed and isinstance(value, list) else value
    try:
        adapter(kind).validate_python(value, strict=not (typed and isinstance(value, str)))
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("setting", sorted(one.name for one in fields(RelearnConfig)))
def test_every_setting_of_a_run_refuses_what_it_cannot_be(unchecked_types: None, usual, setting: str):
    call: Usual = usual("relearn")
    if setting in call.right:
        return  # an argument, tried above
    kind = get_type_hints(RelearnConfig)[setting]
    right = {words for words, value in POOL.items() if of_type(value, kind)}
    assert not refused(call.function, call.given, setting, right)


@pytest.mark.parametrize("setting", ["facts", "metric", "corruption", "max_prompts", "kinds", "threshold", "match"])
def test_every_setting_of_a_localization_refuses_what_it_cannot_be(unchecked_types: None, usual, setting: str):
    call: Usual = usual("find_circuit")
    right = {
        "None",
        *({"0", "0.5", "2.5", "3", "10^30"} if setting == "threshold" else COUNT if setting == "max_prompts" else ()),
    }
    assert not refused(call.function, call.given, setting, right)


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_an_edit_refuses_what_it_cannot_be(unchecked_types: None, method: str):
    required = {"fact": "France"} if method == "tars" else {}
    wrong = {}
    for setting in METHODS[method].settings:
        right = {words for words, value in POOL.items() if of_type(value, setting.kind, typed=True)}
        wrong[setting.name] = refused(analysis.edit, {"method": method, **required}, setting.name, right)
    assert not {name: said for name, said in wrong.items() if said}


def test_every_argument_of_a_result_refuses_what_it_cannot_be(
    unchecked_types: None, usual, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # a text is a path, and no text this folder
    (tmp_path / "something").touch()
    scores = analysis.measure_saliency(**usual("measure_saliency").given)
    run = analysis.relearn(**usual("relearn").given)
    paths = {words for words, value in POOL.items() if isinstance(value, (str, Path))}
    calls = (
        (scores.table, "top", COUNT | {"None"}),
        (scores.figure, "top", COUNT | {"0"}),
        (scores.top, "k", COUNT),
        (scores.save, "path", paths),
        (run.recruits, "scale", set()),
        (run.recruits, "step", {"None"}),
        (run.carriers, "scale", set()),
        (run.carriers, "step", {"None"}),
        (run.figure, "kind", set()),
        (functools.partial(run.figure, "layers"), "scale", set()),
        (functools.partial(run.figure, "priming"), "scale", set()),
        (run.save, "path", paths),
        (run.view().save, "path", paths),
    )
    found = {f"{i}. {argument}": refused(call, {}, argument, right) for i, (call, argument, right) in enumerate(calls)}
    assert not {call: wrong for call, wrong in found.items() if wrong}
