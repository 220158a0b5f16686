"""What lies on both sides of a split: the same images, similar ones, groups; and what they add to a test's figure."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.core.errors import InputError, shown
from pipeline.core.image_file import open_image
from pipeline.core.parallel import each
from pipeline.core.sample import SPLITS, Dataset, Sample, read_dataset, read_samples
from pipeline.datasets.formats.reading import Problem
from pipeline.datasets.ingest.similar import ROWS, Likeness, digest, thumbnail
from pipeline.datasets.ingest.sources import nothing_usable, read_source
from pipeline.datasets.ingest.splits import by_source
from pipeline.datasets.ingest.take import by_file, ended, source, take_all
from pipeline.datasets.params import DatasetParams

KINDS = ("identical", "similar", "group")  # from the worst
NAMED = 5  # of an image's twins in another split
LISTED = 20  # pairs that the text names
NO_RUN = "no run of params.yaml learns from it, whose backbone could tell images apart"
ONE_LABEL = "it takes images in train and in val or test, of two labels; of boxes that of most objects counts"


@dataclass(slots=True)
class Images:
    """A dataset's images in `folder`, each with its split and what near-duplicates are told by; and the rows of the
    source about what is not among them.
    """

    dataset: Dataset
    folder: Path
    samples: list[Sample] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)


@dataclass(slots=True)
class Pair:
    """Image `held_out`, of val or test, and its `twin` in a split nearer to training; `bits` is how far the hashes of
    similar ones are apart.
    """

    kind: str
    held_out: str
    twin: str
    splits: tuple[str, str]
    bits: int | None = None


@dataclass(slots=True)
class Price:
    """Accuracy of the nearest neighbour in train among the features of `backbone`: on all `images` of `split`, on the
    `clean` ones without a twin in train, on the `leaking` others, and on all of them where their twins leave train.
    """

    backbone: str
    split: str
    images: int
    leaking_images: int
    twins: int
    all: float
    clean: float | None
    leaking: float | None
    without_twins: float | None


@dataclass(slots=True)
class Leaks:
    """The pairs, the worst first, up to `NAMED` of each held-out image and kind; `counts` images that leak, as
    "identical: test in train"; ids of those that leak from train, and of their twins there by the split that has them
    too; by rule how many files were not looked at; `unpriced` says why there is no price.
    """

    dataset: str
    images: dict[str, int]
    counts: dict[str, int]
    pairs: list[Pair]
    leaking: set[str]
    twins: dict[str, set[str]]
    refused: dict[str, int]
    price: Price | None = None
    unpriced: str = ""

    def to_json(self) -> dict[str, Any]:
        price = asdict(self.price) if self.price else None
        head = {"dataset": self.dataset, "images": self.images, "refused": self.refused, "counts": self.counts}
        return head | {"pairs": [asdict(pair) for pair in self.pairs], "price": price, "unpriced": self.unpriced}


@contextmanager
def source_images(name: str, params: DatasetParams) -> Iterator[Images]:
    """The images as their owner splits them, decoded and scaled as `ingest` does, in a folder that goes again. What is
    not placed is train. Raises InputError if there are none, or the source does not split them.
    """
    reading = read_source(name, params)
    if not reading.candidates:
        raise InputError(f"datasets.{name}: {nothing_usable(params, reading)}")
    if not by_source([Sample(c.id, "", 1, 1, c.split) for c in reading.candidates]):
        raise InputError(f"datasets.{name}: the source has no splits of its own; expected some, or --split ours")
    with TemporaryDirectory() as folder:
        work = partial(take_all, folder=Path(folder), max_side=params.max_side)
        files = by_file(reading.candidates)
        rows = each(work, files, f"read {name}", reads=source, writes=Path(folder), ended=ended)
        taken = [one for row in rows for one in row]
        dataset = Dataset(name, reading.labels, reading.landmarks, reading.pairs, reading.skeleton)
        images = Images(dataset, Path(folder))
        for one in taken:
            images.samples += one.samples
            images.thumbnails += one.thumbnails
            images.digests += one.digests
        problems = [*reading.problems, *(problem for one in taken for problem in one.problems)]
        images.refused = [problem for problem in problems if problem.done == "refused"]
        for s in images.samples:
            s.split = s.split or "train"
        yield images


@contextmanager
def ingested_images(folder: Path) -> Iterator[Images]:
    """The images of a dataset as `ingest` has split them. Raises InputError if it is not there."""
    images = Images(read_dataset(folder), folder)
    for split in SPLITS:
        found = read_samples(folder / split)
        images.samples += [replace(s, split=split, file_name=f"{split}/{s.file_name}") for s in found]
    for s in tqdm(images.samples, "look at images", unit="image", mininterval=0.5, disable=None):
        pixels = open_image(folder / s.file_name)
        images.thumbnails.append(thumbnail(pixels))
        images.digests.append(digest(pixels))
    yield images


def twins_of(folder: Path, bits: int) -> dict[str, list[str]]:
    """id -> the ids of what is identical or similar to it in another split of the ingested dataset in `folder`."""
    found: dict[str, list[str]] = defaultdict(list)
    with ingested_images(folder) as images:
        for pair in find_leaks(images, bits).pairs:
            if pair.kind != "group":
                found[pair.held_out].append(pair.twin)
                found[pair.twin].append(pair.held_out)
    return found


def find_leaks(images: Images, bits: int) -> Leaks:
    """All that val has of train, and test of train or val. `bits` as a dataset's `near_duplicate_bits`."""
    splits = np.array([SPLITS.index(str(s.split)) for s in images.samples])
    found: list[tuple[int, int, Pair]] = []
    leaking: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    from_train: set[str] = set()
    in_train: dict[str, set[str]] = defaultdict(set)
    groups = [s.group for s in images.samples]
    all_twins = _by_key(images.digests, splits), _similar(images, splits, bits), _by_key(groups, splits)
    for kind, twins_of in zip(KINDS, all_twins, strict=True):
        for i, twins, far in twins_of:
            s = images.samples[i]
            for j, bit in sorted(zip(twins, far, strict=True), key=lambda twin: (twin[1] or 0, twin[0]))[:NAMED]:
                pair = Pair(kind, s.id, images.samples[j].id, (str(s.split), str(images.samples[j].split)), bit)
                found.append((KINDS.index(kind), bit or 0, pair))
            for split in {str(images.samples[j].split) for j in twins}:
                leaking[kind, str(s.split), split].add(i)
            if trained := [images.samples[j].id for j in twins if splits[j] == 0]:
                from_train.add(s.id)
                in_train[str(s.split)].update(trained)
    named: dict[tuple[str, str], Pair] = {}
    for _, _, pair in sorted(found, key=lambda row: (row[0], row[1], row[2].held_out, row[2].twin)):
        named.setdefault((pair.held_out, pair.twin), pair)  # what is identical is similar too
    counts = {
        f"{kind}: {split} in {nearer}": len(members) for (kind, split, nearer), members in sorted(leaking.items())
    }
    return Leaks(
        images.dataset.name,
        {split: int((splits == i).sum()) for i, split in enumerate(SPLITS)},
        counts,
        list(named.values()),
        from_train,
        in_train,
        dict(Counter(problem.rule for problem in images.refused)),
    )


