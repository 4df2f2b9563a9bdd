"""Palimpsest: see which neurons of a language model carry a concept, remove them, and watch the concept come back.

The front door, from a notebook or a script:

    from analysis import load_model, load_concept, measure_saliency, prune, relearn

    model, capitals = load_model("smollm2-135m"), load_concept("capitals")
    scores = measure_saliency(model, capitals, "standardised")
    scores.table(); scores.figure()
    run = relearn(model, capitals, edit=prune(top=20, by="probeless"), steps=24, control=True)
    run.summary(); run.recruits(); run.figure("recovery"); run.view()

The names are imported when they are first used, so that `import analysis` costs next to nothing. Functions are verbs and
rooms (packages) are nouns. Nothing in here imports streamlit.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.2.0"
