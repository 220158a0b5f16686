"""What a trained run says of images, folders of them, clips and cameras."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.image_file import ImageFileError, open_image
from pipeline.core.sample import Dataset, Sample, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, model_folder, read_spec
from pipeline.datasets.formats.reading import CLIP_SUFFIXES, IMAGE_SUFFIXES, files_under
from pipeline.evaluation.params import with_predict
from pipeline.inference.overlap import overlapped
from pipeline.ops.preprocess import Frame, resize
from pipeline.runtimes.answers import predict_resized
from pipeline.runtimes.exported import exported_file
from pipeline.runtimes.runtime import Images, Runtime
from pipeline.runtimes.targets import TORCH, open_runtime
from pipeline.viz.sheets import draw

if TYPE_CHECKING:
    from pipeline.datasets.video import ClipWriter

CAMERA = "camera"  # or camera:1, the second one
NAMED = 5  # bad files that an error lists


@dataclass(frozen=True, slots=True)
class Shot:
    """One image to predict: a file's, or one of `clip`, which shows `rate` of those that are taken in a second."""

    name: str
    image: Image.Image
    clip: str | None = None
    rate: Fraction = Fraction(25)


def prediction_text(prediction: Sample) -> str:
    """For a terminal: the three best labels with their probabilities, or the objects, a line each.

    >>> print(prediction_text(Sample("1.jpg", "1.jpg", 64, 48, label="cow", scores={"goat": 0.2, "cow": 0.8})))
    1.jpg: cow 0.800, goat 0.200
    """
    best = sorted((prediction.scores or {}).items(), key=lambda item: -item[1])[:3]
    said = ", ".join(f"{label} {score:.3f}" for label, score in best) or f"{len(prediction.objects)} objects"
    lines = [f"{prediction.id}: {said}"]
    for o in prediction.objects:
        x, y, w, h = (round(v, 4) for v in o.box)
        lines.append(f"  {o.label} {o.score:.3f} at x {x} y {y} w {w} h {h}")
    return "\n".join(lines)


def predict_sources(
    sources: list[str],
    run: str,
    target: str,
    models: Path,
    exports: Path,
    drawings: Path | None = None,
    every: int = 1,
    most: int | None = None,
    predict: Mapping[str, Any] | None = None,
) -> Generator[Sample, None, None]:
    """One sample per image, in order. `sources`: images, clips, folders of both, "camera" or "camera:<number>".

    `file_name` and `id` are the file's path as given; a frame's id ends in #<place>, its `clip` is the file. Of clips
    and cameras each `every`-th frame is taken, of a camera until `most` are. `target`: `TORCH` for models/<run>, or a
    file of exports/<run> by its target's name; `predict` is the run's block of that name (None: see
    `evaluation.params.with_predict`). With `drawings`, each image is written there with its prediction
    drawn in, a clip as a clip, and the predictions as metadata.jsonl and dataset.json. Decoding, resizing, the model
    and drawing overlap, each in a thread; few images are held at once, and closing ends them. Raises InputError for
    an unknown run or target, a drawing that cannot be written, and at the end for files that do not decode: the others
    are answered all the same.

    >>> from tempfile import TemporaryDirectory
    >>> from safetensors.torch import save_file
    >>> from pipeline.core.spec import write_spec
    >>> from pipeline.models.nets import build
    >>> net = "mobilenetv2_035", {"kind": "pool", "dropout": 0.2}, 32, "letterbox", [0.5] * 3, [0.5] * 3, {}, ["logits"]
    >>> spec = ModelSpec("untrained", "farm", "classify", ["goat", "sheep"], [], [], [], *net)
    >>> with TemporaryDirectory() as folder:
    ...     write_spec(f"{folder}/untrained/model.json", spec)
    ...     save_file(build(spec).state_dict(), f"{folder}/untrained/model.safetensors")
    ...     Image.new("RGB", (64, 48)).save(f"{folder}/1.png")
    ...     [sample] = predict_sources([f"{folder}/1.png"], "untrained", TORCH, Path(folder), Path("exports"))
    >>> sorted(sample.scores)
    ['goat', 'sheep']
    """
    runtime, spec = _model(run, target, models, exports, predict)
    dataset = Dataset(spec.dataset, spec.labels, spec.landmarks, spec.pairs, spec.skeleton)
    bad: list[str] = []
    files = [name for source in sources for name in _files(source)]
    steps: list[Callable[[Any], Any]] = [partial(_resized, spec), partial(_predicted, runtime, spec)]
    with ExitStack() as stack:
        if drawings is not None:
            steps.append(stack.enter_context(_Drawings(drawings, dataset)).add)
        shots = _shots(files, every, most, bad)
        for _, sample in stack.enter_context(closing(overlapped(shots, *steps))):
            yield sample
    if bad:
        more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise InputError("; ".join(bad[:NAMED]) + more)


