"""Reads chosen neurons' token activations from a saliency scan's sample, without running the model again.

Axes: `S` sampled token, `L` layer, `N` unit, `T` token of the text, `K` chosen neuron.
"""

import numpy as np
import torch

from analysis.components.neurons import NeuronSet
from analysis.models import LanguageModel
from analysis.neuron_cards.token_activations import TokenActivations, _assembled, _check, _read
from analysis.saliency import Scan
from analysis.scoring.batches import MAX_LENGTH

__all__ = ["activations_from_scan"]


def activations_from_scan(
    model: LanguageModel, scan: Scan, concept: str, neurons: NeuronSet
) -> TokenActivations | None:
    """Token activations on a concept's sentences, from the activations that a scan kept; runs no forward pass.

    Equal to `token_activations` of the scanned sentences with the scan's `skip_first`. None if the scan kept no sample,
    left out tokens of the concept, or covers several concepts.

    Raises:
        ConfigError: the neurons do not fit the scan.
    """
    chosen = None if scan.sample is None else scan.sample.concepts[concept]
    if scan.sample is None or chosen is None or not chosen.is_whole or len(scan.moments.concepts) > 1:
        return None
    _check(model, scan.sentences, neurons, scan.site)
    limit = min(MAX_LENGTH, model.context_length)
    skip_first = bool(scan.provenance["skips_first_position"])
    rows = [_read(model, sentence, limit, skip_first) for sentence in scan.sentences]
    # within a sentence the sample's rows ascend with the position
    order = torch.from_numpy(chosen.rows[np.lexsort([chosen.rows, chosen.sentences])])
    values_SLN = scan.sample.values_SLN
    columns = [values_SLN[order, neuron.layer, neuron.index] for neuron in neurons]
    values_TK = torch.stack(columns, dim=1).cpu().numpy()
    return _assembled(model, scan.sentences, neurons, scan.site, rows, values_TK, skip_first)
