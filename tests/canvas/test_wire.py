"""The wire format of the migration view: what is packed is what the browser's own decoder reads."""

import base64
import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from analysis.canvas import assets
from analysis.canvas.contents import CanvasConcept, CanvasCurve, CanvasFrame, CanvasScene, Marks
from analysis.canvas.wire import pack

# Odd sizes on purpose: every section then needs padding.
L, N, C = 3, 7, 2


def make_scene(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "epoch": "run#1|capitals",
        "n_layers": L,
        "n_neurons": N,
        "concepts": (
            CanvasConcept(name="capitals", title="Capital cities"),
            CanvasConcept(name="sports", title="Athletes\u2019 sports"),
        ),
        "signed": True,
        "unit": "change of saliency",
        "full_scale": 0.5,
        "order_LN": np.stack([rng.permutation(N) for _ in range(L)]).astype(np.uint16),
        "pruned": np.array([20, 3, 4], dtype=np.uint32),
        "edit_label": "pruned",
        "total_steps": 10,
    }
    return CanvasScene(**(fields | changes))


def marks(*cells):
    return Marks(cells=np.array(cells, np.uint32), also=np.array([cell % 3 for cell in cells], np.uint8))


def make_values(index):
    return np.random.default_rng(index).integers(0, 256, (C, L, N), dtype=np.uint8)


def make_frame(index, **changes):
    rng = np.random.default_rng(index)
    fields = {
        "index": index,
        "phase": ("base", "edited", "training")[min(index, 2)],
        "step": max(0, index - 1),
        "recruits": (marks(1, 9), marks()),
        "survivors": (marks(), marks(index)),
        "layer_change_CL": rng.normal(size=(C, L)).tolist(),
        "centre_C": [1.25, 2.0],
        "distance_C": [0.5, float("nan")],
        "flow_C": [[(0, 2, 0.125)], []],
        "retrained": 0.5,
        "held_out": float("nan"),
        "neutral_loss": 4.123456789,
    }
    return CanvasFrame(**(fields | changes))


def make_curve(step):
    return CanvasCurve(
        phase="training",
        step=step,
        layer_change_CL=[[0.0] * L] * C,
        centre_C=[1.0, 2.0],
        distance_C=[0.0, 0.0],
        retrained=0.8,
        held_out=0.7,
        neutral_loss=4.0,
    )


def make_blob(frames, *, scene=None, **changes):
    fields = {"control": [], "live": True, "status": "", "half_steps": {"retrained": None}}
    fields["values"] = {frame.index: make_values(frame.index) for frame in frames}
    return pack(scene or make_scene(), frames, **(fields | changes))


def read_header(blob):
    (length,) = struct.unpack_from("<I", blob)
    return json.loads(blob[4 : 4 + length]), 4 + length + (-length % 4)


def test_sections_follow_the_header_in_the_documented_order():
    scene, frame = make_scene(), make_frame(0)
    header, at = read_header(make_blob([frame]))
    assert header["frames"][0]["n_recruits"] == [2, 0]

    def take(dtype, count):
        nonlocal at
        array = np.frombuffer(blob, dtype, count, at)
        at += array.nbytes + (-array.nbytes % 4)
        return array

    blob = make_blob([frame])
    np.testing.assert_array_equal(take("<u2", L * N), scene.order_LN.ravel())
    np.testing.assert_array_equal(take("<u4", 3), scene.pruned)
    for c in range(C):
        for found in (frame.recruits[c], frame.survivors[c]):
            np.testing.assert_array_equal(take("<u4", len(found.cells)), found.cells)
            np.testing.assert_array_equal(take("u1", len(found.also)), found.also)
    np.testing.assert_array_equal(take("u1", C * L * N), make_values(0).ravel())
    assert at == len(blob)


def test_scene_arrays_travel_only_with_the_first_snapshots():
    frame = make_frame(4)
    whole, delta = make_blob([frame]), make_blob([frame], start=4)
    assert len(whole) - len(delta) >= 2 * L * N
    assert read_header(delta)[0]["start"] == 4


def test_a_rerun_with_nothing_new_is_a_small_and_identical_message():
    idle = make_blob([], start=12, control_start=12)
    assert idle == make_blob([], start=12, control_start=12)
    assert len(idle) < 1000
    header, end = read_header(idle)
    assert header["frames"] == []
    assert end == len(idle)


