"""Palimpsest: see which neurons of a language model carry a concept, remove them, and watch the concept come back.

The library behind the dashboard and the command line. Data flows one way:
catalog -> models -> concepts -> activations -> saliency -> edits -> relearn -> migration -> figures.
Nothing in here imports streamlit.
"""

__version__ = "0.2.0"
