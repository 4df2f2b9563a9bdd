"""Batches of text and scores on them: P(answer) of facts, loss, tagging, pairs of clean and corrupted prompts."""
