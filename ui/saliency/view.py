"""Draws the Saliency page: settings, the progress of slow methods, the map of all units, the table of the strongest units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from analysis import figures
from analysis.components.sites import RESIDUAL, SITES, Site, site_named
from analysis.concepts import Concept
from analysis.saliency import METHODS, RANKING_METHODS, Saliency
from analysis.saliency.carriers import lowest_ranks
from analysis.saliency.tables import FORMATS, saliency_table, table_bytes
from ui.app import background, links, saliency_results, shell, viewer_model
from ui.app.tokens import escaped
from ui.saliency import card_drawer, selection

__all__ = ["N_ABLATED", "Settings", "map_tab", "scores", "settings_form", "show_progress", "strongest_tab", "summary"]

N_ABLATED = 20
"""How many of the strongest units are ablated on request."""
_ROWS = 200
_SCALES = ("score", "rank")
_FDR = 0.05
_N_PILLS = 10


@dataclass(frozen=True)
class Settings:
    """What the widgets at the top of the page are set to."""

    method: str
    site: Site
    scale: str

    def values(self, result: Saliency) -> np.ndarray:
        """A result's scores on the chosen scale, [L, N]."""
        return lowest_ranks(result.scores_LN) if self.scale == "rank" else result.scores_LN

    @property
    def unit(self) -> str:
        """Unit of `values`."""
        return "rank (1 = most salient)" if self.scale == "rank" else METHODS[self.method].short_unit


def settings_form() -> Settings:
    """Draw the widgets at the top of the page, all bound to the URL; returns what they are set to."""
    # no format_func on widgets bound to the URL: Streamlit would write the formatted text into the URL
    a, b, c, _ = st.columns([4, 4, 3, 1])
    for key, options in (("method", RANKING_METHODS), ("site", SITES), ("scale", _SCALES)):
        links.check(key, options)
    every = "\n".join(f"- `{name}`: {METHODS[name].says}" for name in RANKING_METHODS)
    method = a.selectbox(
        "Method", RANKING_METHODS, key="method", bind="query-params", help=every,
        on_change=selection.forget_threshold,
    )  # fmt: skip
    site = b.selectbox(
        "Where", list(SITES), key="site", bind="query-params", on_change=selection.forget_threshold,
        help="`mlp.hook_post`: MLP neurons. `hook_resid_post`: dimensions of the residual stream. `attn.hook_z`: heads.",
    )  # fmt: skip
    scale = c.segmented_control(
        "Scale", _SCALES, default="score", required=True, key="scale", bind="query-params",
        help="Score: in the method's unit. Rank: 1 = most salient in the model, 0 = least; hides how far apart scores are.",
    )  # fmt: skip
    return Settings(str(method), site_named(str(site)), str(scale))


def scores(concept: Concept, settings: Settings) -> Saliency:
    """The scores for the settings; for a slow method that was not computed yet, draw a button or its progress and end the page."""
    result = saliency_results.saliency(concept, settings.method, settings.site)
    if result is not None:
        return result
    computation = saliency_results.computation(concept, settings.method, settings.site)
    if computation is None or computation.error is not None:
        if computation is not None:
            st.error(escaped(str(computation.error)), icon=":material/error:")
        st.info(
            f"**{settings.method}** takes {METHODS[settings.method].takes} without a GPU. It runs in the background, shows the "
            "remaining time, and can be stopped; the result is kept while the server runs.",
            icon=":material/timer:",
        )
        if not st.button(f"Measure {settings.method}", type="primary", icon=":material/play_arrow:"):
            shell.end_page()
        saliency_results.start(concept, settings.method, settings.site)
        st.rerun()
    show_progress(computation)
    shell.end_page()


def show_progress(computation: background.Computation) -> None:
    """Draw a computation's progress, updated every second, and a button that stops it; redraw the page when it ends."""

    @st.fragment(run_every=1.0)
    def bar() -> None:
        if computation.done:
            st.rerun()
        left = computation.seconds_left
        remaining = "" if left is None else f", about {_duration(left)} left"
        if computation.stopping.is_set():
            remaining = ", stopping …"
        shown, button = st.columns([6, 1], vertical_alignment="bottom")
        shown.progress(computation.share, text=f"Measuring {computation.label}: {computation.share:.0%}{remaining}")
        button.button("Stop", on_click=computation.stop, width="stretch", key=f"stop {id(computation)}")

    bar()


def summary(result: Saliency) -> str:
    """What the method measures, on how many tokens, and how many units pass false-discovery control."""
    site = site_named(result.site)
    if result.n_other_tokens:
        text = f"{result.n_concept_tokens:,} of the concept's tokens against {result.n_other_tokens:,} others."
    else:
        text = f"{result.n_concept_tokens:,} prompts."
    text = f"{METHODS[result.method].says} {text}"
    if result.standard_error_LN is None:
        return text
    q_LN = result.q_values()
    if not np.isfinite(q_LN).any():
        return f"{text} Too few independent sentences for error bars."
    passed = int((q_LN < _FDR).sum())
    return f"{text} **{passed:,} of {result.n_measured:,} {site.plural} pass at q < {_FDR}** (false-discovery rate)."


def map_tab(result: Saliency, settings: Settings) -> None:
    """Draw the map of layers × units, and the selection on it."""
    rule, use = st.columns([5, 4], gap="large")
    with rule:
        selection.widgets(result)
    chosen = selection.choose(result)
    with use:
        st.markdown(chosen.describe(result))
        _surgery_button(chosen, result)
    drawing = st.session_state.get("select") == "drawn"
    st.plotly_chart(
        figures.saliency_map(
            settings.values(result), settings.unit, selected=chosen.units, site=settings.site, drawing=drawing
        ),
        key="saliency_map",
        on_select=_on_map,
        selection_mode=("points", "box", "lasso"),
    )
    st.caption(_map_caption(chosen, drawing))
    card_drawer.card_pills(
        chosen.strongest[:_N_PILLS], "selected", label="Strongest: click for the card", at_once=False
    )


