"""Texts in batches, and what the model makes of them: P(answer) of facts, tags of words, pairs of clean and corrupted prompts."""
