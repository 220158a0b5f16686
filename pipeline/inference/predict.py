"""What a trained run says of images, folders of them, clips and cameras."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.files import new_file, sha256
from pipeline.core.image_file import ImageFileError, open_image
from pipeline.core.parallel import each, on_cluster
from pipeline.core.sample import Dataset, Sample, write_dataset
from pipeline.core.spec import ModelSpec, model_folder, read_spec
from pipeline.datasets.formats.reading import CLIP_SUFFIXES, DRAWINGS, IMAGE_SUFFIXES, files_under
from pipeline.evaluation.params import with_predict
from pipeline.inference.drawings import DrawingFolder
from pipeline.inference.overlap import overlapped
from pipeline.ops.preprocess import Frame, prepare
from pipeline.runtimes.answers import predict_resized
from pipeline.runtimes.exported import exported_file
from pipeline.runtimes.runtime import Images, Runtime
from pipeline.runtimes.targets import TORCH, open_runtime
from pipeline.viz.sheets import draw

if TYPE_CHECKING:
    from pipeline.datasets.video_write import ClipWriter

CAMERA = "camera"  # or camera:1, the second one
NAMED = 5  # bad files that an error lists


@dataclass(frozen=True, slots=True)
class Shot:
    """One image to predict: a file's, or one of `clip`, which shows `rate` of those that are taken in a second. `live`:
    the clip is no file, but what a camera sees.
    """

    name: str
    image: Image.Image
    clip: str | None = None
    rate: Fraction = Fraction(25)
    live: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, or the camera with this number."""

    name: str
    camera: int | None = None


def prediction_text(prediction: Sample) -> str:
    """For a terminal: the three best labels with their probabilities, or the objects, a line each.

    >>> print(prediction_text(Sample("1.jpg", "1.jpg", 64, 48, label="cow", scores={"goat": 0.2, "cow": 0.8})))
    1.jpg: cow 0.800, goat 0.200
    """
    best = sorted((prediction.scores or {}).items(), key=lambda item: -item[1])[:3]
    objects = "1 object" if len(prediction.objects) == 1 else f"{len(prediction.objects)} objects"
    said = ", ".join(f"{label} {score:.3f}" for label, score in best) or objects
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
    `evaluation.params.with_predict`). With `drawings`, each image is written there with its prediction drawn in, a clip
    as a clip, and the predictions as metadata.jsonl and dataset.json. Decoding, resizing, the model and drawing each
    have a thread; few images are held at once, and closing ends them. In a block of `parallel.over` other machines
    answer what is not drawn. Raises InputError for an unknown run or target, drawings that would go among other files
    or cannot be written, and at the end for files that do not decode: the others are answered all the same.

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
    place, spec = _model(run, target, models, exports, predict)
    files = [file for source in sources for file in _files(source)]
    bad: list[str] = []
    if on_cluster() and drawings is None and all(file.camera is None for file in files):
        answer = _There(target, place, sha256(place), spec, every)
        for samples, found in each(answer, files, "predict", reads=_file_of):
            yield from samples
            bad += found
    else:
        yield from _here(open_runtime(target, place), spec, files, _shots(files, every, most, bad), drawings)
    if bad:
        more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise InputError("; ".join(bad[:NAMED]) + more)


def _here(
    runtime: Runtime, spec: ModelSpec, files: list[_Source], shots: Generator[Shot, None, None], drawings: Path | None
) -> Generator[Sample, None, None]:
    steps: list[Callable[[Any], Any]] = [partial(_resized, spec), partial(_predicted, runtime, spec)]
    with ExitStack() as stack:
        if drawings is not None:
            folder = DrawingFolder(drawings, [file.name for file in files if file.camera is None])
            dataset = Dataset(spec.dataset, spec.labels, spec.landmarks, spec.pairs, spec.skeleton)
            steps.append(stack.enter_context(_Drawings(folder, dataset)).add)
        for _, sample in stack.enter_context(closing(overlapped(shots, *steps))):
            yield sample


def _model(
    run: str, target: str, models: Path, exports: Path, predict: Mapping[str, Any] | None
) -> tuple[Path, ModelSpec]:
    folder = model_folder(models, run)
    place = folder if target == TORCH else exported_file(exports / run, target)
    spec = read_spec((folder if target == TORCH else exports / run) / "model.json")
    return place, with_predict(spec, predict)


@dataclass(frozen=True, slots=True)
class _There:
    """A file -> what the model at `place` says of it, and what is bad; the process keeps the model for the next one."""

    target: str
    place: Path
    sha256: str
    spec: ModelSpec
    every: int

    def __call__(self, file: _Source) -> tuple[list[Sample], list[str]]:
        runtime, bad = _same_runtime(self.target, self.place, self.sha256), list[str]()
        shots = _shots([file], self.every, None, bad, shown=False)
        return [_predicted(runtime, self.spec, _resized(self.spec, shot))[1] for shot in shots], bad


@lru_cache(maxsize=1)
def _same_runtime(target: str, place: Path, code: str) -> Runtime:
    if not place.exists() or sha256(place) != code:
        raise InputError(f"{place}: not the same model on all machines; expected a shared folder")
    return open_runtime(target, place)


