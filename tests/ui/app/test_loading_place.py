"""Loading a model must not move what follows on the page.

Streamlit's browser part forgets that a widget belongs to the URL when the widget changes its place between two runs.
"""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis import concepts
from analysis.concepts import Concept
from ui.app import viewer_model

_ROOT = Path(__file__).parents[3]


def _places(app: AppTest) -> dict[str, int]:
    """Where on the page each widget or block at its top level is, by kind and key."""
    return {f"{child.type} {getattr(child, 'key', None)}": i for i, child in app.main.children.items()}


@pytest.mark.parametrize("page", ["saliency", "lens", "circuits"])
def test_the_run_that_loads_the_model_is_laid_out_as_the_next(
    page: str, empty_home: Path, tiny_folder: Path, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    concepts.save(tiny_concept)
    monkeypatch.setattr(concepts.library, "BUILT_IN", ())
    viewer_model.unload()
    app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=60)
    app.query_params["model"], app.query_params["concept"] = str(tiny_folder), tiny_concept.name
    app.switch_page(f"{page}.py")
    loading = app.run()
    assert not loading.exception, loading.exception
    before = _places(loading)
    assert len(before) > 3
    assert before == _places(app.run())
    viewer_model.unload()
