"""Names and sets of what a model is made of: neurons, attention heads, MLP layers, residual dimensions, circuits."""
