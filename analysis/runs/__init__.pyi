from .library import RunDirectory as RunDirectory
from .library import create as create
from .library import create_in_home as create_in_home
from .library import created as created
from .library import find as find
from .library import list_runs as list_runs
from .library import new_path as new_path
from .library import start as start
