"""Parts of a training loop: masks of trainable weights, learning-rate schedules, LoRA factors, checkpoints."""
