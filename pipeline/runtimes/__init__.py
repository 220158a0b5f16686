"""What runs a model: the table of targets, and a module per runtime."""
