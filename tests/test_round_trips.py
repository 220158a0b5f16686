"""What is written and read again is what the format holds, for every format that is written."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.core.sample import ABSENT, SPLITS, Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.datasets.convert.convert import convert
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.reading import Candidate, Reading, label_text
from pipeline.datasets.formats.writing import Writer, held, held_set, kept

WRITERS = {name: row.write for name, row in FORMATS.items() if row.write}
ABOUT = ("boxes", "image_labels", "both")
CASES = [(name, about) for name, writer in WRITERS.items() for about in ABOUT if about in writer.keeps]
EXACT = 1e-9  # of a side: what floats make of a number that is divided and multiplied
TRIPS = settings(
    derandomize=True,
    database=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

WORDS = (
    "cow",
    "Cow",
    " goat",
    "a, b",
    'say "moo"',
    "it's",
    "ü",
    "牛",
    "🐄 herd",
    "yes",
    "1",
    "1e3",
    "null",
    "#x",
    "a: b",
    "{}",
)
FOLDERS = ("a", "A", "cam 1", "ünï", "日本", "a.b", "x%20y", "images", "labels", "#1", "it's", "test_tube", "-")
FILES = (
    "1",
    "2",
    "a",
    "A",
    "a.b",
    "train",
    "test",
    "classes",
    "1_png",
    "x%20y",
    "x y",
    "é",
    "e\u0301",
    " 1",
    "牛",
    "a&b",
    "<b>",
)
labels = st.one_of(st.sampled_from(WORDS), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))
labels = labels.map(label_text).filter(lambda label: bool(label.strip()))
names = st.builds(
    lambda folders, base, suffix: "/".join((*folders, base + suffix)),
    st.lists(st.sampled_from(FOLDERS), max_size=2),
    st.sampled_from(FILES),
    st.sampled_from((".png", ".jpg", ".PNG")),
)
shares = st.floats(0, 1, width=32)


@dataclass
class Canonical:
    """A dataset of any kind, and its samples with a name of an image each."""

    dataset: Dataset
    samples: list[Sample]


@st.composite
def boxes(draw: Any) -> tuple[float, float, float, float]:
    """At least a tenth of a side wide and high, in the image."""
    w, h = draw(st.floats(0.1, 1)), draw(st.floats(0.1, 1))
    return draw(shares) * (1 - w), draw(shares) * (1 - h), w, h


@st.composite
def objects(draw: Any, of: list[str], points: int) -> Object:
    landmarks = [
        Landmark(draw(st.floats(0.01, 1)), draw(st.floats(0.01, 1)), draw(st.integers(0, 2))) for _ in range(points)
    ]
    landmarks = [p if p.visibility else Landmark(0.0, 0.0, ABSENT) for p in landmarks]
    return Object(draw(st.sampled_from(of)), draw(boxes()), landmarks, crowd=draw(st.booleans()))


@st.composite
def canonical(draw: Any, about: str) -> Canonical:
    """`about` boxes, classes of images, or both."""
    of = draw(st.lists(labels, min_size=1, max_size=4, unique=True))
    points = 0 if about == "image_labels" else draw(st.sampled_from((0, 0, 2, 5)))
    numbered = [f"point_{i}" for i in range(points)]
    landmarks = draw(st.sampled_from((numbered, ["left_eye", "right_eye", "nose", "tail", "ear"][:points])))
    pairs = draw(st.sampled_from(([], [(0, 1)]))) if points else []
    skeleton = draw(st.sampled_from(([], [(0, 1)], [(0, points - 1), (1, 0)]))) if points else []
    samples = []
    for number, name in enumerate(draw(st.lists(names, min_size=1, max_size=6, unique_by=str.casefold))):
        many = 0 if about == "image_labels" else 3
        there = draw(st.lists(objects(of, points), min_size=many and not number, max_size=many, unique_by=_place))
        sample = Sample(f"id{number}", name, 20 + number, 30, objects=there)
        if about != "boxes":
            sample.label = draw(st.sampled_from(of))
        sample.split = draw(st.sampled_from((None, *SPLITS)))
        sample.group, sample.clip = draw(st.sampled_from((None, "g1"))), draw(st.sampled_from((None, "walk")))
        samples.append(sample)
    if draw(st.booleans()):  # all or nothing: how a split is told depends on the others
        samples = [replace(sample, split=None) for sample in samples]
    return Canonical(Dataset("herd", of, landmarks, pairs, skeleton), samples)


def _place(o: Object) -> tuple[object, ...]:
    return (o.label, *(round(side, 2) for side in o.box))


def written(folder: Path, made: Canonical) -> Reading:
    """The set as `ingest` would leave it, with images of which no two are the same file; and what is read of it."""
    write_dataset(folder, made.dataset)
    write_samples(folder, made.samples)
    for sample in made.samples:
        (folder / sample.file_name).parent.mkdir(parents=True, exist_ok=True)
        kind = "JPEG" if sample.file_name.endswith(".jpg") else "PNG"
        content = io.BytesIO()
        Image.new("RGB", (sample.width, sample.height), (90, 60, 30)).save(content, kind)
        (folder / sample.file_name).write_bytes(content.getvalue())
    return _read("imagefolder", folder)


def _read(form: str, folder: Path) -> Reading:
    row = FORMATS[form]
    return row.read(folder, folder, row.Options())


def as_sample(c: Candidate) -> Sample:
    width, height = c.size or (0, 0)
    return Sample(c.id, c.name, width, height, c.split, c.group, c.clip, c.label, objects=c.objects)


def alike(found: Sample, expected: Sample, writer: Writer, size: tuple[int, int]) -> Iterator[str]:
    """What differs between the sample that was read and the one that the format holds; images are `size` pixels."""
    for key in ("split", "group", "clip", "label", *(("id",) if "ids" in writer.keeps else ())):
        if getattr(found, key) != getattr(expected, key):
            yield f"{key}: {getattr(found, key)!r}, expected {getattr(expected, key)!r}"
    if len(found.objects) != len(expected.objects):
        yield f"{len(found.objects)} objects, expected {len(expected.objects)}"
    near = [EXACT + writer.tolerance / side for side in size]
    for o, other in zip(found.objects, expected.objects, strict=False):
        if (o.label, o.crowd) != (other.label, other.crowd):
            yield f"{o.label!r} {o.crowd}, expected {other.label!r} {other.crowd}"
        corners, others = (_corners(x.box) for x in (o, other))
        if any(abs(a - b) > near[i % 2] for i, (a, b) in enumerate(zip(corners, others, strict=True))):
            yield f"box {o.box}, expected {other.box}"
        for p, q in zip(o.landmarks, other.landmarks, strict=True):
            if p.visibility != q.visibility or abs(p.x - q.x) > near[0] or abs(p.y - q.y) > near[1]:
                yield f"landmark {p}, expected {q}"


def _corners(box: tuple[float, float, float, float]) -> tuple[float, ...]:
    x, y, w, h = box
    return x, y, x + w, y + h


def one_box(c: Candidate, pixels: float) -> bool:
    """Whether two boxes of one class may be one to within so many pixels: of these one is left, with a row for it."""
    near = [2 * pixels / side for side in (c.size or (1, 1)) * 2]
    return any(
        pixels
        and a.label == b.label
        and all(abs(x - y) <= d for x, y, d in zip(_corners(a.box), _corners(b.box), near, strict=True))
        for a, b in combinations(c.objects, 2)
    )


def _pairs(pairs: list[tuple[int, int]]) -> set[tuple[int, ...]]:
    return {tuple(sorted(pair)) for pair in pairs}


@pytest.mark.parametrize(("form", "about"), CASES)
def test_what_is_read_again_is_what_the_format_holds(form: str, about: str) -> None:
    writer = WRITERS[form]

    @TRIPS
    @given(canonical(about))
    def trip(made: Canonical) -> None:
        with TemporaryDirectory() as place:
            source, out = Path(place, "herd"), Path(place, "out")
            source.mkdir()
            reading = written(source, made)
            assume(not any(one_box(c, writer.tolerance) for c in reading.candidates))
            assert len(reading.candidates) == len(made.samples)
            summary = convert(source.resolve(), out, form, "imagefolder")
            assert summary["images"]["in"] == summary["images"]["out"] == len(made.samples)
            back = _read(form, out)
            kinds = kept(writer, any(c.objects for c in reading.candidates))
            by_content = {c.file.read_bytes(): c for c in back.candidates}
            assert len(by_content) == len(back.candidates) == len(made.samples)
            splits = {c.split for c in reading.candidates}
            lone = len({split or "train" for split in splits}) == 1 and splits != {None}
            for c in reading.candidates:
                c.split = (c.split or "train") if any(splits) else None
                if lone and "lone_split" not in kinds:
                    c.split = None
                found = by_content[c.file.read_bytes()]
                expected = held(as_sample(c), kinds)
                assert held(expected, kinds) == expected
                assert list(alike(as_sample(found), expected, writer, c.size or (1, 1))) == [], (c.name, found.name)
            dataset = Dataset("", reading.labels, reading.landmarks, reading.pairs, reading.skeleton)
            holds = held_set(dataset, kinds)
            assert held_set(holds, kinds) == holds
            used = {o.label for c in reading.candidates for o in c.objects}
            used |= {c.label for c in reading.candidates if c.label is not None}
            listed = holds.labels if "classes" in kinds else sorted(used)
            assert (back.labels, back.landmarks) == (listed, holds.landmarks)
            assert (_pairs(back.pairs), _pairs(back.skeleton)) == (_pairs(holds.pairs), _pairs(holds.skeleton))

    trip()
