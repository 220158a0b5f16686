"""A trained classifier as a detector: all windows of an image at several scales, then non-maximum suppression."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.files import new_file
from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Object, Sample, read_dataset, read_samples
from pipeline.core.spec import ModelSpec, model_folder, read_spec
from pipeline.evaluation.params import with_predict
from pipeline.inference.drawings import DrawingFolder
from pipeline.metrics.metrics import FOR_AP, shown_of
from pipeline.metrics.metrics import score as figures_of
from pipeline.ops.boxes import nms
from pipeline.ops.decode import BEFORE_NMS
from pipeline.ops.preprocess import FILL
from pipeline.ops.steps import apply_steps
from pipeline.viz.sheets import draw

if TYPE_CHECKING:
    from pipeline.models.classifier import Classifier

Array = NDArray[np.float32]
# Of a canvas, uint8 [H, W, 3], the classifier's logits [K, rows, columns] for windows of `size` pixels, `stride` apart.
Windows = Callable[[NDArray[np.uint8]], Array]
LARGEST = 16  # scale: memory grows with its square


@dataclass(frozen=True, slots=True)
class Slider:
    """What slides: `windows` says what the windows of a canvas show; `stride` is in pixels of the canvas.

    `spec` is the classifier's; its label `background` means nothing. `shapes` [K, 4] are the boxes x, y, w, h that an
    object of each label has in its window, as shares of the window.
    """

    spec: ModelSpec
    windows: Windows
    stride: int
    background: str
    shapes: NDArray[np.float64]


def one_pass(net: "Classifier", spec: ModelSpec) -> tuple[Windows, int]:
    """The classifier as a fully convolutional net: what `Slider` takes as `windows` and `stride`."""
    import torch

    from pipeline.inference.convolutional import FullyConvolutional
    from pipeline.models.nets import Deployed

    convolutional = FullyConvolutional(net, spec.size)
    deployed = Deployed(convolutional, spec).eval().to(memory_format=torch.channels_last)

    def windows(canvas: NDArray[np.uint8]) -> Array:
        with torch.inference_mode():
            logits: Array = deployed(torch.from_numpy(canvas)[None])[0][0].numpy()
        return logits

    return windows, convolutional.stride


def slide_run(
    run: str,
    models: Path,
    data: Path,
    dataset: str,
    split: str,
    scales: Sequence[float],
    background: str,
    drawings: Path | None = None,
    shown: float | None = None,
    predict: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Slide the trained classifier models/<run> over a split of the ingested `dataset`; returns a detector's figures.

    With `drawings`, each image is written there with its true boxes and those found with a score of `shown` (None:
    the run's) or more. Raises InputError for a run that is not a classifier or does not slide, labels that are not the
    dataset's and `background`, invalid scales, a split without images, or a folder for drawings that holds other files.
    """
    folder = model_folder(models, run)
    spec = read_spec(folder / "model.json")
    spec = with_predict(spec, predict)
    truth = read_samples(data / dataset / split)
    boxes = replace(read_dataset(data / dataset), landmarks=[], pairs=[], skeleton=[])
    _check(run, spec, boxes, background, scales)
    if not truth:
        raise InputError(f"{data / dataset / split}: no images")
    drawn = (
        DrawingFolder(drawings, [data / dataset / split / s.file_name for s in truth]) if drawings is not None else None
    )
    truth = [replace(s, objects=[replace(o, landmarks=[]) for o in s.objects]) for s in truth]

    from pipeline.models.nets import load_model

    net: Any = load_model(folder)[0]
    shapes = usual_shapes(read_samples(data / spec.dataset / "train"), spec.labels)
    try:
        slider = Slider(spec, *one_pass(net, spec), background, shapes)
    except InputError as error:
        raise InputError(f"{folder}: {spec.backbone}: {error}") from None
    found = slide_samples(slider, data / dataset / split, truth, scales)
    if drawn is not None:
        _draw(drawn, data / dataset / split, boxes, truth, found, spec.predict["score"] if shown is None else shown)
    about = {"run": run, "dataset": dataset, "split": split, "scales": list(scales)}
    return {**about, **figures_of("detect", truth, found, boxes)}


def figures_text(figures: Mapping[str, Any]) -> str:
    """What `slide_run` returns, for a terminal: AP and AP50 over all labels, then of each.

    >>> cows = {"AP": 0.25, "AP50": 0.5, "n": 3}
    >>> print(figures_text({"n_images": 2, "AP": 0.25, "AP50": 0.5, "per_class": {"cow": cows}}))
    2 images: AP 0.2500, AP50 0.5000
    3 cow: AP 0.2500, AP50 0.5000
    """
    rows = [(f"{figures['n_images']} images", figures)]
    rows += [(f"{own['n']} {label}", own) for label, own in figures["per_class"].items()]
    shown = {None: "undefined"}
    return "\n".join(
        f"{name}: " + ", ".join(f"{key} {shown.get(row[key]) or format(row[key], '.4f')}" for key in ("AP", "AP50"))
        for name, row in rows
    )


