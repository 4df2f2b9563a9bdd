"""The parts of the Saliency page: the map and its selection, neuron cards, comparisons."""
