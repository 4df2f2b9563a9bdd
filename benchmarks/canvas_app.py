"""The app that canvas_frames.py and canvas_live.py measure: the migration canvas alone, fed with made-up numbers.

The size comes from the address: ``?layers=30&neurons=1536&concepts=3&frames=40``. With ``&every=0.3`` the run is live: a
snapshot is there every 0.3 seconds, counted from when the first browser came.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ui.canvas import CanvasConcept, CanvasFrame, CanvasScene, Marks, Source, migration_canvas

NAMES = {"layers": 30, "neurons": 1536, "concepts": 1, "frames": 40}
layers, neurons, concepts, n_frames = (int(st.query_params.get(name, default)) for name, default in NAMES.items())
every = float(st.query_params.get("every", 0))
CELLS = layers * neurons


@st.cache_resource(show_spinner=False)
def scene(layers: int, neurons: int, concepts: int, n_frames: int) -> CanvasScene:
    """What stays the same."""
    return CanvasScene(
        epoch=f"benchmark {layers} {neurons} {concepts} {n_frames}",
        n_layers=layers,
        n_neurons=neurons,
        concepts=tuple(CanvasConcept(name=f"c{c}", title=f"Concept {c}", place=c) for c in range(concepts)),
        signed=True,
        unit="made-up units",
        full_scale=1.0,
        order_LN=np.tile(np.arange(neurons, dtype=np.uint16), (layers, 1)),
        pruned=np.random.default_rng(0).choice(CELLS, CELLS // 100, replace=False).astype(np.uint32),
        edit_label="pruned",
        total_steps=n_frames - 2,
        tracked=tuple(f"Concept {c}" for c in range(concepts)),
    )


@st.cache_resource(show_spinner=False)
def began() -> float:
    """When the first browser came."""
    return time.time()


@st.cache_resource(show_spinner=False)
def noise(layers: int, neurons: int, concepts: int) -> np.ndarray:
    """A pattern in which much changes, drawn once: what is measured is the canvas, not numpy."""
    return np.random.default_rng(1).standard_t(2, (concepts, layers, neurons)).astype(np.float32) * 10


def values(index: int) -> np.ndarray:
    """Stronger from snapshot to snapshot, and shifted, so that no two are alike."""
    shifted = np.roll(noise(layers, neurons, concepts), index, axis=2)
    return np.clip(128 + shifted * min(1.0, index / 40), 1, 255).astype(np.uint8)


def marks(index: int, most: int) -> tuple[Marks, ...]:
    """As many as a real run has: a share of a percent of all neurons."""
    generator = np.random.default_rng(7)
    found = generator.choice(CELLS, min(most, CELLS // 300), replace=False)[: 3 * index].astype(np.uint32)
    return tuple(Marks(cells=found, also=np.full(len(found), 255, np.uint8)) for _ in range(concepts))


@st.cache_resource(show_spinner=False)
def frame(index: int, layers: int, concepts: int, n_frames: int) -> CanvasFrame:
    """The light part of a snapshot, made once as the page does."""
    change = [[math.sin(layer / 3 + index / 9) * index for layer in range(layers)] for _ in range(concepts)]
    ribbons = [(layer, layer + 1, 0.001 * (1 + layer % 3)) for layer in range(layers - 1)]
    return CanvasFrame(
        index=index,
        phase=("base", "edited")[index] if index < 2 else "training",
        step=max(index - 1, 0),
        recruits=marks(index, 600),
        survivors=marks(index, 100),
        layer_change_CL=change,
        centre_C=[15 + index / n_frames] * concepts,
        distance_C=[index / n_frames] * concepts,
        flow_C=[ribbons] * concepts,
        retrained=min(1.0, index / n_frames),
        held_out=index / n_frames / 2,
        neutral_loss=5.0,
    )


st.set_page_config(layout="wide")


@st.fragment(run_every=0.5 if every else None)
def panel() -> None:
    """Mounted as the page mounts it."""
    drawn = scene(layers, neurons, concepts, n_frames)
    count = min(n_frames, 1 + int((time.time() - began()) / every)) if every else n_frames
    migration_canvas(
        drawn,
        Source(
            frames=lambda start: [frame(index, layers, concepts, n_frames) for index in range(start, count)],
            values=values,
            net=lambda start, control_start: {},
        ),
        n_frames=count,
        control=(),
        live=bool(every) and count < n_frames,
        status="benchmark",
        half_steps={"retrained": None, "held_out": None},
        key="benchmark",
    )
    st.html(f'<span data-written="{count}"></span>')


panel()
