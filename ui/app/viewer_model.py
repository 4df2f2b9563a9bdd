"""The viewer's model: one loaded model for the server, never changed, plus a copy of one's own for weight edits.

Sessions share the viewer's model; previews are hooks under its lock. A session that applies edits to weights gets a
copy (`workbench`), which ends with the session or on request. Where a job needs the memory, the viewer's model goes, and
comes back on the CPU at its next need; copies, which hold somebody's edits, stay.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from analysis.components.sites import MLP, Site, site_named
from analysis.concepts import Concept, dump_jsonl, parse
from analysis.errors import PalimpsestError, UnknownModelError
from analysis.models import catalog, fetch, memory
from ui.app import background
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
    "model",
    "moments",
    "notice",
    "owner",
    "replace",
    "reserve_place",
    "scan",
    "unload",
    "workbench",
]

_CHOICE, _WORKBENCH, _UNLOADED, _DOWNLOAD = "model_choice", "workbench", "unloaded", "may_download"
_PLACE = "loading_place"


@dataclass
class Workbench:
    """A session's own copy of the model, and the edits made to its weights."""

    choice: Choice
    ledger: Ledger


@st.cache_resource(show_spinner=False)
def _slot() -> ModelHolder:
    return ModelHolder(_let_go)


def _let_go() -> None:
    """What else holds the model, or tensors on its device."""
    background.stop_all()
    _scan.clear()


def chosen() -> Choice:
    """The session's choice: from the page, else from the URL (`?model=`), else the default model."""
    if _CHOICE not in st.session_state:
        reference = st.query_params.get("model", catalog.DEFAULT_MODEL)
        st.session_state[_CHOICE] = Choice(reference=reference)
    return st.session_state[_CHOICE]


def choose(choice: Choice) -> None:
    """Change the session's choice; takes effect at the next use."""
    if choice != chosen():
        close_workbench()
    st.session_state[_CHOICE] = choice
    if choice.reference == catalog.DEFAULT_MODEL:
        st.query_params.pop("model", None)
    else:
        st.query_params["model"] = choice.reference


def replace(choice: Choice) -> None:
    """Load another model; if that fails, the choice stays what it was.

    Raises:
        PalimpsestError: it cannot be loaded.
    """
    before, slot = chosen(), _slot()
    source = catalog.resolve(choice.reference)  # a wrong name must not cost the model that is loaded
    st.session_state[_DOWNLOAD] = source.reference  # asked for: an address alone never starts a download
    choose(Choice(reference=source.reference, device=choice.device, dtype=choice.dtype))
    with slot.lock:
        if slot.left:  # asked for on purpose: the device that was left is tried again
            slot.clear()
        slot.left, slot.notice = "", None
    try:
        model()
    except PalimpsestError:
        choose(before)
        raise


def is_loaded() -> bool:
    """Whether the session's choice is in memory."""
    return _slot().model is not None and _slot().choice == chosen()


def is_unloaded() -> bool:
    """Whether the user unloaded the model and has not asked for one since."""
    return bool(st.session_state.get(_UNLOADED)) and not is_loaded()


def devices() -> list[str]:
    """What a model can be put on here."""
    import torch

    return [
        "auto",
        "cpu",
        *(["mps"] if torch.backends.mps.is_available() else []),
        *(["cuda"] * torch.cuda.is_available()),
    ]


def describe_state() -> str:
    """A few words for the sidebar."""
    model, choice = _slot().model, _slot().choice
    if model is None or choice != chosen():
        return "not loaded"
    return f"on {model.device.type}, {model.dtype}"


def notice() -> Notice | None:
    """What users have to be told about the viewer's model, until somebody loads one on purpose."""
    return _slot().notice


def owner() -> str:
    """The name of the session's user; empty where nobody has to log in."""
    return str(st.user.get("name") or st.user.get("email") or "")


def reserve_place() -> None:
    """Keep a place on the page for the progress of `model`, taken up whether or not there is anything to load.

    Without it all that follows would move up by one in the next run, and Streamlit's browser part would forget that
    those widgets belong to the URL.
    """
    st.session_state[_PLACE] = st.empty()


def model() -> LanguageModel:
    """The viewer's model for this session's choice, loaded if needed with its progress on the page.

    Raises:
        PalimpsestError: it cannot be loaded; the message says why.
    """
    choice, slot = chosen(), _slot()
    st.session_state[_UNLOADED] = False
    held = slot.model
    if slot.choice == choice and held is not None:
        return held
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

        with slot.lock:
            if slot.choice != choice or slot.model is None:
                slot.clear()
                from transformers.utils import logging

                from analysis import models

                logging.disable_progress_bar()
                device = slot.device_for(choice)
                slot.fill(choice, models.load(choice.reference, device=device, dtype=choice.dtype, progress=show))
            loaded = slot.model
    place.empty()
    assert loaded is not None  # loaded under the lock
    return loaded


def unload() -> None:
    """Free the viewer's model and this session's copy."""
    close_workbench()
    _slot().clear()
    st.session_state[_UNLOADED] = True


def workbench() -> Workbench:
    """This session's copy of the model with its ledger, made on first use.

    Raises:
        MemoryShortError: there is no room for a copy.
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
    return _WORKBENCH in st.session_state


def close_workbench() -> None:
    """Drop this session's copy and with it all edits to its weights."""
    st.session_state.pop(_WORKBENCH, None)
    gc.collect()


def scan(concept: Concept, site: Site = MLP) -> Scan:
    """The pass over the concept's sentences on the viewer's model, with single activations; the last two are kept.

    Raises:
        PalimpsestError: the model cannot be loaded, or the concept has nothing that can be measured.
    """
    return _scan(chosen(), dump_jsonl(concept), concept.name, site.name, model())


@st.cache_resource(show_spinner="Streaming the concept's sentences through the model …", max_entries=2)
def _scan(choice: Choice, content: str, name: str, site: str, _model: LanguageModel) -> Scan:
    from analysis import saliency

    return saliency.scan(_model, [parse(f"{name}.jsonl", content.encode())], site=site_named(site))


def moments(concept: Concept, site: Site = MLP) -> Moments:
    """The moments of the same pass; kept while the server runs."""
    return _moments(chosen(), dump_jsonl(concept), concept.name, site.name, model())


@st.cache_data(show_spinner=False, max_entries=24)
def _moments(choice: Choice, content: str, name: str, site: str, _model: LanguageModel) -> Moments:
    return _scan(choice, content, name, site, _model).moments


def fact_scores(concept: Concept) -> pd.DataFrame:
    """What the viewer's model knows of the concept's facts (`measure.known_facts`); kept while the server runs."""
    return _fact_scores(chosen(), dump_jsonl(concept), concept.name, model())


@st.cache_data(show_spinner="Asking the model the concept's facts …", max_entries=24)
def _fact_scores(choice: Choice, content: str, name: str, _model: LanguageModel) -> pd.DataFrame:
    from analysis.scoring.factual_recall import known_facts

    return known_facts(_model, parse(f"{name}.jsonl", content.encode()))[1]