def slide_samples(slider: Slider, folder: Path, samples: list[Sample], scales: Sequence[float]) -> list[Sample]:
    """The same samples with the objects that are found in their images, from the score on that AP needs."""
    unsure_too = replace(slider, spec=replace(slider.spec, predict=slider.spec.predict | FOR_AP))
    found = []
    for sample in tqdm(samples, "slide", mininterval=0.5, disable=None):
        image = open_image(folder / sample.file_name)
        found.append(replace(sample, objects=slide(unsure_too, image, scales, FOR_AP["score"])))
    return found


def slide(slider: Slider, image: Image.Image, scales: Sequence[float], score: float) -> list[Object]:
    """The objects of an upright RGB image, best first: every window, at every scale, in which the probability of a
    label is `score` or more, less what non-maximum suppression takes. Boxes are clipped to the image.

    At scale s the image's longer side is s windows long.
    """
    parts = [_at_scale(slider, image, scale, score) for scale in scales]
    scores, labels, boxes = (np.concatenate(part) for part in zip(*parts, strict=True))
    best = np.argsort(-scores, kind="stable")[:BEFORE_NMS]
    scores, labels, boxes = scores[best], labels[best], boxes[best]
    predict = slider.spec.predict
    objects = []
    for i in nms(boxes, scores, labels, predict["nms_iou"], predict["max_objects"]):
        x0, y0, x1, y1 = (float(v) for v in boxes[i])
        box = (x0, y0, x1 - x0, y1 - y0)
        objects.append(Object(slider.spec.labels[labels[i]], box, score=round(float(scores[i]), 6)))
    return objects


def place(
    image: Image.Image, scale: float, size: int, stride: int
) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """The image at a scale on a grey canvas that windows of `size`, `stride` apart, cover to the last pixel.

    The canvas is a stride wider on each side: the window of an object at the edge reaches over it, as its crop did.
    Returns the canvas, uint8 [H, W, 3], and where the image lies in its middle: left, top, width, height in pixels.
    """
    ratio = scale * size / max(image.size)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    wide, high = (size + max(0, -(-(side + 2 * stride - size) // stride)) * stride for side in (width, height))
    left, top = (wide - width) // 2, (high - height) // 2
    canvas = Image.new("RGB", (wide, high), (FILL, FILL, FILL))
    canvas.paste(image.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    return np.array(canvas), (left, top, width, height)


def usual_shapes(samples: list[Sample], labels: list[str]) -> NDArray[np.float64]:
    """[K, 4]: per label the median of the boxes that its crops have; the whole window where they have none."""
    shapes = np.tile([0.0, 0.0, 1.0, 1.0], (len(labels), 1))
    for k, label in enumerate(labels):
        boxes = [o.box for s in samples if s.label == label for o in s.objects]
        if boxes:
            shapes[k] = np.median(boxes, axis=0)
    return shapes


def _at_scale(
    slider: Slider, image: Image.Image, scale: float, score: float
) -> tuple[Array, NDArray[np.intp], NDArray[np.float64]]:
    """Of the windows from `score` on: scores [P], label indices [P], corners [P, 4] relative to the image."""
    size, nothing = slider.spec.size, slider.spec.labels.index(slider.background)
    canvas, (left, top, width, height) = place(image, scale, size, slider.stride)
    logits = slider.windows(apply_steps(slider.spec.preprocess, canvas))
    probability = np.exp(logits - logits.max(axis=0))
    probability /= probability.sum(axis=0)
    probability[nothing] = -1
    label, row, column = np.nonzero(probability >= score)
    corner = np.stack([column, row], axis=1) * slider.stride + slider.shapes[label, :2] * size
    corners = np.concatenate([corner, corner + slider.shapes[label, 2:] * size], axis=1)
    boxes = np.clip((corners - (left, top, left, top)) / (width, height, width, height), 0, 1)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return probability[label, row, column][inside], label[inside], boxes[inside]


def _check(run: str, spec: ModelSpec, dataset: Dataset, background: str, scales: Sequence[float]) -> None:
    if spec.task != "classify":
        raise InputError(f"run {run!r} is trained to {spec.task}; expected a classifier (task: classify)")
    if background not in spec.labels:
        raise InputError(f"run {run!r} has no label {background!r} for nothing; its labels are {spec.labels}")
    wanted, have = set(dataset.labels), set(spec.labels) - {background}
    if wanted != have:
        raise InputError(
            f"run {run!r} knows {sorted(have)} beside {background!r}; dataset {dataset.name!r} has {sorted(wanted)}"
        )
    if not scales:
        raise InputError("--scales: none; expected one or more")
    if wrong := [s for s in scales if not 0 < s <= LARGEST]:
        raise InputError(f"--scales: found {wrong[0]:g}; expected above 0, up to {LARGEST}")


def _draw(
    folder: DrawingFolder, images: Path, dataset: Dataset, truth: list[Sample], found: list[Sample], shown: float
) -> None:
    folder.make()
    for sample, prediction in zip(truth, found, strict=True):
        seen = replace(prediction, objects=shown_of(prediction.objects, shown, None))
        drawn = draw(open_image(images / sample.file_name), sample, dataset, seen)
        try:
            with new_file(folder.free(sample.id, ".png")) as place:
                drawn.save(place, "PNG")
        except OSError as error:
            raise InputError(f"{sample.file_name}: its drawing cannot be written: {error}") from None
