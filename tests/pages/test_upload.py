"""The upload on the Model page: every kind of file, the choice of a label, and what the page says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis import concepts
from ui.app import viewer_model

_ROOT = Path(__file__).parents[2]
TAGGED = b"In O\nParis B-LOC\n\nAnna B-PER\n"
FACTS = b"""[
{"requested_rewrite": {"prompt": "The capital of {} is", "relation_id": "P36", "subject": "France",
 "target_true": {"str": "Paris"}, "target_new": {"str": "Rome"}}},
{"requested_rewrite": {"prompt": "{} speaks", "relation_id": "P37", "subject": "France",
 "target_true": {"str": "French"}, "target_new": {"str": "Greek"}}}
]"""


@pytest.fixture
def upload(empty_home: Path, tiny_folder: Path) -> Callable[..., AppTest]:
    """Uploads files on the Model page, with a tiny model."""
    app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=60)
    app.query_params["model"] = str(tiny_folder)
    app.run()

    def upload_it(files: dict[str, bytes], **fields: str) -> AppTest:
        app.file_uploader[0].set_value([(name, content, "text/plain") for name, content in files.items()]).run()
        for label, value in fields.items():
            next(field for field in app.text_input if field.label.startswith(label)).set_value(value).run()
        for button in [button for button in app.button if button.label == "Keep this concept"]:
            button.click().run()
        assert not app.exception, app.exception
        return app

    yield upload_it
    viewer_model.unload()


def test_a_label_is_asked_for_and_chosen(upload):
    app = upload({"train.conll": TAGGED})
    assert "several types of label" in app.error[0].value.replace("\\", "")
    assert "LOC (1), PER (1)" in app.error[0].value.replace("\\", "")
    assert concepts.available() == list(concepts.BUILT_IN)
    app = upload({"train.conll": TAGGED}, Label="loc")
    assert "0 facts (0 held out), 2 sentences (1 with a labelled word)" in app.success[0].value
    assert concepts.load("train-loc").sentences[0].spans == ((3, 8),)
    assert "train-loc" in app.sidebar.selectbox[0].options


def test_two_files_that_belong_together(upload):
    app = upload({"x_labels.txt": b"O LOC\n", "x_tokens.txt": b"In Paris\n"}, Name="Places")
    assert "1 sentences (1 with a labelled word)" in app.success[0].value
    assert concepts.load("places").sentences[0].spans == ((3, 8),)
    app = upload({"x_labels.txt": b"O LOC\n", "y.csv": b""})
    assert "Give one file, or the two" in app.error[0].value.replace("\\", "")


def test_facts_are_used_at_once_and_what_the_model_knows_is_shown(upload):
    app = upload({"cf.json": FACTS})
    assert "2 facts" in app.success[0].value
    next(button for button in app.button if button.label == "Use it now").click().run()
    assert not app.exception
    assert app.session_state["concept"] == "cf"
    assert any("of 2 facts" in caption.value for caption in app.caption)
    assert list(app.dataframe[0].value["subject"]) == ["France", "France"]
    assert concepts.load("cf").facts[0].counter_answer == "Rome"


def test_a_benchmark_is_shown_before_it_is_kept(upload):
    records = [{"question": f"Which letter is number {n}?", "choices": ["a", "b", "c"], "answer": n} for n in range(3)]
    app = upload({"wmdp-like.json": json.dumps([*records, records[0]]).encode()}, Name="letters")
    assert "Multiple choice (WMDP, MMLU): 3 facts" in "".join(one.value for one in app.markdown)
    assert any(
        "Left out: an earlier record is the same (1)" in caption.value.replace("\\", "") for caption in app.caption
    )
    shown = app.dataframe[-1].value
    assert list(shown["answer"]) == ["a", "b", "c"]
    assert list(shown["choices"]) == [2, 2, 2]
    assert concepts.load("letters").facts[1].choices == ("a", "c")


def test_what_cannot_be_understood_is_not_offered(upload):
    app = upload({"x.json": b'[{"colour": "red"}]'})
    assert "of no known layout" in app.error[0].value
    assert not [button for button in app.button if button.label == "Keep this concept"]
