"""Images as they are, one after another, into a new folder, each with its checked labels."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image
from tqdm import tqdm

from pipeline.core.image_file import DecodedImage, ImageFileError, decode_image
from pipeline.core.sample import Sample
from pipeline.datasets.formats.reading import Candidate, Problem
from pipeline.datasets.formats.writing import KINDS, Lost, held
from pipeline.datasets.ingest.checks import LabelledSizeError, checked
from pipeline.datasets.ingest.take import QUALITY, Taken, cut, of_frame
from pipeline.datasets.video import ClipError, frames


@dataclass(slots=True)
class Copying:
    """What is copied into `folder`, and what came of it: `taken`, a row per candidate, its samples without objects.

    `objects` counts those that were read, checked (that passed), and refused with their image; `used` are the classes
    of what is written; `kinds` is what the target keeps.
    """

    candidates: list[Candidate]
    names: list[str]
    folder: Path
    kinds: frozenset[str]
    lost: Lost
    taken: list[Taken] = field(default_factory=list)
    objects: Counter[str] = field(default_factory=Counter)
    used: set[str] = field(default_factory=set)

    def samples(self) -> Iterator[Sample]:
        """Each sample when its image is there, without what the target does not keep."""
        read = lru_cache(maxsize=1)(_decoded)  # crops of one image stand in a row
        for candidate, name in zip(tqdm(self.candidates, "convert", mininterval=0.5), self.names, strict=True):
            if candidate.frames is None:
                taken = self._image(candidate, name, read(candidate.file))
            else:
                taken = self._clip(candidate, name)
            for sample in taken.samples:
                self._say(candidate.name, sample)
                yield held(sample, self.kinds)
            taken.samples = [replace(sample, objects=[]) for sample in taken.samples]
            self.taken.append(taken)

    def _image(self, candidate: Candidate, name: str, decoded: DecodedImage | ImageFileError) -> Taken:
        taken = Taken()
        self.objects["read"] += len(candidate.objects)
        try:
            if isinstance(decoded, ImageFileError):
                raise decoded
            objects, problems, taken.clipped_silently = checked(candidate, decoded)
        except (ImageFileError, LabelledSizeError) as error:
            rule, found = ("size_mismatch", str(error))
            if isinstance(error, ImageFileError):
                rule, found = error.rule, error.found
            taken.problems.append(Problem(candidate.name, "", rule, found))
            self.objects["refused"] += len(candidate.objects)
            return taken
        taken.problems += problems
        taken.size, taken.orientation = decoded.size, decoded.orientation
        size = self._place(candidate, name, decoded)
        c = candidate
        taken.samples.append(Sample(c.id, name, *size, c.split, c.group, c.clip, c.label, objects=objects))
        return taken

    def _place(self, candidate: Candidate, name: str, decoded: DecodedImage) -> tuple[int, int]:
        """Write the image; its width and height."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if candidate.crop:
            square = cut(decoded.image, candidate.crop)
            square.save(file, "JPEG", quality=QUALITY)
            self.lost.count("written_anew", "crops, written as JPEG", candidate.name)
            return square.size
        if PurePosixPath(candidate.name).suffix == file.suffix:
            shutil.copyfile(candidate.file, file)
            if decoded.orientation > 1:
                said = "images that EXIF turns, copied as they are under labels of the upright image"
                self.lost.count("turned_by_exif", said, candidate.name)
        else:
            decoded.image.save(file, "PNG", compress_level=1)
            self.lost.count("written_anew", f"images, written as {file.suffix}", candidate.name)
        return decoded.size

    def _clip(self, candidate: Candidate, name: str) -> Taken:
        taken = Taken()
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            for place, _, image in frames(candidate.file, candidate.frames or 1, candidate.marks):
                taken.samples.append(self._frame(candidate, f"{name}-{place:05d}.jpg", image, place, taken))
        except ClipError as error:
            for sample in taken.samples:
                (self.folder / sample.file_name).unlink()
            return Taken(problems=[Problem(candidate.name, "", "unreadable_clip", str(error))])
        taken.seen = len(taken.samples)
        dropped = sum(problem.done == "dropped" for problem in taken.problems)
        self.objects["read"] += dropped + sum(len(sample.objects) for sample in taken.samples)
        return taken

    def _frame(self, candidate: Candidate, name: str, image: Image.Image, place: int, taken: Taken) -> Sample:
        image.save(self.folder / name, "JPEG", quality=QUALITY)
        objects, problems, clipped_silently = of_frame(candidate, place, image.size)
        taken.problems += problems
        taken.clipped_silently += clipped_silently
        self.lost.count("written_anew", "frames of clips, written as JPEG", candidate.name)
        c = candidate
        id = f"{c.id}-{place:05d}"
        return Sample(id, name, *image.size, c.split, c.group, c.clip, c.label, objects=objects)

    def _say(self, name: str, sample: Sample) -> None:
        """Count the sample, and what of it the target does not keep."""
        self.used |= {o.label for o in sample.objects} | ({sample.label} if sample.label is not None else set())
        for key, kind in KINDS.items():
            if key not in self.kinds and (number := kind.count(sample)):
                self.lost.count("not_kept", kind.words, name, number, "dropped", key)
        self.objects["checked"] += len(sample.objects)


def _decoded(file: Path) -> DecodedImage | ImageFileError:
    try:
        return decode_image(file, None, whole=True)
    except ImageFileError as error:
        return error
