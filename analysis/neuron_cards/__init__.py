"""Builds a neuron's card: top words, contexts, activations on and off the concept, error bars, output tokens."""
