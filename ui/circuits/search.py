"""Searches for a circuit in the background: settings as widgets, the progress, and a cache of results.

Results are cached by model, concept and settings while the server runs, and shown whenever these are chosen. A session
also keeps the circuits that it has shown, with their last cut.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import localization
from analysis.components.circuit import Circuit, Kind
from analysis.concepts import Concept, dump_jsonl
from analysis.errors import ConfigError
from analysis.localization import CONTROLS, Localization
from analysis.localization.probing import MAX_PROMPTS
from analysis.progress import ShareDone
from analysis.scoring.contrast_pairs import CORRUPTIONS, METRICS
from ui.app import background, links, viewer_model
from ui.app.tokens import escaped

__all__ = [
    "KINDS",
    "MATCHED",
    "PROBE",
    "Settings",
    "TimedResult",
    "cached_result",
    "find",
    "keep_in_session",
    "session_circuits",
    "session_pills",
    "settings_form",
]

KINDS: dict[str, tuple[Kind, ...]] = {
    "heads and MLPs": ("head", "mlp"),
    "MLPs": ("mlp",),
    "heads": ("head",),
    "neurons": ("neuron",),
}
"""Option of a widget -> the kinds of components that the library measures."""
PROBE = "fact_lookup_probe"
MATCHED = ("random_components", "random_mlps")
"""Random controls that have as many parameters as a given circuit."""

_DEFAULT_METHOD = "attribution_patching"
_EXACT = ("activation_patching", "causal_tracing")
_MAX_RESULTS = 48
_USUAL = "usual"
_SESSION_KEY = "circuits_seen"


@dataclass(frozen=True)
class Settings:
    """The settings of a search; None stands for the method's default."""

    method: str
    metric: str | None = None
    corruption: str | None = None
    prompts: int | None = None
    kinds: str | None = None
    """One of `KINDS`; only for methods in which measuring fewer kinds saves time."""
    like: str = ""
    """The circuit whose number of parameters a random control takes."""
    seed: int = 0

    def label(self) -> str:
        """The method, and the settings that differ from its defaults."""
        prompts = None if self.prompts is None else f"n = {self.prompts}"
        like = f"like {self.like[:20]}…" if len(self.like) > 21 else f"like {self.like}" if self.like else None
        seed = f"seed {self.seed}" if self.seed else None
        parts = [self.method, self.metric, self.corruption, prompts, self.kinds, like, seed]
        return " · ".join(part for part in parts if part)


class TimedResult(NamedTuple):
    """A result, and how many seconds it took."""

    result: Localization
    seconds: float


