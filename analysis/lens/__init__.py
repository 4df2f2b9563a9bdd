"""What an intermediate state says in words: the logit lens, and what a neuron writes to the vocabulary."""