def test_numbers_that_are_not_finite_become_gaps():
    header, _ = read_header(make_blob([make_frame(2)], half_steps={"held_out": float("inf")}))
    assert header["frames"][0]["held_out"] is None
    assert header["half_steps"] == {"held_out": None}
    assert header["frames"][0]["neutral_loss"] == 4.12346


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concepts": ()}, "1 to 3 concepts"),
        ({"order_LN": np.zeros((L, N), np.uint16)}, "exactly once"),
        ({"order_LN": np.zeros((L, N + 1), np.uint16)}, "shape"),
        ({"full_scale": 0.0}, "full_scale"),
        ({"total_steps": 0}, "total_steps"),
        ({"pruned": np.array([L * N], np.uint32)}, "flat indices"),
    ],
)
def test_a_scene_that_cannot_be_drawn_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_scene(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": "later"}, "phase"),
        ({"recruits": (marks(),)}, "1 concepts, not 2"),
        ({"survivors": (marks(999),) * C}, "survivors"),
        ({"words_F": [("a",)]}, "1 of 0 neurons"),
    ],
)
def test_a_snapshot_that_does_not_fit_its_scene_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_blob([make_frame(3, **changes)])


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.zeros((C, L, N + 1), np.uint8), "shape"), (np.zeros((C, L, N), np.float32), "uint8")],
)
def test_values_that_do_not_fit_their_scene_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        make_blob([make_frame(3)], values={3: values})


def test_marks_and_what_they_carry_are_as_many():
    with pytest.raises(ValueError, match="2 marks"):
        Marks(cells=np.array([1, 2], np.uint32), also=np.array([1], np.uint8))


BROWSERS_HALF = {
    "message.js": "decodeMessage",
    "snapshots.js": "flowOf, neuronAt",
    "store.js": "absorb, createStore",
    "value_budget.js": "letGo, missingParts, wanted",
}
# The browser's half, run by node: decode every message and absorb it into one store.
ABSORB = """
import { readFileSync } from "node:fs";
const messages = JSON.parse(readFileSync(0, "utf8"));
const store = createStore();
const missing = messages.map((text) => {
  // Off by one byte: a message inside a larger buffer is not aligned.
  const padded = Buffer.concat([Buffer.from([0]), Buffer.from(text, "base64")]);
  absorb(store, decodeMessage(new Uint8Array(padded.buffer, padded.byteOffset + 1, padded.length - 1)));
  return missingParts(store, 0);
});
const plain = (marks) => marks.map(({ cells, age, stays }) => ({
  neurons: [...cells].map((cell) => { const { layer, neuron } = neuronAt(store, cell); return [layer, neuron]; }),
  age: [...age], stays: [...stays] }));
console.log(JSON.stringify({ missing, frames: store.frames.map((frame) => ({
  index: frame.index, held_out: frame.held_out, ghost: frame.ghost && frame.ghost.layer_change, words: frame.words,
  flow: flowOf(frame), values: frame.values && frame.values.map((values) => [...values]),
  recruits: plain(frame.recruits), also: frame.recruits.map(({ also }) => [...also]) })), AFTER }));
"""


