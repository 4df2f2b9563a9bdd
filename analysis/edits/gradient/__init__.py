"""Edits by gradient descent: the objectives of the unlearning literature, their terms, their losses, and the training."""
