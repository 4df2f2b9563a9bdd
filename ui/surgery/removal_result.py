"""Draws the result of a removal: main numbers, continuations of prompts, all measures, changes of predictions."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.evaluation import SUMMARY, Evaluation, Generation
from analysis.figures.removal import kl_histogram, layer_curves
from analysis.removals.removal import Outcome
from ui.app.token_strip import continuation
from ui.app.tokens import escaped

__all__ = ["show"]

_HEADLINES = {
    "forget": ("P(answer), to forget", "inverse"),
    "paraphrase": ("P(answer), reworded", "inverse"),
    "labelled_words": ("P(word), to forget", "inverse"),
    "injected": ("P(new answer)", "normal"),
    "neighbours": ("P(answer), to keep", "normal"),
    "neutral_perplexity": ("Perplexity", "inverse"),
}
"""Measure -> its title, and whether a higher value is good (normal) or bad (inverse)."""

_ABOUT = {"forgotten": "to forget", "kept": "to keep", "ordinary": "ordinary text"}


def show(name: str, outcome: Outcome) -> None:
    """Draw everything about the outcome of the removal `name`."""
    before, after = outcome.before, outcome.after
    if after.warning:
        st.warning(escaped(after.warning), icon=":material/warning:")
    _headline(outcome)
    if after.generations:
        st.markdown(
            "**Greedy continuations** (the most probable token each time); a stronger colour means a higher probability"
        )
        _generations(before.generations, after.generations)
    _measures(before, after)
    st.caption(
        f"Values with 95% intervals. {outcome.edited_parameters:,} weights changed in {outcome.seconds:.1f} s, without the "
        "evaluation."
    )
    _figures(name, before, after)
    _details(before, after)


def _headline(outcome: Outcome) -> None:
    before, after = outcome.before, outcome.after
    absent = {"labelled_words"} if outcome.forgetting == "forget" else {"forget", "paraphrase"}
    if after.get("injected") is None:
        absent.add("injected")
    shown = {name: about for name, about in _HEADLINES.items() if name not in absent}
    columns = st.columns(len(shown) + 1)
    for column, (measure, (title, good)) in zip(columns, shown.items()):
        old, new = before.value(measure), after.value(measure)
        if old is None or new is None:
            column.metric(title, "–")
            continue
        places = 1 if measure == "neutral_perplexity" else 3
        column.metric(title, f"{new:.{places}f}", f"{new - old:+.{places}f}", delta_color=good)  # type: ignore[arg-type]
    kl = after.value("kl_median")
    columns[-1].metric(
        "KL, median, nats", "–" if kl is None else f"{kl:.2g}", help="Per token of general text; 0: unchanged."
    )


def _generations(before: Sequence[Generation], after: Sequence[Generation]) -> None:
    old = {one.prompt: one for one in before}
    left, right = st.columns(2)
    left.caption("before")
    right.caption("after")
    for one in after:
        left, right = st.columns(2)
        about = _ABOUT.get(one.about, one.about)
        for column, generation in ((left, old.get(one.prompt)), (right, one)):
            with column:
                if generation is None:
                    st.caption("–")
                else:
                    st.html(continuation(generation.prompt, generation.tokens, about))


def _measures(before: Evaluation, after: Evaluation) -> None:
    names = list(dict.fromkeys(measure.name for state in (after, before) for measure in state.measures))
    names.sort(key=lambda name: SUMMARY.index(name) if name in SUMMARY else len(SUMMARY))
    rows = []
    for name in names:
        old, new = before.get(name), after.get(name)
        about = new or old
        assert about is not None
        interval = [f"{m.value:.3g} [{m.low:.3g}, {m.high:.3g}]" if m else "–" for m in (old, new)]
        rows.append(
            {
                "measure": name.replace("_", " "),
                "before": interval[0],
                "after (collapsed)" if after.collapsed else "after": interval[1],
                "n": _counted(about.n, about.counts),
                "unit": about.unit,
                "note": about.note,
            }
        )
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={"n": st.column_config.TextColumn(width="small")})


def _figures(name: str, before: Evaluation, after: Evaluation) -> None:
    histogram, curves = after.histogram, after.curves
    if histogram is None and not curves:
        return
    columns = iter(st.columns(1 + bool(histogram and curves)))
    if histogram is not None:
        column = next(columns)
        marks = {mark: after.value(f"kl_{mark}") for mark in ("median", "mean", "p95")}
        shown = {mark: value for mark, value in marks.items() if value is not None}
        column.markdown("**How far predictions on general text changed**")
        column.plotly_chart(kl_histogram(histogram, shown), key=f"kl {name}")
        column.caption(f"{escaped(str(after.provenance.get('text', '')))}.")
    if curves:
        column = next(columns)
        column.markdown("**Can a probe still read the answer?**")
        column.plotly_chart(layer_curves(before.curves, after.curves), key=f"curves {name}")
        column.caption(
            f"Linear probes of {curves[0].counts}, n = {curves[0].n}, with 95% bands; dotted: before. A high curve after the "
            "edit means that the answer is hidden, not removed."
        )


def _details(before: Evaluation, after: Evaluation) -> None:
    left, right = st.columns(2)
    if after.facts:
        with left.expander(f"P(answer) of each fact ({len(after.facts)})"):
            old_p = {(subject, answer): p for subject, answer, p in before.facts}
            facts = pd.DataFrame(after.facts, columns=["subject", "answer", "P after"])
            facts.insert(2, "P before", [old_p.get((subject, answer)) for subject, answer, _ in after.facts])
            st.dataframe(facts.style.format(precision=3), hide_index=True)
    if after.skipped:
        with right.expander(f"Not measured ({len(after.skipped)})"):
            for name, reason in after.skipped.items():
                st.markdown(f"**{name.replace('_', ' ')}**: {escaped(reason)}")


def _counted(n: int, counts: str) -> str:
    """A number with its noun, such as `1 fact` or `48 facts`."""
    return f"{n:,} {counts.removesuffix('s') if n == 1 else counts}"
