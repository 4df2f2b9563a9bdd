"""The Streamlit mount of the canvas: which values one message takes, and what was chosen in it."""

import numpy as np
import pytest

from analysis.canvas.contents import CanvasConcept, CanvasScene
from ui import canvas
from ui.canvas import Chosen, chosen

L, N = 3, 7


@pytest.fixture
def scene() -> CanvasScene:
    return CanvasScene(
        epoch="run#1|capitals",
        n_layers=L,
        n_neurons=N,
        concepts=(CanvasConcept(name="capitals", title="Capital cities"),),
        signed=True,
        unit="change of saliency",
        full_scale=0.5,
        order_LN=np.tile(np.arange(N, dtype=np.uint16), (L, 1)),
        pruned=np.array([3], np.uint32),
        edit_label="pruned",
        total_steps=10,
    )


def test_a_message_has_room_for_so_many_values(scene: CanvasScene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(canvas, "MESSAGE_BYTES", 3 * scene.frame_bytes)
    assert canvas._values_to_send(scene, range(10), [], live=False) == [0, 1, 2]
    assert canvas._values_to_send(scene, range(10), [], live=True) == [7, 8, 9]
    assert canvas._values_to_send(scene, range(10, 10), [4, 5, 6, 7, 8], live=True) == [4, 5, 6]
    assert canvas._values_to_send(scene, range(9, 10), [4, 5], live=True) == [4, 5, 9]
    assert canvas._values_to_send(scene, range(10, 10), [], live=True) == []


def test_what_is_chosen_counts_only_for_its_own_epoch_and_within_the_model(
    scene: CanvasScene, monkeypatch: pytest.MonkeyPatch
):
    states = {"canvas": {"step": f"{scene.epoch}#4", "neuron": "2.6"}}
    monkeypatch.setattr(canvas.st, "session_state", states)
    found = chosen("canvas", scene)
    assert (found.index, found.neuron) == (4, (2, 6))
    states["canvas"] = {"step": "other#4", "neuron": "3.0"}
    assert chosen("canvas", scene) == Chosen()
    assert chosen("none yet", scene) == Chosen()
