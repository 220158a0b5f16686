"""Views in FiftyOne, which is imported here only."""
