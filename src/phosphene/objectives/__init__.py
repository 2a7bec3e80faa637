"""Training objectives, free of model code."""
