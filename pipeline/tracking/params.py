"""Where runs are tracked."""

from pipeline.core.params import Block


class TrackParams(Block):
    experiment: str = "pocketlens"
    """MLflow's name for all runs of this project."""