Twins = Iterator[tuple[int, list[int], list[int | None]]]


def _by_key(keys: list[Any], splits: NDArray[np.int64]) -> Twins:
    members: dict[Any, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key is not None:
            members[key].append(i)
    for same in members.values():
        if len({int(splits[i]) for i in same}) > 1:
            for i in same:
                if twins := [j for j in same if splits[j] < splits[i]]:
                    yield i, twins, [None] * len(twins)


def _similar(images: Images, splits: NDArray[np.int64], bits: int) -> Twins:
    """Images that are alike and not the same, as near-duplicates are told: exact, in blocks of pairs."""
    if not images.samples:
        return
    likeness = Likeness(np.array(images.thumbnails), [None] * len(splits), bits)
    for held_out in (1, 2):
        nearer = np.flatnonzero((splits < held_out) & likeness.shaped)
        further = np.flatnonzero((splits == held_out) & likeness.shaped)
        for start in range(0, len(further) if len(nearer) else 0, ROWS):
            rows = further[start : start + ROWS]
            a, b = likeness.alike(rows, nearer)
            far = likeness.differing(rows[a], nearer[b])
            for place in np.unique(a).tolist():
                i, own = int(rows[place]), a == place
                twins = zip(nearer[b[own]].tolist(), far[own].tolist(), strict=True)
                if kept := [(j, bit) for j, bit in twins if images.digests[j] != images.digests[i]]:
                    yield i, [j for j, _ in kept], [bit for _, bit in kept]


def nearest_labels(train: NDArray[np.float32], labels: list[str], asked: NDArray[np.float32]) -> list[str]:
    """The label of the row of `train` [N, C] that is nearest to each row of `asked` [M, C]; rows have length 1."""
    nearest = [np.argmax(asked[start : start + ROWS] @ train.T, axis=1) for start in range(0, len(asked), ROWS)]
    return [labels[i] for i in np.concatenate(nearest)] if nearest else []


def priced(leaks: Leaks, images: Images, features: NDArray[np.float32], backbone: str) -> Price | None:
    """What the leaks between train and the split that is furthest from it are worth; None without images, or
    with one label.

    `features` [N, C] are of the images, in their order. An image's label is its own, or that of most of its objects.
    """
    held_out = next((split for split in reversed(SPLITS[1:]) if leaks.images[split]), None)
    rows = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-12))
    labels = [_label(s) for s in images.samples]
    train = [i for i, s in enumerate(images.samples) if s.split == "train"]
    test = [i for i, s in enumerate(images.samples) if s.split == held_out]
    if not train or not test or len(set(labels)) < 2:
        return None

    def right(gallery: list[int]) -> NDArray[np.bool_]:
        said = nearest_labels(rows[gallery], [labels[i] for i in gallery], rows[test])
        return np.array([said[n] == labels[i] for n, i in enumerate(test)])

    of_all = right(train)
    leaking = np.array([images.samples[i].id in leaks.leaking for i in test])
    twins = leaks.twins.get(str(held_out), set())
    others = [i for i in train if images.samples[i].id not in twins]
    return Price(
        backbone=backbone,
        split=str(held_out),
        images=len(test),
        leaking_images=int(leaking.sum()),
        twins=len(twins),
        all=float(of_all.mean()),
        clean=float(of_all[~leaking].mean()) if not leaking.all() else None,
        leaking=float(of_all[leaking].mean()) if leaking.any() else None,
        without_twins=float(right(others).mean()) if twins and others else None,
    )


