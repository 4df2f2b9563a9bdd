"""The parts of the Relearn page: the form of a run, the list of runs, the live view."""
