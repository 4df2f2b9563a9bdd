"""Draws one run, live while it is active: its status, the migration canvas, and panels about the step that the canvas shows.

The page only reads the run's folder. While the run is active, a line above the canvas asks for updates (`ui.app.updates`)
and has the fragment rerun for each new snapshot. The canvas is sent only what its browser does not hold yet. The panels
below show the step at which the canvas's playhead rests.
"""

import json

import streamlit as st

from analysis import migration
from analysis.canvas import card_data, control_data, run_cache, run_data
from analysis.canvas.run_cache import View
from analysis.components.neurons import Neuron, NeuronSet
from analysis.errors import PalimpsestError
from analysis.jobs import JobStatus, layout
from analysis.relearning import RunFacts
from analysis.runs import RunDirectory
from analysis.runs.summary import summarise
from ui.app import queue_view, updates
from ui.app.live_line import live_line
from ui.app.tokens import escaped
from ui.app.updates import Update
from ui.canvas import MAX_CONCEPTS, CanvasScene, Source, chosen, migration_canvas
from ui.relearn import step_panels, tagging_view
from ui.saliency import card_drawer
from ui.surgery.edit_form import use_components

__all__ = ["run_view"]

_ICONS = {"finished": ":material/check_circle:", "stopped": ":material/stop_circle:", "failed": ":material/error:"}
_PAUSE_SECONDS, _HOLD_SECONDS = 0.2, 2.0
"""How often the line requests updates: snapshots are shown within a second, the text of a step within two."""
_POLL_SECONDS = 0.5
"""How often the fragment reruns if the server does not answer requests for updates."""


def run_view(run: RunDirectory) -> None:
    """Draw everything about one run, live while it is active."""
    view = _view_controls(run)
    active = updates.run_update(run).progress is not None

    @st.fragment(run_every=_POLL_SECONDS if active and not updates.run_address(run) else None)
    def panel() -> None:
        if not (run.path / layout.CONFIG).is_file():
            st.rerun()  # the run was deleted: the page chooses another
        try:
            _panel(run, view, was_active=active)
        except (PalimpsestError, OSError) as error:  # caught here: a fragment reruns without the page around it
            st.error(escaped(str(error)), icon=":material/error:")

    panel()
    if not active:
        _results(run)


def _view_controls(run: RunDirectory) -> View:
    tracked = run.config.tracked
    several = len(tracked) > 1
    a, b, c, *more = st.columns([3.3, 2.6, 2, 2] if several else [4, 3, 3])
    mode = a.segmented_control(
        "Show", list(run_data.MODES), default="since the edit", required=True, key="mode", bind="query-params"
    )
    scale = b.segmented_control(
        "Scale", list(migration.SCALES), default="standardised", required=True, key="view_scale", bind="query-params"
    )
    order = c.selectbox("Neurons ordered", run_data.ORDERS, key="order", bind="query-params")
    names = list(tracked)
    if several:
        names = more[0].multiselect(
            "Concepts", tracked, default=[tracked[0]], key=f"shown {run.name}", max_selections=MAX_CONCEPTS
        )
    st.caption(f"{run_data.MODES[mode].capitalize()}. {migration.SCALES[scale]}")
    return View(concepts=tuple(names or tracked[:1]), mode=mode, scale=scale, order=str(order))


def _panel(run: RunDirectory, view: View, *, was_active: bool) -> None:
    shown = updates.run_update(run)  # before the rest is read: what comes meanwhile then counts as new
    status, control = run.status(), run.control
    control_status = control.status() if control else None
    # in containers: an element that comes or goes above the canvas would make the browser mount the canvas anew
    line, map_place = st.container(), st.container()
    with line:
        _status_line(run, shown, status, control_status)
    active = shown.progress is not None
    if was_active and not active:
        st.rerun()  # the run has ended: draw the page once more, without updates
    facts, count = run_cache.facts(run), run.n_snapshots()
    if facts is None or not count:
        if active:
            st.info("The map appears with the first snapshot.", icon=":material/hourglass_top:")
        return
    scene = run_data.scene(run, view, facts, count)
    key = f"canvas {run.name}"
    choice = chosen(key, scene)
    index = min(choice.index, count - 1) if choice.index is not None else count - 1
    card = None
    if choice.neuron is not None:
        card = card_data.neuron_card(run, view, facts, Neuron(*choice.neuron), index)
    with map_place:
        result = migration_canvas(
            scene,
            _source(run, view, facts, count),
            n_frames=count,
            control=control_data.curves(run, view),
            live=active,
            status="control run" if active and not status.active else status.state,
            half_steps=run_data.half_steps(run_data.frames(run, view, facts, 0, count)),
            card=card,
            key=key,
        )
    _execute(getattr(result, "action", None), scene)
    if run.config.task == "tagging":
        tagging_view.f1_over_steps(run, facts, count)
    if count > 2 and not active:  # while snapshots arrive, the canvas alone shows what changes
        step_panels.draw(run, view, facts, index)


