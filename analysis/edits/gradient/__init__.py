"""Edits a model by gradient descent: objectives of the unlearning literature, their terms and losses, and the training."""
