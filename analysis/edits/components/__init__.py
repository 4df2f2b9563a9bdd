"""Edits of neurons, attention heads and MLP layers: choose them, preview the effect through hooks, prune or reverse them."""
