"""The registry of objectives: every module declares one, each is offered as a method and written down."""

from pathlib import Path

from analysis.edits import METHODS, Edit, from_settings
from analysis.edits.gradient import objectives
from analysis.edits.gradient.objectives import GRADIENT_METHODS, OBJECTIVES

_FOLDER = Path(objectives.__path__[0])
_DOCUMENTED = (Path(__file__).parents[3] / "docs" / "unlearning.md").read_text(encoding="utf-8")


def test_every_module_declares_the_objective_of_its_name():
    modules = {path.stem for path in _FOLDER.glob("[!_]*.py")}
    assert modules == {method.name for method in OBJECTIVES} == set(GRADIENT_METHODS)


def test_methods_are_offered_in_a_declared_order():
    assert list(METHODS)[:12] == [
        *(
            "prune",
            "mean_ablate",
            "reverse",
            "tars",
            "unlearn",
            "inject",
            "llm_surgery",
            "gradient_ascent",
            "grad_diff",
        ),
        *("npo", "simnpo", "rmu"),
    ]


def test_every_objective_is_a_method_with_words_and_a_line_in_the_documentation():
    for method in OBJECTIVES:
        assert METHODS[method.name] is method
        assert method.summary
        assert method.source
        assert method.needs_facts
        assert f"\n| `{method.name}` |" in _DOCUMENTED
        edit = from_settings(method.name, {})
        assert isinstance(edit, Edit)
        assert (type(edit), edit.method) == (method.edit, method.name)
