"""Builds the card of a neuron: its top words, contexts, activations on and off the concept, error bars, output tokens."""