@dataclass
class _Store:
    """Results of all sessions; the oldest are dropped first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    results: OrderedDict[tuple, TimedResult] = field(default_factory=OrderedDict)

    def put(self, key: tuple, result: TimedResult) -> None:
        with self.lock:
            self.results[key] = result
            while len(self.results) > _MAX_RESULTS:
                self.results.popitem(last=False)


@st.cache_resource(show_spinner=False)
def _store() -> _Store:
    return _Store()


def settings_form(concept: Concept) -> Settings:
    """Draw the widgets of a search, all bound to the URL; returns what they are set to."""
    methods = list(localization.METHODS)
    links.check("find_by", methods)
    every = "\n".join(f"- `{name}`: {what}" for name, what in localization.METHODS.items())
    usual = methods.index(_DEFAULT_METHOD)
    method = str(st.selectbox("Method", methods, usual, key="find_by", bind="query-params", help=every))
    st.caption(_sentence(localization.METHODS[method]))
    if method in CONTROLS:
        like = ""
        if method in MATCHED:
            _suggest_like(concept)
            like = st.text_input("As many parameters as", key="like", bind="query-params", placeholder="L5.MLP, L7.H3")
        return Settings(method, like=like.strip(), seed=_seed(st.container()) if method in MATCHED else 0)
    metric = corruption = kinds = None
    if method != PROBE:
        usual = localization.DEFAULT_METRIC.get(method, "log_p")
        metric = _choice("Metric", METRICS, usual, "metric")
        usual = localization.DEFAULT_CORRUPTION.get(method, "swap")
        corruption = None if method == "causal_tracing" else _choice("Corruption", CORRUPTIONS, usual, "corruption")
    if method in _EXACT:
        names = [name for name in KINDS if name != "neurons"]
        kinds = st.selectbox(
            "Measure", names, key="measure", bind="query-params",
            help="One pass for each component and batch: MLPs alone take about a tenth of the time.",
        )  # fmt: skip
    left, right = st.columns(2)
    key, most = ("probe_prompts", MAX_PROMPTS) if method == PROBE else ("prompts", localization.MAX_PAIRS)
    prompts = left.number_input(
        "Prompts", 1, 4096, most, key=key, bind="query-params",
        help="Most prompts to use, drawn as evenly as possible from the known facts. Fewer are faster and noisier.",
    )  # fmt: skip
    return Settings(
        method=method,
        metric=metric,
        corruption=corruption,
        prompts=None if prompts == most else int(prompts),
        kinds=None if kinds == "heads and MLPs" else kinds,
        seed=_seed(right),
    )


def find(concept: Concept, settings: Settings) -> TimedResult | None:
    """Draw the button or the progress of a search; returns the result of these settings, or None before there is one.

    Raises:
        PalimpsestError: the model cannot be loaded, or a random control has no circuit to take its size from.
    """
    result = cached_result(concept, settings)
    if settings.method in CONTROLS:
        return result or _random_control(concept, settings)
    computation = background.find(_key(concept, settings))
    running = computation is not None and computation.error is None and result is None
    pressed = st.button(
        "Find the circuit", type="primary", width="stretch", icon=":material/search:", disabled=running or bool(result)
    )
    if pressed:
        _start(concept, settings)
        st.rerun()
    if result is not None:
        st.caption(f"Found in {_duration(result.seconds)}; kept while the server runs.")
    elif running and computation is not None:
        _show_progress(computation)
    elif computation is not None:
        st.error(escaped(str(computation.error)), icon=":material/error:")
    else:
        st.caption("Exact methods take minutes without a GPU. The search runs in the background.")
    return result


def cached_result(concept: Concept, settings: Settings) -> TimedResult | None:
    """The result of a search with these settings in any session; None if there is none."""
    return _store().results.get(_key(concept, settings))


def session_circuits(concept: Concept) -> dict[str, tuple[Settings, Circuit]]:
    """Label of the settings -> settings and circuit, of all circuits that this session has shown for this model and concept."""
    shown = _session_results(concept)
    return {settings.label(): (settings, circuit) for settings, circuit in shown.items()}


def keep_in_session(concept: Concept, settings: Settings, circuit: Circuit) -> None:
    """Keep a circuit for comparison; it replaces an earlier cut of the same result."""
    _session_results(concept)[settings] = circuit


def session_pills(concept: Concept, settings: Settings) -> None:
    """Draw the circuits of this session; a click on one restores its settings."""
    names = {name: kept for name, (kept, _) in session_circuits(concept).items()}
    if not names:
        return
    # the settings decide which circuit is marked, however they were chosen
    st.session_state["found_before"] = next((name for name, kept in names.items() if kept == settings), None)

    def restore() -> None:
        if kept := names.get(st.session_state["found_before"]):
            st.session_state["find_by"] = kept.method
            st.session_state["metric"] = kept.metric or _USUAL
            st.session_state["corruption"] = kept.corruption or _USUAL
            st.session_state["measure"] = kept.kinds or next(iter(KINDS))
            if kept.method == PROBE:
                st.session_state["probe_prompts"] = kept.prompts or MAX_PROMPTS
            else:
                st.session_state["prompts"] = kept.prompts or localization.MAX_PAIRS
            st.session_state["like"], st.session_state["seed"] = kept.like, kept.seed

    st.pills("Found so far", list(names), key="found_before", on_change=restore)


def _start(concept: Concept, settings: Settings) -> None:
    """Start a search in the background."""
    model, key = viewer_model.model(), _key(concept, settings)
    options: dict = {
        "facts": viewer_model.known_facts(concept) or None,  # None lets the library raise the error
        "metric": settings.metric,
        "corruption": settings.corruption,
        "max_prompts": settings.prompts,
        "kinds": None if settings.kinds is None else KINDS[settings.kinds],
        "seed": settings.seed,
    }

    def work(progress: ShareDone) -> TimedResult:
        started, shown = time.monotonic(), lambda stage, share: progress(share)
        result = localization.localize(model, concept, settings.method, progress=shown, **options)
        return TimedResult(result, time.monotonic() - started)

    background.start(key, settings.label(), work, then=partial(_store().put, key))


def _random_control(concept: Concept, settings: Settings) -> TimedResult:
    if settings.method in MATCHED and not settings.like:
        raise ConfigError("A random control takes its size from a circuit. Find one first, or name components.")
    model = viewer_model.model()
    match = Circuit.parse(settings.like, model.component_shape) if settings.like else None
    drawn = TimedResult(localization.localize(model, concept, settings.method, match=match, seed=settings.seed), 0.0)
    _store().put(_key(concept, settings), drawn)
    return drawn


def _show_progress(computation: background.Computation) -> None:
    """Draw the search's progress, updated every second, and a button that stops it; redraw the page when it ends."""

    @st.fragment(run_every=1.0)
    def bar() -> None:
        if computation.done:
            st.rerun()
        passed, left = time.monotonic() - computation.started, computation.seconds_left
        said = (
            f"{_duration(passed)} so far" if left is None else f"{computation.share:.0%}, about {_duration(left)} left"
        )
        st.progress(computation.share, text=f"Searching: {said}")
        st.button("Stop", on_click=computation.stop, width="stretch", key=f"stop {id(computation)}")

    bar()


def _key(concept: Concept, settings: Settings) -> tuple:
    return viewer_model.chosen(), dump_jsonl(concept), settings


def _session_results(concept: Concept) -> dict[Settings, Circuit]:
    return st.session_state.setdefault(_SESSION_KEY, {}).setdefault((viewer_model.chosen(), dump_jsonl(concept)), {})


def _choice(label: str, options: dict[str, str], usual: str, key: str) -> str | None:
    """Draw a choice with its meaning below; returns None if it is left to the method."""
    links.check(key, [_USUAL, *options])
    chosen = st.selectbox(label, [_USUAL, *options], key=key, bind="query-params")
    if chosen in (_USUAL, usual):
        st.caption(f"`{usual}`, the method's default: {options[usual]}.")
        return None
    st.caption(_sentence(options[str(chosen)]))
    return str(chosen)


def _seed(place: DeltaGenerator) -> int:
    return int(place.number_input("Seed", 0, 2**31 - 1, 0, key="seed", bind="query-params"))


def _suggest_like(concept: Concept) -> None:
    """Fill in the circuit that was found last, if none is named."""
    measured = [circuit for settings, circuit in _session_results(concept).items() if settings.method not in CONTROLS]
    if measured and not st.session_state.get("like") and "like" not in st.query_params:  # code has to write the URL too
        st.session_state["like"] = st.query_params["like"] = measured[-1].format()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes >= 10 else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."
