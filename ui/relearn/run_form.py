"""The form of a new run: data, training, tracking and checkpoints, and the memory and disk space that the run needs."""

from dataclasses import replace
from pathlib import Path

import streamlit as st

from analysis import concepts, paths
from analysis.concepts import Concept
from analysis.edits import Edit, short_list
from analysis.jobs import queue
from analysis.models import catalog, fetch
from analysis.models.memory import as_gib
from analysis.relearning import RelearnConfig, epoch_steps
from analysis.relearning.resources import ModelSize, disk_bytes, memory_estimate
from analysis.saliency import MOMENT_METHODS, SAMPLE_METHODS
from analysis.training.precision import PRECISIONS, choose_precision
from ui.app import viewer_model
from ui.app.tokens import escaped
from ui.surgery import edit_form

__all__ = ["needs", "run_form"]

_TASKS = {"Recall facts": "facts", "Find the words (NER)": "tagging"}
_PRECISION = "Autocast format of training and snapshots. auto: the faster one on the device, which the run then keeps."
_CADENCES = {
    "adaptive": "As many as a tenth of the training time allows (a twentieth on a GPU), and at least eight.",
    "steps": "At a fixed number of steps.",
    "log": "Two for each doubling of the step: most of them early, when changes are largest.",
}


def run_form(concept: Concept) -> RelearnConfig:
    """Draw the widgets; returns the configuration that they describe.

    Raises:
        ConfigError: a value is out of range.
        ConceptError: the concept has too few labelled words for this task.
    """
    what, change = st.columns([3, 1], vertical_alignment="center")
    with change.popover("Change the edit", icon=":material/content_cut:", width="stretch"):
        edit_form.edit_form(concept)
    left, right = st.columns([2, 2], vertical_alignment="bottom")
    label = left.segmented_control(
        "Task", list(_TASKS), default="Recall facts", required=True, key="task", bind="query-params",
        help="Finding the words: the model is fine-tuned to tag the concept's words before anything is measured, then "
        "edited, then retrained to tag them (Lo, Cohen & Barez 2024).",
    )  # fmt: skip
    task = _TASKS[label]
    tuned = 0
    if task == "tagging":
        tuned = int(
            right.number_input("Epochs of fine-tuning", 1, 1000, 5, key="fine_tune_epochs", bind="query-params")
        )
    a, b, c, d = st.columns(4)
    steps = int(a.number_input("Steps", 1, 100_000, 24, key="steps", bind="query-params"))
    rate = b.number_input("Learning rate", 1e-7, 0.1, 5e-5, 1e-5, format="%.1e", key="rate", bind="query-params")
    batch = int(c.number_input("Texts in a batch", 1, 1024, 16, key="batch", bind="query-params"))
    seed = int(d.number_input("Seed", 0, 2**31 - 1, 0, key="seed", bind="query-params"))
    edit = edit_form.chosen_edit(seed)
    data, training, tracking, keeping = st.columns(4)
    with data.popover("Data", icon=":material/dataset:", width="stretch"):
        mixture = _data(concept, task)
    with training.popover("Training", icon=":material/tune:", width="stretch"):
        how = _training(batch)
    with tracking.popover("Tracking", icon=":material/visibility:", width="stretch"):
        tracked = _tracking(concept)
    with keeping.popover("Checkpoints", icon=":material/save:", width="stretch"):
        checkpoints = _checkpoints(steps)
    control = st.toggle(
        "Control run afterwards", True, key="control", bind="query-params",
        help="The same training, batch for batch, without the edit; drawn as a pale curve behind every curve.",
    )  # fmt: skip
    what.markdown(_sentence(concept, edit, str(how["train_only"])))
    config = RelearnConfig(
        model=viewer_model.chosen().reference,
        concept=concept.name,
        task=task,  # type: ignore[arg-type]
        fine_tune_steps=int(str(how["warmup"])) + 1
        if tuned
        else 0,  # replaced below, once the number of sentences is known
        edit=edit,
        steps=steps,
        batch_size=batch,
        learning_rate=rate,
        seed=seed,
        device=viewer_model.chosen().device,
        control=control,
        **mixture,  # type: ignore[arg-type]
        **how,  # type: ignore[arg-type]
        **tracked,  # type: ignore[arg-type]
        **checkpoints,  # type: ignore[arg-type]
    )
    if not tuned:
        return config
    epoch = epoch_steps(config, concept)
    right.caption(f"An epoch is {epoch} steps: {config.counts['tagged']} labelled sentences in a batch.")
    return replace(config, fine_tune_steps=tuned * epoch)


def needs(config: RelearnConfig) -> None:
    """Draw the memory, disk space and autocast format of the run; if memory is short, a warning with settings that fit."""
    source = catalog.resolve(config.model)
    if not fetch.is_fetched(source):
        return
    size = ModelSize.stored(fetch.locate(source))
    device = queue.device_of(config.device)
    estimate, precision = memory_estimate(config, size, device), choose_precision(config.precision, device)
    parts = ", ".join(f"{name} {as_gib(count)}" for name, count in estimate.parts.items())
    disk = f"At most {as_gib(disk_bytes(config, size))} on the disk."
    trains = f"Trains in {precision.name}" + ("." if config.precision != "auto" else f": {precision.reason}.")
    if estimate.fits:
        st.caption(
            f"Needs about **{as_gib(estimate.needed)}** of memory ({parts}); {as_gib(estimate.free)} are free on "
            f"{estimate.device}. {disk} {trains}"
        )
    else:
        st.warning(f"{escaped(str(estimate))}. {escaped(estimate.advice)}", icon=":material/memory:")