@pytest.fixture
def absorb():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the browser's half of the format is not run")

    def run(*blobs, after="null"):
        folder = (Path(assets.__file__).parent / "js").as_uri()
        imports = [f'import {{ {names} }} from "{folder}/{file}";' for file, names in BROWSERS_HALF.items()]
        script = "\n".join([*imports, ABSORB.replace("AFTER", f"after: {after}")])
        messages = json.dumps([base64.b64encode(blob).decode() for blob in blobs])
        command = [node, "--input-type=module", "-e", script]
        done = subprocess.run(command, input=messages, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return run


def test_the_browser_reads_what_was_packed(absorb):
    frames = [make_frame(i) for i in range(3)]
    seen = absorb(make_blob(frames, control=[make_curve(1)]))
    assert seen["missing"] == [""]
    for frame, shown in zip(frames, seen["frames"], strict=True):
        assert shown["values"] == make_values(frame.index).reshape(C, -1).tolist()
        assert shown["held_out"] is None
        assert shown["recruits"][0]["neurons"] == [[0, 1], [1, 2]]
        assert shown["also"][0] == [1, 0]
        assert shown["flow"] == [[[0, 2, 0.125]], []]


def test_words_travel_once_and_stand_until_they_change(absorb):
    scene = make_scene(followed=np.array([3, 8], np.uint32))
    told = [[("a", "b"), ("c",)], [None, ("d",)], [("b",), None]]
    frames = [make_frame(i, words_F=words, similarity_F=(None, 0.5)) for i, words in enumerate(told)]
    seen = absorb(make_blob(frames, scene=scene))
    assert [frame["words"] for frame in seen["frames"]] == [[["a", "b"], ["c"]], [["a", "b"], ["d"]], [["b"], ["d"]]]


def test_the_net_flow_takes_the_place_of_the_flow_when_the_control_arrives(absorb):
    frames = [make_frame(i) for i in range(3)]
    net = {2: [[(1, 0, 0.25)], []]}
    seen = absorb(make_blob(frames), make_blob([], start=3, control=[make_curve(1)], net=net))
    assert [frame["flow"][0] for frame in seen["frames"]] == [[[0, 2, 0.125]], [[0, 2, 0.125]], [[1, 0, 0.25]]]


def test_values_that_had_no_room_are_asked_for_and_taken(absorb):
    frames = [make_frame(i) for i in range(4)]
    seen = absorb(
        make_blob(frames, values={0: make_values(0)}), make_blob([], number=2, start=4, values={2: make_values(2)})
    )
    assert seen["missing"] == ["run#1|capitals#1||1-4", "run#1|capitals#2||1-2"]
    assert [frame["values"] is not None for frame in seen["frames"]] == [True, False, True, False]


def test_the_browser_keeps_within_its_budget_what_is_nearest_to_the_playhead(absorb):
    frames = [make_frame(i) for i in range(20)]
    after = """(() => { letGo(store, 12);
      return [store.held, store.frames.flatMap((f, i) => f.values ? [i] : []), wanted(store, 12), wanted(store, 3)]; })()"""
    seen = absorb(make_blob(frames), after=after.replace("letGo", "store.scene.n_neurons = 2 ** 22 + 1, letGo"))
    held, kept, want_here, want_there = seen["after"]
    assert held == 8  # the least that is ever kept, however large a snapshot is
    assert kept == [9, 10, 11, 12, 13, 14, 15, 16]
    assert want_here == ""
    assert want_there == "3-4"


def test_deltas_join_and_repetitions_add_nothing(absorb):
    frames = [make_frame(i) for i in range(4)]
    seen = absorb(
        make_blob(frames[:2]),
        make_blob(frames[1:3], start=1),
        make_blob(frames[3:], start=3),
        make_blob([], start=4),
    )
    assert seen["missing"] == [""] * 4
    assert [frame["index"] for frame in seen["frames"]] == [0, 1, 2, 3]


def test_a_message_that_does_not_join_says_what_the_browser_holds(absorb):
    frames = [make_frame(i) for i in range(4)]
    seen = absorb(
        make_blob(frames[2:3], number=2, start=2),
        make_blob(frames[:2], number=3, control=[make_curve(1)]),
        make_blob(frames[3:], number=5, start=3, control_start=1),
        make_blob(frames[2:], number=6, start=2, control_start=1),
    )
    assert seen["missing"] == ["run#1|capitals#2|0,0|", "", "run#1|capitals#5|2,1|", ""]
    assert [frame["index"] for frame in seen["frames"]] == [0, 1, 2, 3]
    assert all(frame["values"] for frame in seen["frames"])


def test_marks_know_their_age_and_whether_they_stay(absorb):
    first, second = marks(1, 9), marks(9, 12)
    frames = [make_frame(i, recruits=(found, marks())) for i, found in enumerate((first, second, second))]
    recruits = [frame["recruits"][0] for frame in absorb(make_blob(frames))["frames"]]
    assert [found["age"] for found in recruits] == [[0, 0], [1, 0], [2, 1]]
    assert [found["stays"] for found in recruits] == [[0, 1], [1, 1], [1, 1]]


def test_the_control_is_read_at_the_step_of_each_snapshot(absorb):
    def curve(step, value):
        return CanvasCurve(
            phase="training",
            step=step,
            layer_change_CL=[[value] * L] * C,
            centre_C=[value] * C,
            distance_C=[0.0] * C,
            retrained=0.0,
            held_out=0.0,
            neutral_loss=0.0,
        )

    frames = [make_frame(i) for i in range(2, 5)]
    ghosts = [
        frame["ghost"] and frame["ghost"][0][0]
        for frame in absorb(make_blob(frames, control=[curve(1, 1.0), curve(2.5, 4.0)]))["frames"]
    ]
    assert ghosts == [1.0, 3.0, None]
