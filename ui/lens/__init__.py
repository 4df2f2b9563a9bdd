"""The parts of the Logit lens page."""
