"""What one neuron responds to: its words in context, its activations on and off the concept, its error bars."""
