"""The parts of the Relearn page: the form of a new run, the list of runs, the live view of one run."""