def _label(sample: Sample) -> str:
    if sample.label is not None:
        return sample.label
    counts = Counter(o.label for o in sample.objects)
    return min(counts, key=lambda label: (-counts[label], label), default="")


def leaks_text(leaks: Leaks) -> str:
    """What was found, for a person."""
    splits = ", ".join(f"{count} {split}" for split, count in leaks.images.items() if count)
    lines = [f"{leaks.dataset}: {splits}", *(f"  {count} {said}" for said, count in leaks.counts.items())]
    if leaks.refused:
        lines.append(f"  not looked at: {', '.join(f'{count} {rule}' for rule, count in leaks.refused.items())}")
    if not leaks.pairs:
        lines.append("  no image of one split is in another one, nor one like it, nor one of its group")
    for pair in leaks.pairs[:LISTED]:
        far = "" if pair.bits is None else f", {pair.bits} bits apart"
        lines.append(
            f"  {pair.kind}: {shown(pair.held_out)} ({pair.splits[0]}), {shown(pair.twin)} ({pair.splits[1]}){far}"
        )
    if len(leaks.pairs) > LISTED:
        lines.append(f"  and {len(leaks.pairs) - LISTED} more pairs")
    lines += _price_lines(leaks.price) if leaks.price else [f"no price: {leaks.unpriced}"]
    return "\n".join(lines)


def _price_lines(price: Price) -> list[str]:
    rows = [
        (price.all, f"all {price.images} images of {price.split}"),
        (price.clean, f"the {price.images - price.leaking_images} without a twin in train"),
        (price.leaking, f"the {price.leaking_images} that leak"),
        (price.without_twins, f"all, where their {price.twins} twins leave train"),
    ]
    said = [f"  {accuracy:.4f} on {what}" for accuracy, what in rows if accuracy is not None]
    return [f"accuracy of the nearest neighbour by features of {price.backbone}:", *said]
