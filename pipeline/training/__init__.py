"""From data to weights: the loop, loading, cached features."""
