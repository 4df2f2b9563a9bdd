"""The parts of the Saliency page: maps, cards, comparisons, selections."""
