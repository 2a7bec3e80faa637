"""Paired tensors, the training loop and its checkpoints."""
