"""Draws the comparisons of the Saliency page: layers, agreement of methods, two concepts."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from analysis import concepts, figures
from analysis.components.sites import Site
from analysis.concepts import Concept
from analysis.errors import PalimpsestError
from analysis.saliency import METHODS, MOMENT_METHODS, RANKING_METHODS, Saliency, agreement
from analysis.saliency.carriers import carried_ranks
from ui.app import links, saliency_results, viewer_model
from ui.app.tokens import escaped
from ui.saliency import card_drawer
from ui.saliency.view import Settings

__all__ = ["agreement_tab", "concepts_tab", "layers_tab", "scores_by_concept"]

_QUICK = tuple(method for method in RANKING_METHODS if method not in saliency_results.SLOW_METHODS)


def scores_by_concept(
    concept: Concept, result: Saliency, settings: Settings, others: Sequence[str]
) -> dict[str, Saliency]:
    """Title -> scores of the page's concept and of the others; others are left out if a slow method was not computed for them."""
    series = {concept.title: result}
    for name in others:
        other = concepts.load(name)
        try:
            found = saliency_results.saliency(other, settings.method, settings.site)
        except PalimpsestError as error:  # the other concepts are still shown
            st.caption(f"Without {escaped(other.title)}: {escaped(str(error))}")
            continue
        if found is None:
            st.caption(f"Without {escaped(other.title)}: choose it in the sidebar to measure {settings.method} for it.")
        else:
            series[other.title] = found
    return series


def layers_tab(concept: Concept, result: Saliency, settings: Settings) -> None:
    """Draw how the scores are distributed in each layer, and in which layers the units above a rank are."""
    left, middle, right = st.columns([2, 2, 3], vertical_alignment="bottom")
    kind = left.segmented_control(
        "In each layer", ["mean", "quartiles"], default="mean", required=True, key="spread", bind="query-params"
    )
    threshold = middle.number_input(
        "Threshold of rank saliency s", 0.0, 0.99, 0.5, 0.05, key="above_s", bind="query-params"
    )
    others = [name for name in concepts.available() if name != concept.name]
    links.check("compare", others)
    names = right.multiselect("Compare with", others, key="compare", bind="query-params", placeholder="other concepts")
    series = scores_by_concept(concept, result, settings, names)
    spread, share = st.columns(2, gap="large")
    values = {title: settings.values(one) for title, one in series.items()}
    draw = figures.layer_mean_curve if kind == "mean" else figures.layer_profile
    spread.plotly_chart(draw(values, settings.unit), key="layer_spread")
    spread.caption(
        f"Mean with its 95% interval over the layer's {settings.site.plural}."
        if kind == "mean"
        else "Median with quartiles, and the 99th percentile (dotted)."
    )
    ranks = {title: carried_ranks(one.scores_LN) for title, one in series.items()}
    share.plotly_chart(figures.layer_share_curve(ranks, threshold), key="layer_share")
    share.caption(
        f"Of all {settings.site.plural} with s > {threshold:g}, the share in each layer, with 95% intervals (dotted: all "
        "layers alike). s = |(p − n/100) / (1 − n/100)| with p = ⌊rank/100⌋ + 1 (Lo, Cohen & Barez 2024)."
    )
    _layer_figures(result)


def _layer_figures(result: Saliency) -> None:
    """Draw a method's measures of whole layers."""
    if "held_out_accuracy" in result.layers:
        st.markdown("**What the probe reads**")
        majority = result.provenance.get("majority_accuracy")
        st.plotly_chart(figures.probe_skill(result.layers, majority), key="probe_skill")
        st.caption(
            "A probe shows what can be read from a layer, not what the model uses. The "
            "control task gives every word a random label; selectivity (held out − control) is what remains (Hewitt & "
            "Liang 2019). Dotted: always giving the more frequent label."
        )
    if "completeness_error" in result.layers:
        error = pd.Series(result.layers["completeness_error"])
        st.caption(
            "Integrated gradients should sum to the layer's effect on log P(answer). The sum is off by "
            f"{error.median():.1%} in the median layer, and by {error.max():.1%} in the worst."
        )


