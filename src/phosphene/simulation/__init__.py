"""Simulated experiments with known ground truth."""
