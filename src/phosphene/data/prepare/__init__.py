"""From a data set as it was published to recordings that are ready: one small file per data set."""
