"""The parts of the Compare page: the table of two runs, and the saliency from the edit to the end."""
