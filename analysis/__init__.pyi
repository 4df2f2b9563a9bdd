from .errors import PalimpsestError as PalimpsestError
from .notebook.circuits import find_circuit as find_circuit
from .notebook.editing import edit as edit
from .notebook.editing import prune as prune
from .notebook.editing import reverse as reverse
from .notebook.loading import load_concept as load_concept
from .notebook.loading import load_model as load_model
from .notebook.removal import remove as remove
from .notebook.run import list_runs as list_runs
from .notebook.run import open_run as open_run
from .notebook.run import relearn as relearn
from .notebook.saliency import measure_saliency as measure_saliency

__version__: str
