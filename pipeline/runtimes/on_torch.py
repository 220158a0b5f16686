"""PyTorch: the trained net itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from pipeline.runtimes.runtime import Images, Outputs


class TorchRuntime:
    """The trained net, with the normalization that is inside the shipped graphs.

    torch has one number of threads for the whole process: a run sets its own and puts back what it found.
    """

    def __init__(self, folder: Path, threads: int | None) -> None:
        from pipeline.models.nets import Deployed, load_model  # a served model does without

        self.threads = threads or torch.get_num_threads()
        self._net = Deployed(*load_model(folder)).eval().to(memory_format=torch.channels_last)

    def run(self, images: Images) -> Outputs:
        with _threads(self.threads), torch.inference_mode():
            return [np.ascontiguousarray(o.numpy()) for o in self._net(torch.from_numpy(images))]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if number == before:  # setting it makes new pools of threads
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
