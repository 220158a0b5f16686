"""Images as they are, in order, into a new folder, each with its checked labels."""

import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from joblib import cpu_count
from PIL import Image
from tqdm import tqdm

from pipeline.core.image_file import DecodedImage, ImageFileError, decode_image
from pipeline.core.sample import Sample
from pipeline.datasets.formats.reading import Candidate, Problem
from pipeline.datasets.formats.writing import KINDS, Lost, held
from pipeline.datasets.ingest.checks import LabelledSizeError, checked
from pipeline.datasets.ingest.take import QUALITY, Taken, by_file, cut, of_damage, of_frame
from pipeline.datasets.video import ClipError, frames

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class Copied:
    """What came of one candidate; `notes` (rule, words) say how its images were written."""

    taken: Taken
    notes: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Copying:
    """What is copied into `folder`, and what came of it: `taken`, a row per candidate, its samples without objects.

    `objects` passed the checks; `used` are the classes of what is written; `kinds` is what the target keeps.
    """

    candidates: list[Candidate]
    names: list[str]
    folder: Path
    kinds: frozenset[str]
    lost: Lost
    taken: list[Taken] = field(default_factory=list)
    objects: int = 0
    used: set[str] = field(default_factory=set)

    def samples(self) -> Generator[Sample]:
        """Each sample when its image is there, without what the target does not keep."""
        names = iter(self.names)
        rows = [[(candidate, next(names)) for candidate in members] for members in by_file(self.candidates)]
        work = in_threads(partial(_copy, folder=self.folder), rows)
        with closing(work) as made, tqdm(total=len(self.candidates), desc="convert", mininterval=0.5) as bar:
            for row, copied in zip(rows, made, strict=True):
                for (candidate, _), one in zip(row, copied, strict=True):
                    self._count(candidate, one)
                    for sample in one.taken.samples:
                        yield held(sample, self.kinds)
                    one.taken.samples = [replace(sample, objects=[]) for sample in one.taken.samples]
                    bar.update()

    def _count(self, candidate: Candidate, copied: Copied) -> None:
        """Count what is written, and what of it the target does not keep."""
        self.taken.append(copied.taken)
        for rule, words in copied.notes:
            self.lost.count(rule, words, candidate.name)
        for sample in copied.taken.samples:
            self.used |= {o.label for o in sample.objects} | ({sample.label} if sample.label is not None else set())
            self.objects += len(sample.objects)
            for key, kind in KINDS.items():
                if key not in self.kinds and (number := kind.count(sample)):
                    self.lost.count("not_kept", kind.words, candidate.name, number, "dropped", key)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
    """`function` of each item, in order, a few ahead of what is taken: decoders let other threads work.

    >>> list(in_threads(len, ["cow", "goat"]))
    [3, 4]
    """
    threads = cpu_count()
    pool = ThreadPoolExecutor(threads)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _copy(row: list[tuple[Candidate, str]], folder: Path) -> list[Copied]:
    """A clip or an image, or the crops of one image, each with the name that it gets."""
    [first, *_] = row
    if first[0].frames is not None:
        return [_clip(*first, folder)]
    try:
        decoded = decode_image(first[0].file, None, whole=True)
    except ImageFileError as error:
        return [_refused(candidate, error.rule, error.found) for candidate, _ in row]
    return [_image(candidate, name, decoded, folder) for candidate, name in row]


def _refused(candidate: Candidate, rule: str, found: str) -> Copied:
    return Copied(Taken(problems=[Problem(candidate.name, "", rule, found)]))


def _image(candidate: Candidate, name: str, decoded: DecodedImage, folder: Path) -> Copied:
    try:
        objects, problems, clipped_silently = checked(candidate, decoded)
    except LabelledSizeError as error:
        return _refused(candidate, "size_mismatch", str(error))
    taken = Taken(problems=problems, clipped_silently=clipped_silently)
    taken.size, taken.orientation = decoded.size, decoded.orientation
    if not candidate.crop:
        taken.brightest = int(np.asarray(decoded.image).max())
    size, notes = _place(candidate, decoded, folder / name)
    taken.samples = [_sample(candidate, candidate.id, name, size)]
    taken.samples[0].objects = objects
    return Copied(taken, notes)


def _sample(c: Candidate, id: str, name: str, size: tuple[int, int]) -> Sample:
    return Sample(id, name, *size, c.split, c.group, c.clip, c.label)


def _place(candidate: Candidate, decoded: DecodedImage, file: Path) -> tuple[tuple[int, int], list[tuple[str, str]]]:
    """Write the image; its width and height, and what is to be noted."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if candidate.crop:
        square = cut(decoded.image, candidate.crop)
        square.save(file, "JPEG", quality=QUALITY)
        return square.size, [("written_anew", "crops, written as JPEG")]
    if PurePosixPath(candidate.name).suffix != file.suffix:
        decoded.image.save(file, "PNG", compress_level=1)
        return decoded.size, [("written_anew", f"images, written as {file.suffix}")]
    shutil.copyfile(candidate.file, file)
    said = "images that EXIF turns, copied as they are under labels of the upright image"
    return decoded.size, [("turned_by_exif", said)] if decoded.orientation > 1 else []


def _clip(candidate: Candidate, name: str, folder: Path) -> Copied:
    taken = Taken()
    faults: list[str] = []
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        for place, _, image in frames(candidate.file, candidate.frames or 1, candidate.marks, faults):
            taken.samples.append(_frame(candidate, f"{name}-{place:05d}.jpg", image, place, folder, taken))
    except ClipError as error:
        for sample in taken.samples:
            (folder / sample.file_name).unlink()
        return _refused(candidate, "unreadable_clip", str(error))
    taken.seen = len(taken.samples)
    taken.problems += of_damage(candidate.name, faults)
    return Copied(taken, [("written_anew", "frames of clips, written as JPEG")] * taken.seen)


def _frame(candidate: Candidate, name: str, image: Image.Image, place: int, folder: Path, taken: Taken) -> Sample:
    image.save(folder / name, "JPEG", quality=QUALITY)
    taken.size = image.size
    sample = _sample(candidate, f"{candidate.id}-{place:05d}", name, image.size)
    sample.objects, problems, clipped_silently = of_frame(candidate, place, image.size)
    taken.problems += problems
    taken.clipped_silently += clipped_silently
    return sample
