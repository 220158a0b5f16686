"""How a format is written: where its images go, what it has a place for, and rows on what it has none for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.core.sample import HIDDEN, VISIBLE, Dataset, Landmark, Object, Sample
from pipeline.datasets.formats.points import scheme_of
from pipeline.datasets.formats.reading import Problem

DIGITS = (0, 1, 2, 3, 6, 9, 12)  # behind the point, of which the fewest are taken


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that an image may have and a format may have no place for. `count` says how many an image has."""

    words: str
    count: Callable[[Sample], int]
    without: Callable[[Sample], Sample]


def _of_objects(change: Callable[[Object], Object]) -> Callable[[Sample], Sample]:
    return lambda s: replace(s, objects=[change(o) for o in s.objects])


def _unhidden(o: Object) -> Object:
    return replace(o, landmarks=[replace(p, visibility=VISIBLE) if p.visibility else p for p in o.landmarks])


def _all_points(sample: Sample) -> Iterable[Landmark]:
    return (p for o in sample.objects for p in o.landmarks)


KINDS = {
    "image_labels": Kind("classes of images", lambda s: s.label is not None, lambda s: replace(s, label=None)),
    "boxes": Kind("boxes", lambda s: len(s.objects), lambda s: replace(s, objects=[])),
    "crowds": Kind(
        "marks of a crowd",
        lambda s: sum(o.crowd for o in s.objects),
        _of_objects(lambda o: replace(o, crowd=False)),
    ),
    "landmarks": Kind(
        "landmarks",
        lambda s: sum(p.visibility > 0 for p in _all_points(s)),
        _of_objects(lambda o: replace(o, landmarks=[])),
    ),
    "hidden": Kind(
        "marks of a hidden landmark",
        lambda s: sum(p.visibility == HIDDEN for p in _all_points(s)),
        _of_objects(_unhidden),
    ),
    "splits": Kind("splits of images", lambda s: s.split is not None, lambda s: replace(s, split=None)),
    "groups": Kind("groups of images", lambda s: s.group is not None, lambda s: replace(s, group=None)),
    "clips": Kind("clips of images", lambda s: s.clip is not None, lambda s: replace(s, clip=None)),
    "ids": Kind("ids of images", lambda _: 1, lambda s: replace(s, id="")),
}
# what a set has as a whole; `both` is a class of an image that has boxes too
SET_KINDS = {
    "both": "classes of images beside boxes",
    "lone_split": "a split that is the only one",
    "classes": "the list of classes",
    "pairs": "left-right pairs of landmarks that their names do not say",
    "skeleton": "lines between landmarks",
}


@dataclass(slots=True)
class Lost:
    """What does not go over into a format: `problems` of one thing each, and counts of what is said once for all."""

    problems: list[Problem] = field(default_factory=list)
    _counts: dict[tuple[str, str, str, str], tuple[int, str]] = field(default_factory=dict)

    def count(self, rule: str, words: str, file: str, number: int = 1, done: str = "noted", key: str = "") -> None:
        """`number` more of what `words` say, a plural; `file` is where the first one is."""
        before, first = self._counts.get((key, rule, words, done), (0, file))
        self._counts[key, rule, words, done] = (before + number, first)

    def rows(self) -> list[Problem]:
        """All that was lost, as rows of a ledger."""
        counted = [
            Problem("", key, rule, f"{words}: {number}, the first in {first}", done)
            for (key, rule, words, done), (number, first) in self._counts.items()
        ]
        return [*counted, *self.problems]


@dataclass(frozen=True, slots=True)
class Writer:
    """How a format is written.

    `place(split, name)` is where the image `name`, a path with folders, goes, relative to the new folder; it keeps
    names apart that are. `keeps` are the KINDS and SET_KINDS that come back when the format's own `read` reads what
    was written; boxes and landmarks come back to within `tolerance` pixels, 0 for rounding errors of floats alone.

    `write(folder, dataset, samples, lost)` writes the labels into the folder while it takes the samples, each of
    which it gets without what the format does not keep; `file_name` is relative to the folder, and the image is there.
    What it has to leave out all the same it says in `lost`. It keeps no sample: there may be millions.

    With `stems`, labels are in a file per image that is named by the image's name without its suffix, and `place`
    never gives two images one of that. Images with other suffixes than `suffixes` are written as PNG (None: any go).
    """

    place: Callable[[str | None, str], str]
    write: Callable[[Path, Dataset, Iterable[Sample], Lost], None]
    keeps: frozenset[str]
    tolerance: float = 0.0
    stems: bool = False
    suffixes: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if unknown := self.keeps - KINDS.keys() - SET_KINDS.keys():
            raise ValueError(f"keeps {sorted(unknown)}; expected of {', '.join((*KINDS, *SET_KINDS))}")


def kept(writer: Writer, boxes: bool) -> frozenset[str]:
    """The kinds that are kept of a set with or without `boxes`: beside these, not every format has classes of images.

    >>> only = Writer(lambda split, name: name, lambda *_: None, frozenset({"image_labels", "boxes"}))
    >>> sorted(kept(only, boxes=True)), sorted(kept(only, boxes=False))
    (['boxes'], ['boxes', 'image_labels'])
    """
    return writer.keeps - {"image_labels"} if boxes and "both" not in writer.keeps else writer.keeps


def held(sample: Sample, kinds: frozenset[str]) -> Sample:
    """The sample without what is not of these kinds.

    >>> held(Sample("1", "1.jpg", 64, 48, label="cow", group="g"), frozenset({"image_labels", "ids"})).group is None
    True
    """
    for name, kind in KINDS.items():
        if name not in kinds:
            sample = kind.without(sample)
    return sample


def held_set(dataset: Dataset, kinds: frozenset[str]) -> Dataset:
    """The dataset without what is not of these kinds; pairs are then those that the landmarks' names say.

    >>> faces = Dataset("faces", ["face"], ["left_eye", "right_eye", "nose"], skeleton=[(0, 2)])
    >>> held_set(faces, frozenset({"landmarks"})).pairs
    [(0, 1)]
    """
    if "landmarks" not in kinds:
        return replace(dataset, landmarks=[], pairs=[], skeleton=[])
    pairs, skeleton = scheme_of(dataset.landmarks)
    pairs = dataset.pairs if "pairs" in kinds else pairs
    return replace(dataset, pairs=pairs, skeleton=dataset.skeleton if "skeleton" in kinds else skeleton)


def in_pixels(value: float, side: int) -> float:
    """A share of a `side` as the shortest number of pixels that reads back as that share: 7, and not 7.000000000000001.

    >>> in_pixels(7 / 25, 25), in_pixels(0.5, 25)
    (7, 12.5)
    """
    exact = value * side
    short = (round(exact, digits) for digits in DIGITS)
    found = next((number for number in short if number / side == value), exact)
    return int(found) if found == int(found) else found
