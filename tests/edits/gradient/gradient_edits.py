"""One short edit of every gradient method, for tests."""

from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.objectives.grad_diff import GradDiff
from analysis.edits.gradient.objectives.gradient_ascent import GradientAscent
from analysis.edits.gradient.objectives.inject import Inject
from analysis.edits.gradient.objectives.llm_surgery import LlmSurgery
from analysis.edits.gradient.objectives.npo import Npo
from analysis.edits.gradient.objectives.rmu import Rmu
from analysis.edits.gradient.objectives.simnpo import SimNpo
from analysis.edits.gradient.objectives.unlearn import Unlearn

COMMON = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32"}
UNLEARN = Unlearn(forget=("France", "Italy"), **COMMON)
EDITS: dict[str, GradientEdit] = {
    "unlearn": UNLEARN,
    "inject": Inject(forget=("France", "Italy"), **COMMON),
    "llm_surgery": LlmSurgery(forget=("France",), update=("Italy",), **COMMON),
    "gradient_ascent": GradientAscent(forget=("France", "Italy"), **COMMON),
    "grad_diff": GradDiff(forget=("France", "Italy"), **COMMON),
    "npo": Npo(forget=("France", "Italy"), **COMMON),
    "simnpo": SimNpo(forget=("France", "Italy"), **COMMON),
    "rmu": Rmu(forget=("France", "Italy"), layer=1, **COMMON),
}
