"""Copies of the train split, made once: data/augmented/<dataset>/ and what a person should look at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.augment.draws import FILTERED, Column, draws_sheet, filtered, spread, vary
from pipeline.augment.params import AugmentParams
from pipeline.augment.policies import DRAWS, Augment, augmenter, why_unfit
from pipeline.augment.policies.policy import Pixels
from pipeline.augment.policies.selftest import self_test
from pipeline.augment.policies.sides import unpaired
from pipeline.augment.steps import Grabcut, Step, before_the_net, train_only
from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, write_json
from pipeline.core.image_file import open_image
from pipeline.core.links import link_or_copy
from pipeline.core.parallel import each, own_place
from pipeline.core.room import least_of_image, need_room
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples, write_dataset, write_samples

QUALITY = 95  # of the copies' JPEG
SHEET_ROWS, SHEET_DRAWS = 8, 4
FEW = 2000  # copies that one process makes before others have imported their libraries
LIKE_FILTERED = 50  # copies that take as long as one that was filtered


def augment_dataset(
    ingested: Path, out: Path, reports: Path, params: AugmentParams, steps: Sequence[Step] = ()
) -> dict[str, int]:
    """Write the train split of `ingested` to `out`: the originals and `params.copies` varied copies of each.

    `reports` gets contact_sheet.jpg (originals beside their draws) and self_test.json. The self-test comes first:
    where it fails nothing is written. A copy depends on the seed, its original and its number, not on what else is
    in the split. `steps` are the dataset's preprocessing: those before a net are written into dataset.json, those of
    training alone make one more copy of each original.

    Returns the counts: originals, copies, stayed (copies whose geometry was given up because every draw lost an
    object), filtered (of the copies, those by `steps`) and ellipses (boxes that GrabCut found no foreground in). Raises
    InputError where the split is empty, an image is missing or broken or has objects that the policy does not move, or
    `steps` ask for boxes that there are none of.
    """
    dataset, samples = read_dataset(ingested), read_samples(ingested / "train")
    if not samples:
        raise InputError(f"{ingested / 'train' / 'metadata.jsonl'}: no images; expected at least one to augment")
    objects = any(s.objects for s in samples)
    if objects and (unfit := why_unfit(params.policy, "detect")):
        raise InputError(f"{ingested / 'train'}: images with objects; {unfit}")
    filters = train_only(list(steps))
    _check_boxes(filters, dataset.name, objects)
    _check_names(ingested / "train", samples, params.copies, bool(filters))
    augment = augmenter(params.policy, dataset, objects)
    if params.policy != "none" and not augment.mirrors:
        tqdm.write(f"{dataset.name}: {unpaired(dataset)}")
    _stay_inside(ingested / "train", samples)
    originals = sum(least_of_image(ingested / "train" / s.file_name, s.width * s.height) for s in samples)
    need_room(out, originals * (params.copies + bool(filters)))
    key = f"datasets.{dataset.name}.augment.policy"
    tested = self_test(augment, samples, params.seed, lambda s: _pixels(_found(ingested / "train", s)), key)
    with new_folder(out) as folder:
        work = _Copying(ingested / "train", folder, augment, params.copies, params.seed, filters)
        few = len(samples) * (params.copies + LIKE_FILTERED * bool(filters)) < FEW
        made = each(work, samples, f"augment {dataset.name}", 1 if few else None, work.file_of, folder)
        rows = [row for rows, _, _ in made for row in rows]
        write_samples(folder, rows)
        counts = {"train": len(rows)}
        write_dataset(folder, replace(dataset, counts=counts, preprocess=before_the_net(list(steps))))
    by_steps = {"filtered": len(samples) * bool(filters), "ellipses": sum(ellipses for *_, ellipses in made)}
    with new_folder(reports) as folder:
        sheet = _contact_sheet(work, samples, dataset, steps)
        sheet.save(folder / "contact_sheet.jpg", quality=90)
        write_json(folder / "self_test.json", tested | (by_steps if filters else {}))
    stayed = sum(stayed for _, stayed, _ in made)
    return {"originals": len(samples), "copies": len(rows) - len(samples), "stayed": stayed, **by_steps}


def _stay_inside(folder: Path, samples: list[Sample]) -> None:
    """Raises InputError for a file name under which a copy would be written elsewhere."""
    for sample in samples:
        path = PurePosixPath(sample.file_name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise InputError(f"{folder / 'metadata.jsonl'}: {sample.file_name!r} leads out of its folder")


def _check_boxes(filters: list[Step], name: str, objects: bool) -> None:
    if not objects and any(isinstance(step, Grabcut) and step.around == "objects" for step in filters):
        found = f"datasets.{name}.preprocess: grabcut: around: objects, and no training image has a box"
        raise InputError(f"{found}; expected around: centre")


def _check_names(folder: Path, samples: list[Sample], copies: int, filters: bool) -> None:
    """Raise InputError if a copy would have the id or the file of another original, as of a split that has copies."""
    there = {s.id: s for s in samples} | {s.file_name: s for s in samples}
    for sample in samples:
        for what in [*map(str, range(1, copies + 1)), *([FILTERED] if filters else [])]:
            copy = _copy_id(sample.id, what)
            if other := there.get(copy) or there.get(_copy_name(sample.file_name, what)):
                found = f"{other.id!r} ({other.file_name}) is called as a copy of {sample.id!r} ({sample.file_name})"
                raise InputError(f"{folder}: {found} would be; expected originals only, or other names")


@dataclass(frozen=True)
class _Copying:
    """Sample -> the rows of itself and its copies, whose images are then in `out`, how many stayed in place, and of how
    many foregrounds an ellipse took the place.
    """

    source: Path
    out: Path
    augment: Augment
    copies: int
    seed: int
    filters: Sequence[Step]

    def file_of(self, sample: Sample) -> Path:
        return self.source / sample.file_name

    def __call__(self, sample: Sample) -> tuple[list[Sample], int, int]:
        target = self.out / sample.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        path = _found(self.source, sample)
        with own_place(target) as place:
            link_or_copy(path, place)
        rows, stayed, ellipses = [sample], 0, 0
        pixels = _pixels(path)  # without copies too: a broken image should stop here, not in training
        for number in range(1, self.copies + 1):
            varied, objects, rejected = vary(self.augment, pixels, sample, number, self.seed)
            rows.append(self._written(varied, replace(sample, objects=objects), str(number)))
            stayed += rejected == DRAWS
        if self.filters:
            varied, ellipses = filtered(self.filters, pixels, sample, self.seed)
            rows.append(self._written(varied, sample, FILTERED))
        return rows, stayed, ellipses

    def _written(self, pixels: Pixels, sample: Sample, what: str) -> Sample:
        copy = replace(
            sample,
            id=_copy_id(sample.id, what),
            file_name=_copy_name(sample.file_name, what),
            group=sample.group or sample.id,
        )
        if pixels.shape != (sample.height, sample.width, 3):
            height, width = pixels.shape[:2]
            raise InputError(
                f"{self.file_of(sample)}: its copy is {width} x {height} pixels; expected {sample.width} x "
                f"{sample.height}, as its row in metadata.jsonl says"
            )
        with own_place(self.out / copy.file_name) as place:
            Image.fromarray(pixels).save(place, "JPEG", quality=QUALITY)
        return copy


def _copy_id(id: str, what: str) -> str:
    return f"{id}~{what}"


def _copy_name(file_name: str, what: str) -> str:
    """cat.jpg -> cat~1.jpg; of another suffix all is kept, so that cat.png's copy has a name of its own."""
    path = PurePosixPath(file_name)
    stem = path.stem if path.suffix == ".jpg" else path.name
    return str(path.with_name(f"{stem}~{what}.jpg"))


def _found(folder: Path, sample: Sample) -> Path:
    path = folder / sample.file_name
    if not path.is_file():
        raise InputError(f"{path}: no such file; {folder / 'metadata.jsonl'} names it")
    return path


def _pixels(path: Path) -> Pixels:
    return np.asarray(open_image(path))


def _contact_sheet(work: _Copying, samples: list[Sample], dataset: Dataset, steps: Sequence[Step]) -> Image.Image:
    """A row per sample: the original, what `steps` make of it, and its first draws where there is something to draw."""
    drawn = 0 if work.augment.policy == "none" else SHEET_DRAWS
    more = "draw {}, not kept" if work.copies else "draw {}"  # of a policy whose first draws are copies
    titles = [f"copy {n}" if n <= work.copies else more.format(n) for n in range(1, drawn + 1)]
    columns = [Column(work.augment, number, title) for number, title in enumerate(titles, 1)]
    pictures = ((_pixels(work.file_of(s)), s) for s in spread(samples, SHEET_ROWS))
    return draws_sheet(pictures, dataset, columns, work.seed, told=False, steps=steps)