def _file_of(file: _Source) -> Path:
    return Path(file.name)


def _resized(spec: ModelSpec, shot: Shot) -> tuple[Shot, Images, Frame]:
    return shot, *prepare(shot.image, spec)


def _predicted(runtime: Runtime, spec: ModelSpec, given: tuple[Shot, Images, Frame]) -> tuple[Shot, Sample]:
    shot, canvas, frame = given
    sample = predict_resized(runtime, spec, shot.image.size, canvas, frame, shot.name)
    sample.file_name = shot.clip or shot.name
    sample.id, sample.clip = shot.name, shot.clip
    return shot, sample


def _files(source: str) -> list[_Source]:
    """The images and clips of a folder; any other source as it is. What is on the disk is no camera, whatever its
    name. Raises InputError for a folder without any, one of drawings, and a camera whose number is not one.
    """
    kind, _, number = source.partition(":")
    if kind == CAMERA and not os.path.lexists(source):
        if number and not number.isdecimal():
            raise InputError(f"{source}: expected {CAMERA}, or {CAMERA}:1 for the second one")
        return [_Source(source, int(number or 0))]
    if not Path(source).is_dir():
        return [_Source(source)]
    if Path(source, DRAWINGS).is_file():
        raise InputError(f"{source}: these are drawings of predictions, which --draw made; expected what they are of")
    found = sorted(files_under(Path(source), IMAGE_SUFFIXES | CLIP_SUFFIXES))
    if not found:
        raise InputError(f"{source}: no image and no clip in this folder")
    return [_Source(str(f)) for f in found]


def _shots(
    files: list[_Source], every: int, most: int | None, bad: list[str], shown: bool = True
) -> Generator[Shot, None, None]:
    """The images of all `files`; what does not decode is added to `bad`."""
    from pipeline.datasets.video import ClipError, camera, frame_rate, stream

    with tqdm(files, "predict", unit="file", mininterval=0.5, disable=None if shown else True) as bar:
        for file in bar:
            name, live = file.name, file.camera is not None
            if not live and Path(name).suffix.lower() not in CLIP_SUFFIXES:
                try:
                    yield Shot(name, open_image(name))
                except ImageFileError as error:
                    bad.append(str(error))
                continue
            try:
                frames = stream(name) if file.camera is None else camera(file.camera)
                rate = Fraction(25, every) if live else frame_rate(name) / every
                for place, image in enumerate(frames):
                    if live and most is not None and place >= most * every:
                        break
                    bar.set_postfix(frame=place, refresh=False)
                    if place % every == 0:
                        yield Shot(f"{name}#{place}", image, name, rate, live)
            except ClipError as error:
                bad.append(f"{name}: {error}")


class _Drawings:
    """Images and clips with predictions drawn in, and their labels: a line each as they come, under their name at the
    end (a camera's is Ctrl+C). What is not finished when something fails is removed.
    """

    def __init__(self, folder: DrawingFolder, dataset: Dataset) -> None:
        self.folder, self.dataset = folder, dataset
        self._clip: tuple[str, ClipWriter] | None = None

    def __enter__(self) -> "_Drawings":
        self.folder.make("dataset.json", "metadata.jsonl")
        with _drawing_of(str(self.folder.path)), ExitStack() as files:
            write_dataset(self.folder.path, self.dataset)
            place = files.enter_context(new_file(self.folder.path / "metadata.jsonl"))
            self._labels = files.enter_context(place.open("w", encoding="utf-8", errors="backslashreplace"))
            self._open = files.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None or issubclass(kind, (GeneratorExit, KeyboardInterrupt)):
            with _drawing_of(str(self.folder.path)), self._open:
                self._end()
            return
        if self._clip is not None:
            self._clip[1].discard()
        self._open.__exit__(kind, error, trace)

    def add(self, given: tuple[Shot, Sample]) -> tuple[Shot, Sample]:
        """Draws what was predicted, and passes it on."""
        shot, sample = given
        nothing = Sample("", "", shot.image.width, shot.image.height)
        drawn = draw(shot.image, nothing, self.dataset, sample)
        if self._clip is not None and self._clip[0] != shot.clip:
            self._end()
        with _drawing_of(shot.name):
            self._labels.write((sample if shot.live else _from_folder(sample, self.folder.path)).to_line())
            if shot.clip is None:
                with new_file(self.folder.free(Path(shot.name).stem, ".png")) as place:
                    drawn.save(place, "PNG")
                return given
            if self._clip is None:
                from pipeline.datasets.video_write import ClipWriter

                path = self.folder.free(Path(shot.clip.replace(":", "-")).stem, ".mp4")
                self._clip = shot.clip, ClipWriter(path, shot.rate)
            self._clip[1].add(drawn)
        return given

    def _end(self) -> None:
        if self._clip is not None:
            (name, writer), self._clip = self._clip, None
            with _drawing_of(name):
                writer.close()


@contextmanager
def _drawing_of(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{name}: its drawing cannot be written: {error}") from None


def _from_folder(sample: Sample, folder: Path) -> Sample:
    """The same with its file as seen from `folder`, as in all metadata.jsonl."""
    return replace(sample, file_name=Path(os.path.relpath(sample.file_name, folder)).as_posix())
