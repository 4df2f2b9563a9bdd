"""The front door: what a notebook or a script works with, as functions that return objects to be asked.

`import analysis` offers these names lazily. Everything here is a thin layer over the other rooms: it resolves names, shows
progress, works on copies of the model, and wraps results so that they give tables and figures. It computes nothing itself.
"""
