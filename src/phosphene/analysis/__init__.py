"""Where, when and how: analyses of recordings, decoders and representations."""
