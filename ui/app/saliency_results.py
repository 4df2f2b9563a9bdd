"""Computes saliency on the shared model and caches the results for all sessions.

Methods that need forward passes only are computed from one cached scan (`viewer_model.scan`). Methods that take seconds are
computed when they are asked for. Slow methods run in the background (`start`) and store their results here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import streamlit as st

from analysis.components.sites import MLP, Site
from analysis.concepts import Concept, Fact, dump_jsonl
from analysis.edits import Selection
from analysis.errors import ConfigError
from analysis.progress import ShareDone
from analysis.saliency import CAUSAL_METHODS, METHODS, MOMENT_METHODS, RANKING_METHODS, Saliency, causal, check_method
from ui.app import background, viewer_model

__all__ = [
    "SLOW_METHODS",
    "ablation",
    "ablation_computation",
    "computation",
    "measured",
    "ranking",
    "saliency",
    "start",
    "start_ablation",
]

SLOW_METHODS = tuple(name for name in RANKING_METHODS if METHODS[name].takes)
"""Methods that take minutes without a GPU; they start when a button is pressed."""

_MAX_RESULTS = 96


@dataclass
class _Store:
    """Results by key; the oldest are dropped first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    results: OrderedDict[tuple, Saliency] = field(default_factory=OrderedDict)

    def put(self, key: tuple, result: Saliency) -> None:
        with self.lock:
            self.results[key] = result
            self.results.move_to_end(key)
            while len(self.results) > _MAX_RESULTS:
                self.results.popitem(last=False)


@st.cache_resource(show_spinner=False)
def _store() -> _Store:
    return _Store()


def saliency(concept: Concept, method: str, site: Site = MLP) -> Saliency | None:
    """The scores of every unit; None for a slow method that was not computed yet.

    Raises:
        ConfigError: the method is not defined at this site.
        PalimpsestError: the model cannot be loaded, or the concept cannot be measured.
    """
    check_method(method, site)
    key = _key(concept, method, site)
    found = _store().results.get(key)
    if found is not None or method in SLOW_METHODS:
        return found
    if method in MOMENT_METHODS:
        result = viewer_model.scan(concept, site).score(concept.name, method)
    else:
        work = _work(concept, method, site)
        with st.spinner(f"Measuring {method} …"):
            result = work(lambda share: None)
    _store().put(key, result)
    return result


def ranking(concept: Concept, selection: Selection) -> Saliency | None:
    """The scores that an edit's selection ranks by; None if it needs none, or computes them from the moments itself.

    Raises:
        ConfigError: a slow method was not computed yet.
        PalimpsestError: the concept cannot be measured by this method.
    """
    if selection.rule == "explicit" or selection.method in MOMENT_METHODS:
        return None
    found = saliency(concept, selection.method)
    if found is None:
        raise ConfigError(
            f"{selection.method} takes minutes and was not computed for “{concept.name}”. Start it on the Saliency "
            "page, or rank by another method."
        )
    return found


def measured(concept: Concept, site: Site = MLP) -> dict[str, Saliency]:
    """Method -> scores, of all methods that were computed."""
    results = {method: _store().results.get(_key(concept, method, site)) for method in RANKING_METHODS}
    return {method: result for method, result in results.items() if result is not None}


def computation(concept: Concept, method: str, site: Site = MLP) -> background.Computation | None:
    """The computation of a slow method, if it is running or has failed."""
    return background.find(_key(concept, method, site))


def start(concept: Concept, method: str, site: Site = MLP) -> background.Computation:
    """Start to compute a slow method in the background.

    Raises:
        PalimpsestError: the model cannot be loaded, or knows none of the facts.
    """
    key = _key(concept, method, site)
    return background.start(key, method, _work(concept, method, site), then=partial(_store().put, key))


def ablation(concept: Concept, result: Saliency, site: Site, count: int) -> Saliency | None:
    """Exact effects of the `count` strongest units of `result`; None if they were not measured."""
    return _store().results.get(_ablation_key(concept, result, site, count))


def ablation_computation(concept: Concept, result: Saliency, site: Site, count: int) -> background.Computation | None:
    """The ablation of these units, if it is running or has failed."""
    return background.find(_ablation_key(concept, result, site, count))


def start_ablation(concept: Concept, result: Saliency, site: Site, count: int) -> background.Computation:
    """Start to ablate the `count` strongest units one by one.

    Raises:
        PalimpsestError: the model cannot be loaded, or knows none of the facts.
    """
    key = _ablation_key(concept, result, site, count)
    model, facts, units = viewer_model.model(), _known(concept), _strongest(result, count)

    def work(progress: ShareDone) -> Saliency:
        return causal.ablation(model, concept, units, site=site, facts=facts, progress=progress)

    return background.start(key, "ablation", work, then=partial(_store().put, key))


def _work(concept: Concept, method: str, site: Site) -> Callable[[ShareDone], Saliency]:
    """The function that computes a method; it holds everything that it needs from this session."""
    if method not in CAUSAL_METHODS:
        return partial(_score, viewer_model.scan(concept, site), concept.name, method)
    model, facts = viewer_model.model(), _known(concept)

    def work(progress: ShareDone) -> Saliency:
        return causal.measure(model, concept, method, site=site, facts=facts, progress=progress)

    return work


def _score(scan: Any, concept: str, method: str, progress: ShareDone) -> Saliency:
    return scan.score(concept, method, progress=progress)


def _known(concept: Concept) -> Sequence[Fact] | None:
    """The facts that the model knows; None if there are none: `causal` then asks for words, or raises the error."""
    return viewer_model.known_facts(concept) or None


def _strongest(result: Saliency, count: int) -> list[tuple[int, int]]:
    return [divmod(int(flat), result.scores_LN.shape[1]) for flat in result.order[:count]]


def _key(concept: Concept, method: str, site: Site) -> tuple:
    return viewer_model.chosen(), dump_jsonl(concept), concept.name, method, site.name


def _ablation_key(concept: Concept, result: Saliency, site: Site, count: int) -> tuple:
    return (*_key(concept, "ablation", site), tuple(_strongest(result, count)))
