"""What `pocketlens compare` compares."""

from typing import Annotated, Any

from pydantic import Field

from pipeline.core.params import Block


class CompareParams(Block):
    """A run with one backbone after another. Knobs of the run are dotted here: "model.head.kind"."""

    run: str
    """Whose data and knobs are taken."""
    settings: dict[str, Any] = {}
    """What all models have in place of the run's own."""
    models: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Backbones by their timm names, with what each has in place of these."""
