"""Recordings, stimuli and splits: what was recorded while seeing what, and who may learn of it."""
