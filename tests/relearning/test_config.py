"""A run's configuration: what is refused, what comes back from JSON, what follows from it."""

import json
from dataclasses import replace

import pytest

from analysis.edits import ComponentEdit, Selection
from analysis.errors import ConfigError
from analysis.relearning import RelearnConfig

CONFIG = RelearnConfig(
    model="m",
    concept="c",
    edit=ComponentEdit(selection=Selection(rule="top_k", value=6)),
    batch_size=6,
    neutral_share=0.34,
)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("batch_size", 0),
        ("batch_size", 4.5),
        ("neutral_share", -0.1),
        ("neutral_share", 1.0),
        ("neutral_share", 0.95),
        ("learning_rate", 0.0),
        ("learning_rate", 1.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("weight_decay", 1.0),
        ("clip", 0.0),
        ("clip", float("nan")),
        ("precision", "fp8"),
        ("snapshot_every", 0),
        ("snapshot_every", 1.5),
        ("known_threshold", 1.1),
        ("known_threshold", float("nan")),
        ("seed", "lucky"),
        ("train_only", 3),
        ("train_only", "L1.N2, everything"),
        ("train_only", " , "),
    ],
)
def test_settings_out_of_range(field: str, value: object):
    with pytest.raises(ConfigError):
        RelearnConfig.from_dict(CONFIG.to_dict() | {field: value})


def test_the_message_names_the_setting():
    with pytest.raises(ConfigError, match=r"learning_rate is 3\.0; it must be in"):
        replace(CONFIG, learning_rate=3.0)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CONFIG.as_control(),
        RelearnConfig(model="m", concept="c", track=("a", "b"), edit=ComponentEdit(kind="reverse"), seed=3),
        RelearnConfig(model="m", concept="c", train_only="L5.MLP, L7.H3"),
    ],
)
def test_json_round_trip(config: RelearnConfig):
    assert RelearnConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        "text",
        None,
        {"model": "m"},
        {"model": "m", "concept": "c", "surprise": 1},
        {"model": "m", "concept": "c", "edit": "prune"},
        {"model": "m", "concept": "c", "edit": {}},
        {"model": "m", "concept": "c", "track": 3},
        {"model": "m", "concept": "c", "steps": "many"},
        {"model": 3, "concept": "c"},
    ],
)
def test_no_configuration(data: object):
    with pytest.raises(ConfigError):
        RelearnConfig.from_dict(data)  # type: ignore[arg-type]


def test_a_configuration_of_an_older_version_still_opens():
    """Without confined training, and with a list that was called after neurons."""
    stored = json.loads(json.dumps(CONFIG.to_dict()))
    del stored["train_only"]
    selection = stored["edit"]["selection"]
    selection["neurons"] = selection.pop("components")
    assert RelearnConfig.from_dict(stored) == CONFIG


def test_describe():
    config = RelearnConfig(model="m", concept="c", edit=ComponentEdit(kind="reverse"))
    assert config.describe() == "c: reverse: top 1.00% by probeless"
    assert replace(config, train_only="l5.mlp L7.H3").describe().endswith("probeless; training only L5.MLP, L7.H3")
    assert replace(config, edit=None, train_only="L5.N1 " * 2).describe() == "c: no edit; training only L5.N1"


def test_derived_numbers():
    config = RelearnConfig(model="m", concept="c", track=("a", "c", "b"), steps=7, cadence="steps", snapshot_every=3)
    assert config.counts["neutral"] == 6
    assert config.tracked == ("c", "a", "b")
    assert config.snapshot_steps == (3, 6, 7)
    assert config.n_snapshots == 5
    control = config.as_control()
    assert (control.edit, control.control, control.snapshot_steps, control.n_snapshots) == (None, False, (6, 7), 3)
