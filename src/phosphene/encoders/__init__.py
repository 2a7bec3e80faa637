"""Brain encoders, one per file: (batch, channels, times) to (batch, width)."""
