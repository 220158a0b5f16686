"""A trained run on the test split: predictions, metrics, reports."""
