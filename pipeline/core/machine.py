"""What this machine, and others with it, can do."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.core.params import Block

PROCESSES, DASK = "processes", "dask://"


def _place(said: str) -> str:
    if said != PROCESSES and not re.fullmatch(rf"{DASK}(\[[\w:.]+\]|[^\s/:\[\]]+):\d+", said):
        raise ValueError(f"expected {PROCESSES}, or the address of a Dask scheduler, as {DASK}head-node:8786")
    return said


class MachineParams(Block):
    """What this machine can do: it changes how long the chain takes, never what it makes, and reruns nothing."""

    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that load training images; 0 loads them in the training process. null: 1, or 0 on at most
    two cores without a GPU, which training itself keeps busy."""
    parallel: Annotated[str, AfterValidator(_place)] = PROCESSES
    """Where ingest, augment, the features of a frozen backbone and `pocketlens predict` do their work: in processes
    of this machine, or with the workers of the Dask scheduler at dask://host:port."""
