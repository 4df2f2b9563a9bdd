"""Loads the model that all sessions of the dashboard share, and gives a session a copy of its own for edits of weights.

The shared model is never changed; previews of edits are hooks under its lock. A session that applies edits to weights gets
a copy (`workbench`), which is dropped with the session or on request. When a job needs the memory, the shared model is
dropped and loaded again, on the CPU, when a page next needs it. The copies stay, because they hold users' edits.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from analysis.components.sites import MLP, Site, site_named
from analysis.concepts import Concept, Fact, dump_jsonl, parse
from analysis.errors import PalimpsestError, UnknownModelError
from analysis.models import catalog, fetch, memory
from ui.app import background, links
from ui.app.model_holder import Choice, ModelHolder, Notice

if TYPE_CHECKING:  # importing torch and TransformerLens takes seconds: only when a model is loaded
    from analysis.edits import Ledger
    from analysis.models import LanguageModel
    from analysis.saliency import Scan
    from analysis.saliency.moments import Moments

__all__ = [
    "Choice",
    "Workbench",
    "choose",
    "chosen",
    "close_workbench",
    "describe_state",
    "devices",
    "fact_scores",
    "has_workbench",
    "is_loaded",
    "is_unloaded",
    "known_facts",
    "model",
    "moments",
    "notice",
    "owner",
    "replace",
    "reserve_place",
    "scan",
    "unload",
    "workbench",
    "write_url",
]

_CHOICE, _WORKBENCH, _UNLOADED, _DOWNLOAD = "model_choice", "workbench", "unloaded", "may_download"
_PLACE = "loading_place"
"""Keys of the session's state."""
_IN_URL = {"model": "reference", "device": "device", "dtype": "dtype"}
"""URL parameter -> field of the choice."""


@dataclass
class Workbench:
    """A session's own copy of the model, with the ledger of edits to its weights."""

    choice: Choice
    ledger: Ledger


@st.cache_resource(show_spinner=False)
def _holder() -> ModelHolder:
    return ModelHolder(_drop_references)


def _drop_references() -> None:
    """End everything else that refers to the model or to tensors on its device."""
    background.stop_all()
    _scan.clear()


def chosen() -> Choice:
    """The session's choice: made on the page, else given by the URL (`?model=&device=&dtype=`), else the defaults."""
    if _CHOICE not in st.session_state:
        given = {field: st.query_params[key] for key, field in _IN_URL.items() if st.query_params.get(key)}
        if "device" in given and not links.check("device", devices()):
            del given["device"]
        if "dtype" in given and not links.check("dtype", memory.DTYPE_BYTES):
            del given["dtype"]
        st.session_state[_CHOICE] = Choice(**given)
    return st.session_state[_CHOICE]


def write_url() -> None:
    """Write the session's choice to the URL, which loses it when another page is opened; defaults are left out.

    So a page that is loaded again, or opened by somebody else, computes with the same model.
    """
    choice, default = chosen(), Choice()
    for key, field in _IN_URL.items():
        value = getattr(choice, field)
        if value != getattr(default, field):
            if st.query_params.get(key) != value:
                st.query_params[key] = value
        elif key in st.query_params:
            del st.query_params[key]


def choose(choice: Choice) -> None:
    """Change the session's choice; the model is loaded when it is next used."""
    if choice != chosen():
        close_workbench()
    st.session_state[_CHOICE] = choice
    write_url()


def replace(choice: Choice) -> None:
    """Load another model; if that fails, the choice stays what it was.

    Raises:
        PalimpsestError: the model cannot be loaded.
    """
    before, holder = chosen(), _holder()
    source = catalog.resolve(choice.reference)  # before anything is dropped: the name may be wrong
    st.session_state[_DOWNLOAD] = source.reference  # the user asked for it; a URL alone never starts a download
    choose(Choice(reference=source.reference, device=choice.device, dtype=choice.dtype))
    with holder.lock:
        if holder.freed_device:  # the user asks for a model: the device that was freed for a job may be used again
            holder.drop()
        holder.freed_device, holder.notice = "", None
    try:
        model()
    except PalimpsestError:
        choose(before)
        raise


def is_loaded() -> bool:
    """Whether the session's choice is loaded."""
    return _holder().model is not None and _holder().choice == chosen()


def is_unloaded() -> bool:
    """Whether the user unloaded the model and no page has loaded one since."""
    return bool(st.session_state.get(_UNLOADED)) and not is_loaded()


def devices() -> list[str]:
    """The devices of this machine that a model can be loaded on."""
    import torch

    return [
        "auto",
        "cpu",
        *(["mps"] if torch.backends.mps.is_available() else []),
        *(["cuda"] * torch.cuda.is_available()),
    ]


def describe_state() -> str:
    """Device and precision of the loaded model, for the sidebar."""
    model, choice = _holder().model, _holder().choice
    if model is None or choice != chosen():
        return "not loaded"
    return f"on {model.device.type}, {model.dtype}"


