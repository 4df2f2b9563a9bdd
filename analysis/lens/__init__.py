"""Decodes internal states into tokens: the logit lens, and the tokens that a neuron's output promotes."""
