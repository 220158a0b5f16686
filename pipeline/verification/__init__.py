"""The files that ship, judged by the metrics of the float model."""
