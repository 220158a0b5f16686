"""Datasets: their formats, ingest, synthetic ones, video."""
