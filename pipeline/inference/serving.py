"""A registered model as MLflow runs it: images in, labels or objects out.

This module travels with the model, beside those that it imports: what runs it needs neither this project nor torch.
MLflow's server asks it in several threads at once.
"""

import base64
import binascii
import logging
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image, stored_pixels
from pipeline.core.spec import read_spec
from pipeline.runtimes.answers import predict_image
from pipeline.runtimes.runtime import Runtime
from pipeline.runtimes.targets import open_runtime

if TYPE_CHECKING:
    from pandas import DataFrame


# Held while a runtime is opened, and while one runs that does not say that it is `concurrent`. One lock for all models
# of the process: those of ExecuTorch share one pool of threads.
ALONE = threading.Lock()
# Held while an image of more than LARGE pixels is decoded and answered: few kilobytes may stand for more than 1 GB
ONE_LARGE = threading.Lock()
LARGE = 16_000_000
log = logging.getLogger(__name__)


class Served:
    """model.json and model files in one folder; `files` names the files by their targets."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self._folder, self._files = folder, files
        self._spec = read_spec(folder / "model.json")
        self._opened: dict[str, Runtime] = {}

    def predict(self, model_input: "DataFrame", params: dict[str, Any]) -> list[dict[str, Any]]:
        """For each image of the column `image` {"label", "scores"} (classify) or {"objects"}, as in metadata.jsonl:
        boxes [x, y, w, h] and landmarks [x, y, visibility], relative to the image.

        An image is an encoded file (bytes, or their base64), a pathlib.Path of one, or RGB uint8 [H, W, 3]. A text is
        never a path: a server must not open its own files for those who ask. `params["target"]` names the model file.
        A row without an answer has {"error"}, which names it and says why; it costs the others nothing. Raises
        InputError for a target that the model does not have. May be called in several threads.
        """
        runtime = self._runtime(params["target"])
        return [self._answer(runtime, cell, row) for row, cell in enumerate(model_input["image"])]

    def _answer(self, runtime: Runtime, cell: Any, row: int) -> dict[str, Any]:
        keys = ("label", "scores") if self._spec.task == "classify" else ("objects",)
        try:
            cell = _readable(cell)
            with ONE_LARGE if _is_large(cell) else nullcontext():
                image = cell if isinstance(cell, Image.Image) else open_image(cell)
                with nullcontext() if getattr(runtime, "concurrent", False) else ALONE:
                    answer = predict_image(runtime, self._spec, image).to_json()
        except InputError as error:
            return {"error": f"image {row}: {error}"}
        except Exception as error:  # of whatever kind: the others are answered
            log.exception("image %d: no answer", row)
            return {"error": f"image {row}: {type(error).__name__}: {error}"}
        return {key: answer[key] for key in keys}

    def _runtime(self, target: str) -> Runtime:
        if target not in self._files:
            raise InputError(f"target {target!r}: expected one of {', '.join(self._files)}")
        if target not in self._opened:
            with ALONE:
                if target not in self._opened:
                    self._opened[target] = open_runtime(target, self._folder / self._files[target])
        return self._opened[target]


def _load_pyfunc(folder: str, config: dict[str, Any]) -> Served:
    """What MLflow calls; `config` is the model's, as it was saved."""
    return Served(Path(folder), config["files"])


def _readable(cell: Any) -> Image.Image | bytes | Path:
    """The image itself, or its file. Raises InputError for what is neither."""
    if isinstance(cell, np.ndarray):
        if cell.dtype != np.uint8 or cell.ndim != 3 or cell.shape[2] != 3 or not cell.size:
            raise InputError(f"{cell.dtype} {list(cell.shape)}, expected RGB as uint8 [H, W, 3]")
        return Image.fromarray(cell)
    if isinstance(cell, str):
        try:
            cell = base64.b64decode("".join(cell.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"not base64: {error}") from None
    if not isinstance(cell, bytes | Path):
        raise InputError(f"{type(cell).__name__}, expected base64, bytes, a Path or an array")
    return cell


def _is_large(cell: Image.Image | bytes | Path) -> bool:
    return not isinstance(cell, Image.Image) and stored_pixels(cell) > LARGE