def _sentence(concept: Concept, edit: Edit, train_only: str) -> str:
    confined = f", training only **{escaped(short_list(train_only))}**" if train_only else ""
    model = escaped(viewer_model.chosen().reference)
    return f"Relearn **{escaped(concept.title)}** in **{model}** after: **{escaped(edit.describe())}**{confined}"


def _data(concept: Concept, task: str) -> dict[str, object]:
    rest = {
        "facts": "statements of the facts to retrain on. Held-out facts are never trained on.",
        "tagging": "labelled sentences of the concept. About a third of them are held out and never trained on.",
    }
    st.caption(f"Shares of each batch; the rest is {rest[task]}")
    neutral = st.slider(
        "Neutral sentences", 0.0, 0.9, 0.375, 0.025, key="neutral", bind="query-params",
        help="Without them the model unlearns ordinary language.",
    )  # fmt: skip
    if task == "tagging":
        return {"neutral_share": neutral}
    own = 0.0
    if concept.sentences:
        own = st.slider("The concept's own sentences", 0.0, 0.9, 0.0, 0.025, key="sentences", bind="query-params")
    other = st.slider("Another text", 0.0, 0.9, 0.0, 0.025, key="text_share", bind="query-params")
    text = ""
    if other:
        text = st.text_input(
            "Hub data set, or file on this machine", key="text", bind="query-params", placeholder="owner/name"
        ).strip()
        uploaded = st.file_uploader("… or upload one text a line", ["txt", "jsonl"], key="text_file")
        if uploaded is not None:
            text = str(_stored(uploaded.name, uploaded.getvalue()))
    return {"neutral_share": neutral, "sentence_share": own, "text_share": other, "text": text if other else ""}


def _stored(name: str, content: bytes) -> Path:
    """Store an uploaded text in the home folder; a run copies what it uses of it."""
    folder = paths.home() / "texts"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / Path(name).name
    if not path.is_file() or path.read_bytes() != content:
        paths.write_atomically(path, content)
    return path


def _training(batch: int) -> dict[str, object]:
    train_only = st.text_input(
        "Train only", key="train_only", bind="query-params", placeholder="L5.MLP, L7.H3",
        help="Components whose weights are trained; all others stay as they are. Empty: the whole model.",
    ).strip()  # fmt: skip
    rank = st.number_input(
        "Rank of low-rank factors (LoRA)", 0, 1024, 0, key="lora", bind="query-params",
        help="0 trains the weights themselves. Factors need far less memory; they are merged into the weights.",
    )  # fmt: skip
    a, b = st.columns(2)
    optimiser = a.selectbox("Optimiser", ["adamw", "sgd"], key="optimiser", bind="query-params")
    precision = b.selectbox("Precision", list(PRECISIONS), key="precision", bind="query-params", help=_PRECISION)
    schedule = a.selectbox("Schedule", ["constant", "linear", "cosine"], key="schedule", bind="query-params")
    warmup = b.number_input("Warm-up, steps", 0, 100_000, 0, key="warmup", bind="query-params")
    parts = st.number_input(
        "Parts of a batch", 1, batch, 1, key="accumulate", bind="query-params",
        help="They are computed one after the other to save memory (gradient accumulation); the step is the same.",
    )  # fmt: skip
    return {
        "train_only": train_only,
        "lora_rank": int(rank),
        "optimiser": optimiser,
        "precision": precision,
        "schedule": schedule,
        "warmup": int(warmup),
        "accumulate": int(parts),
    }


def _tracking(concept: Concept) -> dict[str, object]:
    cadence = st.segmented_control(
        "Snapshots", list(_CADENCES), default="adaptive", required=True, key="cadence", bind="query-params"
    )
    st.caption(_CADENCES[cadence])
    every = 3
    if cadence == "steps":
        every = int(st.number_input("Steps between snapshots", 1, 10_000, 3, key="every", bind="query-params"))
    others = [name for name in concepts.available() if name != concept.name]
    track = st.multiselect("Also track", others, key="track", bind="query-params", placeholder="other concepts")
    methods = st.multiselect(
        "Further saliency methods", SAMPLE_METHODS, key="track_methods", bind="query-params", placeholder="none",
        help=f"{' and '.join(MOMENT_METHODS)} are always tracked.",
    )  # fmt: skip
    pinned = st.text_input(
        "Pinned neurons", key="pinned", bind="query-params", placeholder="L5.N123, L7.N9",
        help="Each gets a lane in the view that shows how its words change.",
    ).strip()  # fmt: skip
    top = st.number_input(
        "Also follow the strongest", 0, 256, 16, key="follow_top", bind="query-params",
        help="Neurons that carry the concept most strongly before the edit and are not edited.",
    )  # fmt: skip
    return {
        "cadence": cadence,
        "snapshot_every": every,
        "track": tuple(track),
        "methods": (*MOMENT_METHODS, *methods),
        "pinned": pinned,
        "follow_top": int(top),
    }


def _checkpoints(steps: int) -> dict[str, object]:
    st.caption("A run continues from them after a stop or a crash. The last step always gets one.")
    every = st.number_input(
        "Steps between checkpoints", 0, 100_000, 50, key="checkpoint_every", bind="query-params",
        help="0: only at a stop and at the end.",
    )  # fmt: skip
    keep = st.toggle(
        "Keep all of them", key="keep_checkpoints", bind="query-params",
        help="Needed to branch from any of them with another edit. Otherwise only the newest is kept.",
    )  # fmt: skip
    if keep and every and steps // every > 20:
        st.caption(f":material/warning: {steps // every} checkpoints will be kept.")
    return {"checkpoint_every": int(every), "keep_checkpoints": keep}
