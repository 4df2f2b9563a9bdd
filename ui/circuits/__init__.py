"""The parts of the Circuits page: searching for a circuit, and showing it."""
