"""Functions for notebooks and scripts, which return result objects with tables and figures.

`import analysis` offers these names lazily. They are a thin layer over the other packages: they resolve names, show
progress, work on copies of the model, and wrap results. Nothing is computed here.
"""