def notice() -> Notice | None:
    """The notice that the model was removed from a device; None if there is none, or once a user has loaded a model again."""
    return _holder().notice


def owner() -> str:
    """The name of the session's user; empty if the dashboard has no login."""
    return str(st.user.get("name") or st.user.get("email") or "")


def reserve_place() -> None:
    """Reserve an element of the page for the loading progress of `model`, whether or not anything is loaded.

    Without it, all elements below would move up by one in the next run of the page, and Streamlit's frontend would lose the
    connection between those widgets and the URL.
    """
    st.session_state[_PLACE] = st.empty()


def model() -> LanguageModel:
    """The shared model of this session's choice; if it is not loaded yet, load it and show the progress on the page.

    Raises:
        PalimpsestError: it cannot be loaded; the message says why.
    """
    choice, holder = chosen(), _holder()
    st.session_state[_UNLOADED] = False
    loaded = holder.model
    if holder.choice == choice and loaded is not None:
        return loaded
    source = catalog.resolve(choice.reference)
    if not fetch.is_fetched(source) and st.session_state.get(_DOWNLOAD) != choice.reference:
        raise UnknownModelError(
            f"“{choice.reference}” is not on this machine yet. Press “Load” on the Model page to download it."
        )
    place = st.session_state.get(_PLACE) or st.empty()
    with place.status(f"Loading {choice.reference} …"):
        bar = st.progress(0.0)

        def show(stage: str, share: float) -> None:
            bar.progress(min(share, 1.0), text=stage)

        with holder.lock:
            if holder.choice != choice or holder.model is None:
                holder.drop()
                from transformers.utils import logging

                from analysis import models

                logging.disable_progress_bar()
                device = holder.device_for(choice)
                holder.put(choice, models.load(choice.reference, device=device, dtype=choice.dtype, progress=show))
            loaded = holder.model
    place.empty()
    assert loaded is not None  # loaded under the lock
    return loaded


def unload() -> None:
    """Drop the shared model and this session's copy."""
    close_workbench()
    _holder().drop()
    st.session_state[_UNLOADED] = True


def workbench() -> Workbench:
    """This session's copy of the model with its ledger; the copy is made on first use.

    Raises:
        MemoryShortError: too little memory is free for a copy.
    """
    bench = st.session_state.get(_WORKBENCH)
    if bench is None or bench.choice != chosen():
        viewer = model()
        memory.load_estimate(viewer.n_parameters, viewer.dtype, viewer.device.type).check()
        from analysis import models
        from analysis.edits import Ledger

        bench = Workbench(
            chosen(), Ledger(models.load(chosen().reference, device=chosen().device, dtype=chosen().dtype))
        )
        st.session_state[_WORKBENCH] = bench
    return bench


def has_workbench() -> bool:
    """Whether this session has a copy of the model."""
    return _WORKBENCH in st.session_state


def close_workbench() -> None:
    """Drop this session's copy and all edits of its weights."""
    st.session_state.pop(_WORKBENCH, None)
    gc.collect()


def scan(concept: Concept, site: Site = MLP) -> Scan:
    """The activations of the shared model on the concept's sentences; the last two scans are cached.

    Raises:
        PalimpsestError: the model cannot be loaded, or the concept has nothing that can be measured.
    """
    return _scan(chosen(), dump_jsonl(concept), concept.name, site.name, model())


@st.cache_resource(show_spinner="Streaming the concept's sentences through the model …", max_entries=2)
def _scan(choice: Choice, content: str, name: str, site: str, _model: LanguageModel) -> Scan:
    from analysis import saliency

    return saliency.scan(_model, [parse(f"{name}.jsonl", content.encode())], site=site_named(site))


def moments(concept: Concept, site: Site = MLP) -> Moments:
    """The moments of the activations (`scan`); cached while the server runs."""
    return _moments(chosen(), dump_jsonl(concept), concept.name, site.name, model())


@st.cache_data(show_spinner=False, max_entries=24)
def _moments(choice: Choice, content: str, name: str, site: str, _model: LanguageModel) -> Moments:
    return _scan(choice, content, name, site, _model).moments


def fact_scores(concept: Concept) -> pd.DataFrame:
    """How well the shared model knows the concept's facts (`factual_recall.known_facts`); cached while the server runs."""
    return _fact_scores(chosen(), dump_jsonl(concept), concept.name, model())


def known_facts(concept: Concept) -> list[Fact]:
    """The concept's facts that the shared model knows."""
    if not concept.facts:
        return []
    return [fact for fact, is_known in zip(concept.facts, fact_scores(concept)["known"]) if is_known]


@st.cache_data(show_spinner="Scoring the concept's facts …", max_entries=24)
def _fact_scores(choice: Choice, content: str, name: str, _model: LanguageModel) -> pd.DataFrame:
    from analysis.scoring.factual_recall import known_facts

    return known_facts(_model, parse(f"{name}.jsonl", content.encode()))[1]
