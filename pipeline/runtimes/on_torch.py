"""PyTorch: the trained net itself."""

from pathlib import Path

import numpy as np
import torch

from pipeline.models.nets import Deployed, load_model
from pipeline.runtimes.runtime import Images, Outputs


class TorchRuntime:
    """The trained net, with the normalization that is inside the shipped graphs."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        self.threads = threads or 1
        self._net = Deployed(*load_model(folder)).eval().to(memory_format=torch.channels_last)

    def run(self, images: Images) -> Outputs:
        with torch.inference_mode():
            return [np.ascontiguousarray(o.numpy()) for o in self._net(torch.from_numpy(images))]
