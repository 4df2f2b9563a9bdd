"""The parts of the Compare page: the table of two runs, and where each concept went."""