def _source(run: RunDirectory, view: View, facts: RunFacts, count: int) -> Source:
    """Functions that give the canvas what the browser lacks."""
    reference = run_data.reference_index(run, view, count)
    return Source(
        frames=lambda start: run_data.frames(run, view, facts, start, count),
        values=lambda index: run_data.values(run, view, index, count),
        net=lambda start, control_start: control_data.net_flows(run, view, reference, start, count, control_start),
    )


def _execute(action: dict | None, scene: CanvasScene) -> None:
    """Do what a button of the neuron's card asks for."""
    if not action:
        return
    neuron = next(iter(NeuronSet.parse(str(action.get("neuron", "")), (scene.n_layers, scene.n_neurons))))
    if action.get("do") == "surgery":
        use_components(str(neuron))
        st.switch_page("surgery.py")
    card_drawer.open_card(str(neuron))
    st.rerun()


def _status_line(run: RunDirectory, shown: Update, status: JobStatus, control: JobStatus | None) -> None:
    text, button = st.columns([5, 1], vertical_alignment="center")
    running = shown.progress is not None
    if running and (address := updates.run_address(run)):
        with text:
            live_line(shown, address, every=_PAUSE_SECONDS, hold=_HOLD_SECONDS, key=f"line {run.name}")
    elif running:
        text.progress(shown.progress or 0.0, text=escaped(shown.text))
    elif status.state in ("crashed", "failed"):
        text.error(f"{status.state.capitalize()}: {escaped(status.message)}", icon=":material/error:")
    else:
        done = f" after {status.step} steps, {status.seconds:.0f} s" if status.snapshots else ""
        text.markdown(f"{_ICONS.get(status.state, '')} {escaped(status.message)}{done}")
    if control is not None and control.state in ("crashed", "failed"):
        st.warning(f"The control run {control.state}: {escaped(control.message)}")
    elif control is not None and control.state == "stopped":
        st.caption(f"The control run was stopped after {control.step} steps.")
    elif control is None and status.state == "finished" and run.has_control() and not running:
        st.warning(
            f"The control run has not started. “Go on” starts it; {escaped(str(run.path / 'worker.log'))} may say why."
        )
    if running and not queue_view.is_listed(run):  # otherwise the list above has its button: one job, one button
        queue_view.stop_button(button, run, "The run stops after its current step.")


def _results(run: RunDirectory) -> None:
    """Draw the numbers and downloads of a run that has ended."""
    if run.facts() is None or not run.n_snapshots():
        return
    summary = summarise(run)
    st.subheader("Numbers")
    _summary(summary)
    left, right = st.columns(2)
    left.download_button("Numbers as JSON", json.dumps(summary, indent=2), file_name=f"{run.name}.json")
    right.download_button(
        "Configuration as JSON", json.dumps(run.record, indent=2), file_name=f"{run.name}-config.json"
    )


def _summary(summary: dict) -> None:
    known, tagging = summary["known_facts"], summary["tagging"]
    half = summary["half_life_steps"]
    if known:
        on = (
            f"{known['retrained']} facts retrained on, {known['held_out']} held out, {known['set_aside']} set aside because "
            f"the unedited model does not know them (P below {known['threshold']:g})."
        )
    else:
        on = (
            f"Fine-tuned for {tagging['fine_tune_steps']} steps before the edit; P is the probability of a word's tags."
        )
    regained = ""
    if summary["edited"]:
        regained = (
            f"Half of the loss was {f'regained after {half:g} steps' if half is not None else 'never regained'}. "
        )
    st.caption(f"{on} {regained}Seed {summary['seed']}.")
    rows = []
    for name, outcome in (("this run", summary), ("control", summary["control"])):
        for moment in ("base", "edited", "final"):
            if outcome and outcome[moment]:
                rows.append(
                    {
                        "run": name,
                        "snapshot": moment,
                        "P retrained": outcome[moment]["retrained"],
                        "P held out": outcome[moment]["held_out"],
                        "neutral loss (nats per token)": outcome[moment]["neutral_loss"],
                        "centre of mass, raw (layer)": outcome["center_of_mass"][moment],
                        "centre of mass, d' (layer)": outcome["center_of_mass_standardised"][moment],
                    }
                )
    st.dataframe(rows, hide_index=True)
    if tagging:
        stages = {"this run": tagging["stages"], "control": (summary["control"] or {}).get("stages", [])}
        st.dataframe([{"run": name, **row} for name, found in stages.items() for row in found], hide_index=True)