def _model(
    run: str, target: str, models: Path, exports: Path, predict: Mapping[str, Any] | None
) -> tuple[Runtime, ModelSpec]:
    folder = model_folder(models, run)
    place = folder if target == TORCH else exported_file(exports / run, target)
    spec = read_spec((folder if target == TORCH else exports / run) / "model.json")
    spec = with_predict(spec, predict)
    return open_runtime(target, place), spec


def _resized(spec: ModelSpec, shot: Shot) -> tuple[Shot, Images, Frame]:
    return shot, *resize(shot.image, spec.size, spec.resize)


def _predicted(runtime: Runtime, spec: ModelSpec, given: tuple[Shot, Images, Frame]) -> tuple[Shot, Sample]:
    shot, canvas, frame = given
    sample = predict_resized(runtime, spec, shot.image.size, canvas, frame, shot.name)
    sample.file_name = shot.clip or shot.name
    sample.id, sample.clip = shot.name, shot.clip
    return shot, sample


def _files(source: str) -> list[str]:
    """The images and clips of a folder; any other source as it is. Raises InputError for a folder without any, and
    for a camera whose number is not one.
    """
    kind, _, number = source.partition(":")
    if kind == CAMERA and number and not number.isdecimal():
        raise InputError(f"{source}: expected {CAMERA}, or {CAMERA}:1 for the second one")
    if kind == CAMERA or not Path(source).is_dir():
        return [source]
    found = sorted(files_under(Path(source), IMAGE_SUFFIXES | CLIP_SUFFIXES))
    if not found:
        raise InputError(f"{source}: no image and no clip in this folder")
    return [str(f) for f in found]


def _shots(files: list[str], every: int, most: int | None, bad: list[str]) -> Generator[Shot, None, None]:
    """The images of all `files`; what does not decode is added to `bad`."""
    from pipeline.datasets.video import ClipError, camera, frame_rate, stream

    with tqdm(files, "predict", unit="file", mininterval=0.5, disable=None) as bar:
        for name in bar:
            kind, _, number = name.partition(":")
            is_clip = Path(name).suffix.lower() in CLIP_SUFFIXES
            if not is_clip and kind != CAMERA:
                try:
                    yield Shot(name, open_image(name))
                except ImageFileError as error:
                    bad.append(str(error))
                continue
            try:
                frames = stream(name) if is_clip else camera(int(number or 0))
                rate = frame_rate(name) / every if is_clip else Fraction(25, every)
                for place, image in enumerate(frames):
                    if not is_clip and most is not None and place >= most * every:
                        break
                    bar.set_postfix(frame=place, refresh=False)
                    if place % every == 0:
                        yield Shot(f"{name}#{place}", image, name, rate)
            except ClipError as error:
                bad.append(f"{name}: {error}")


class _Drawings:
    """Images and clips with predictions drawn in, in a folder, and at the end (a camera's is Ctrl+C) their labels."""

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.folder, self.dataset = folder, dataset
        self._names: set[str] = set()
        self._samples: list[Sample] = []
        self._clip: tuple[str, ClipWriter] | None = None

    def __enter__(self) -> "_Drawings":
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        write_dataset(self.folder, self.dataset)
        write_samples(self.folder, self._samples)

    def add(self, given: tuple[Shot, Sample]) -> tuple[Shot, Sample]:
        """Draws what was predicted, and passes it on."""
        shot, sample = given
        nothing = Sample("", "", shot.image.width, shot.image.height)
        drawn = draw(shot.image, nothing, self.dataset, sample)
        self._samples.append(_from_folder(sample, self.folder))
        if self._clip is not None and self._clip[0] != shot.clip:
            self._end()
        with _drawing_of(shot.name):
            if shot.clip is None:
                drawn.save(self._free(shot.name, ".png"))
                return given
            if self._clip is None:
                from pipeline.datasets.video import ClipWriter

                self._clip = shot.clip, ClipWriter(self._free(shot.clip.replace(":", "-"), ".mp4"), shot.rate)
            self._clip[1].add(drawn)
        return given

    def _end(self) -> None:
        if self._clip is not None:
            (name, writer), self._clip = self._clip, None
            with _drawing_of(name):
                writer.close()

    def _free(self, name: str, suffix: str) -> Path:
        """Files of one name from several folders get a number."""
        stem, number = Path(name).stem, 1
        while f"{stem}{suffix}" in self._names:
            number += 1
            stem = f"{Path(name).stem}-{number}"
        self._names.add(f"{stem}{suffix}")
        return self.folder / f"{stem}{suffix}"


@contextmanager
def _drawing_of(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: its drawing cannot be written: {error}") from None


def _from_folder(sample: Sample, folder: Path) -> Sample:
    """The same with its file as seen from `folder`, as in all metadata.jsonl."""
    if sample.file_name.split(":")[0] == CAMERA:
        return sample
    return replace(sample, file_name=Path(os.path.relpath(sample.file_name, folder)).as_posix())
