"""A dataset of one format written in another."""
