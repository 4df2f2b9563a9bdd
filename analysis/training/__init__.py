"""Training of a language model: which weights may move, schedules, low-rank factors, checkpoints."""