def _map_caption(chosen: selection.Chosen, drawing: bool) -> str:
    scale = "The colour scale ends at the 99th percentile."
    if drawing:
        return f"Orange outline: selected. Dragging selects; the lasso is in the map's toolbar. {scale}"
    marked = "Orange: selected."
    if len(chosen.units) > figures.MOST_MARKED:
        marked = f"Orange: the strongest {figures.MOST_MARKED:,} of the selected."
    return f"{marked} Click one for its card; dragging zooms, a double click zooms out. {scale}"


def strongest_tab(concept: Concept, result: Saliency, settings: Settings) -> None:
    """Draw the table of the strongest units, their exact effects on request, and downloads of all units."""
    effects = saliency_results.ablation(concept, result, settings.site, N_ABLATED)
    table, metadata = saliency_table(result, effects)
    shown = table.head(_ROWS)
    score = "signed" if "signed" in shown else "score"
    columns = [name for name in ("place", "name", score, "low", "high", "q") if name in shown]
    if effects is not None:
        columns += ["ablation_effect", "ablation_error"]
    st.dataframe(
        shown[columns],
        hide_index=True,
        height=430,
        on_select=_on_table,
        selection_mode=("multi-row", "single-cell"),
        key="strongest",
        column_config=_column_config(metadata["columns"], settings),
    )
    st.session_state["strongest names"] = shown["name"].tolist()
    st.caption(
        f"The {len(shown)} strongest. Click a name for its card; tick rows to use them in Surgery. "
        + ("" if "low" in shown else "The cards have bootstrap intervals.")
    )
    rows = _ticked(len(shown))
    use, ablate, *save = st.columns([2, 2, 1, 1, 1])
    if use.button(
        f"Use the {len(rows)} ticked in Surgery" if rows else "Use the ticked in Surgery",
        disabled=not rows or result.site == RESIDUAL.name,
        width="stretch",
    ):
        selection.names_to_surgery(shown["name"].iloc[rows].tolist())
    for place, form in zip(save, FORMATS):
        place.download_button(
            form.upper(),
            lambda form=form: table_bytes(table, form, metadata),
            file_name=f"{viewer_model.model().name.replace('/', '-')}-{concept.name}-{settings.method}-{settings.site.letter}.{form}",
            mime=FORMATS[form],
            width="stretch",
            icon=":material/download:",
            help="All units, with labels, units, settings and provenance.",
        )
    computation = saliency_results.ablation_computation(concept, result, settings.site, N_ABLATED)
    running = computation is not None and computation.error is None
    pressed = ablate.button(
        f"Ablate the top {N_ABLATED} exactly", disabled=running or effects is not None, width="stretch",
        help="Sets each to zero, one at a time, and measures the drop of log P(answer).",
    )  # fmt: skip
    if computation is not None and computation.error is not None:
        st.error(escaped(str(computation.error)), icon=":material/error:")
    if pressed:
        saliency_results.start_ablation(concept, result, settings.site, N_ABLATED)
        st.rerun()
    if computation is not None and running:
        show_progress(computation)


def _surgery_button(chosen: selection.Chosen, result: Saliency) -> None:
    if result.site == RESIDUAL.name:
        st.caption("Surgery edits neurons, heads and MLP layers, not residual dimensions.")
        return
    if st.button("Use in Surgery", type="primary", width="stretch", disabled=not len(chosen.units)):
        selection.to_surgery(chosen, result)


def _on_map() -> None:
    """Callback of the map: a click on one mark opens its card; an outline becomes the selection."""
    event = st.session_state["saliency_map"]["selection"]
    if event["box"] or event["lasso"]:
        selection.take_outline(event)
    elif name := _name_of(event["points"]):
        card_drawer.open_card(name)


def _on_table() -> None:
    """Callback of the table: a click on a cell opens the card of its row; ticking a row later must not open it again."""
    cells = list(st.session_state["strongest"]["selection"].get("cells", []))
    names: list[str] = st.session_state.get("strongest names", [])
    if cells and cells != st.session_state.get("strongest cells") and cells[0][0] < len(names):
        card_drawer.open_card(names[cells[0][0]])
    st.session_state["strongest cells"] = cells


def _name_of(points: Sequence[Mapping]) -> str:
    """The name of the first mark; empty if the click hit nothing with a name."""
    data = points[0].get("customdata") if points else None
    return str((data[0] if isinstance(data, (list, tuple)) else data) or "")


def _ticked(n_rows: int) -> list[int]:
    state = st.session_state.get("strongest") or {"selection": {}}
    return [row for row in state["selection"].get("rows", []) if row < n_rows]


def _column_config(about: Mapping[str, str], settings: Settings) -> dict:
    number = st.column_config.NumberColumn
    formats = {"score": "%.4g", "signed": "%.4g", "low": "%.4g", "high": "%.4g", "q": "%.2g"}
    formats |= {"ablation_effect": "%.4f", "ablation_error": "%.4f"}
    titles = {
        "signed": "score with its sign",
        "low": "95% from",
        "high": "95% to",
        "ablation_effect": "ablation, nats",
        "ablation_error": "± s.e.",
    }
    config: dict = {
        name: number(titles.get(name, name), format=form, help=about.get(name)) for name, form in formats.items()
    }
    return config | {"name": st.column_config.TextColumn(settings.site.unit)}


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