def agreement_tab(concept: Concept, settings: Settings) -> None:
    """Draw whether methods rank the same units highest, and whether a method gives the same ranks on half of the sentences."""
    number, more = st.columns([1, 3], vertical_alignment="bottom")
    k = number.number_input("Units in the top", 1, 100_000, 100, key="agree_k", bind="query-params")
    for method in MOMENT_METHODS:  # free once the scan is cached
        if _is_defined(method, settings.site):
            saliency_results.saliency(concept, method, settings.site)
    found = saliency_results.measured(concept, settings.site)
    missing = [m for m in _QUICK if m not in found and _is_defined(m, settings.site) and _has_input(m, concept)]
    if missing and more.button(
        "Measure the other quick methods", icon=":material/play_arrow:", help=", ".join(missing)
    ):
        for method in missing:
            try:
                saliency_results.saliency(concept, method, settings.site)
            except PalimpsestError as error:
                st.caption(f"Without {method}: {escaped(str(error))}")
        found = saliency_results.measured(concept, settings.site)
    matrix, halves = st.columns([3, 2], gap="medium")
    with matrix:
        if len(found) < 2:
            st.info("Agreement needs two methods. Measure another one.", icon=":material/info:")
        else:
            pairs = agreement.agreement(list(found.values()), k=int(k), labels=list(found))
            st.plotly_chart(figures.agreement_matrix(pairs), key="agreement")
            chance = float(pairs.chance.to_numpy().max())
            st.caption(
                f"Below the diagonal: Spearman's rank correlation over all {settings.site.plural}. Above: share of the top "
                f"{int(k):,} in common, where chance is {chance:.2%}. A dash: too few scores above zero."
            )
    with halves:
        st.markdown("**Is it reliable?**")
        table = _reliability(concept, settings.site, int(k))
        st.dataframe(table, column_config=_RELIABILITY)
        st.caption(
            "The same method on the even and on the odd sentences: rank correlation, what it would be for the whole text "
            "(Spearman-Brown), and the share of the top in common, with chance."
        )


_RELIABILITY = {
    "halves": st.column_config.NumberColumn("Spearman", format="%.3f", help="Rank correlation of the halves."),
    "whole": st.column_config.NumberColumn("whole", format="%.3f", help="Expected of all sentences together."),
    "overlap": st.column_config.NumberColumn("top", format="percent"),
    "chance": st.column_config.NumberColumn("chance", format="percent"),
}


def _reliability(concept: Concept, site: Site, k: int) -> pd.DataFrame:
    rows = {}
    for method in MOMENT_METHODS:
        if _is_defined(method, site):
            found = agreement.reliability(*viewer_model.scan(concept, site).halves(concept.name, method), k=k)
            rows[method] = {
                "halves": found.spearman,
                "whole": found.corrected,
                "overlap": found.overlap,
                "chance": found.chance,
            }
    return pd.DataFrame(rows).T


def concepts_tab(concept: Concept, result: Saliency, settings: Settings) -> None:
    """Draw the scores of two concepts against each other, unit by unit."""
    others = [name for name in concepts.available() if name != concept.name]
    if not others:
        st.info("There is only one concept. Upload another on the Model page.", icon=":material/info:")
        return
    choice, axes = st.columns([2, 3])
    links.check("against", others)
    against = choice.selectbox("Against", others, key="against", bind="query-params")
    scale = axes.segmented_control(
        "Axes", ["rank", "score"], default="rank", required=True, key="pair_scale", bind="query-params"
    )
    other = concepts.load(str(against))
    second = saliency_results.saliency(other, settings.method, settings.site)
    if second is None:
        st.info(
            f"{settings.method} was not computed for “{escaped(other.title)}”. Choose that concept in the sidebar to "
            "compute it, or choose a faster method.",
            icon=":material/info:",
        )
        return
    titles = (concept.title, other.title)
    st.plotly_chart(
        figures.concept_pair(result, second, titles=titles, scale=str(scale)),
        key="concept_pair",
        on_select=_on_pair,
        selection_mode=("points",),
    )
    n = result.scores_LN.size
    k = figures.top_count(n)
    both = int(figures.top_units(result, second, k)[2].sum())
    st.caption(
        f"Points: the top {k:,} {settings.site.plural} ({k / n:.0%}) of either; click one for its card. Grey: how many others there "
        f"are. **{both:,} are in the top of both; unrelated rankings would share {k * k / n:.1f}.**"
    )


def _on_pair() -> None:
    """Callback of the chart: a click on a point opens its card."""
    points: list[Mapping] = st.session_state["concept_pair"]["selection"]["points"]
    named = [point for point in points if point.get("customdata") and isinstance(point["customdata"], (list, tuple))]
    if named:
        card_drawer.open_card(str(named[0]["customdata"][0]))


def _is_defined(method: str, site: Site) -> bool:
    return site in METHODS[method].sites


def _has_input(method: str, concept: Concept) -> bool:
    """Whether a method can run on a concept: some need its facts."""
    return bool(concept.facts) or not METHODS[method].needs_facts
