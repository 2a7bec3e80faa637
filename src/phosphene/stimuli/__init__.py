"""The image side: views, encoders, text and the feature bank."""
