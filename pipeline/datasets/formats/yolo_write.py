"""YOLO, written as Ultralytics reads it: `data.yaml`, `images/train/...` and `labels/train/...`; landmarks as poses.

`data.yaml` has no `path`, so it counts from its own folder, which can be moved; it names only splits that are there.
An image without objects has an empty file.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.core.files import write_text
from pipeline.core.sample import ABSENT, SPLITS, Dataset, Landmark, Object, Sample
from pipeline.datasets.formats.reading import Problem, point_names
from pipeline.datasets.formats.writing import Lost, Writer
from pipeline.datasets.formats.yaml_text import in_a_line, quoted, yaml_text

READ_BY_ULTRALYTICS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def _place(split: str | None, name: str) -> str:
    return f"images/{split}/{name}" if split else f"images/{name}"


def _write(folder: Path, dataset: Dataset, samples: Iterable[Sample], lost: Lost) -> None:
    numbers = {label: number for number, label in enumerate(dataset.labels)}
    splits = set()
    for sample in samples:
        splits.add(sample.split)
        lines = [_line(o, numbers[o.label], len(dataset.landmarks)) for o in sample.objects]
        file = folder / _label_file(sample.file_name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(lines), encoding="utf-8", newline="\n")
    content: dict[str, Any] = {split: f"images/{split}" for split in SPLITS if split in splits}
    if not {"train", "val"} <= splits:
        found = "data.yaml has not both of train and val, without which Ultralytics does not train"
        lost.problems.append(Problem("", "", "no_split", found, "noted"))
    content |= {"nc": len(dataset.labels), "names": dict(enumerate(quoted(dataset.labels)))}
    write_text(folder / "data.yaml", yaml_text(content | _points(dataset, lost)))


def _label_file(image: str) -> str:
    """The last folder that is called images decides, as for Ultralytics."""
    before, _, after = f"/{image}".rpartition("/images/")
    return Path(f"{before}/labels/{after}").with_suffix(".txt").as_posix().removeprefix("/")


def _line(o: Object, number: int, points: int) -> str:
    x, y, w, h = o.box
    values: list[float] = [_inside(value) for value in (x + w / 2, y + h / 2, w, h)]
    for p in o.landmarks or [Landmark(0.0, 0.0, ABSENT)] * points:
        values += [_inside(p.x), _inside(p.y), p.visibility]
    return f"{number} {' '.join(map(repr, values))}\n"


def _inside(value: float) -> float:
    """Ultralytics leaves out the whole image for a number above 1."""
    return min(max(value, 0.0), 1.0)


def _points(dataset: Dataset, lost: Lost) -> dict[str, Any]:
    """What data.yaml says of landmarks, whose names it has only where they are more than numbers."""
    count = len(dataset.landmarks)
    if not count:
        return {}
    flipped = list(range(count))
    for a, b in dataset.pairs:
        if (flipped[a], flipped[b]) == (a, b):
            flipped[a], flipped[b] = b, a
        else:
            found = f"{a} and {b}, of which one is of another pair: flip_idx has room for one"
            lost.problems.append(Problem("", "pairs", "not_kept", found, "noted"))
    said: dict[str, Any] = {"kpt_shape": in_a_line([count, 3]), "flip_idx": in_a_line(flipped)}
    if dataset.landmarks != point_names(count):
        names = in_a_line(quoted(dataset.landmarks))
        said["kpt_names"] = {number: names for number, _ in enumerate(dataset.labels)}
    return said


WRITER = Writer(
    place=_place,
    write=_write,
    keeps=frozenset({"boxes", "landmarks", "hidden", "splits", "lone_split", "classes", "pairs"}),
    stems=True,
    suffixes=READ_BY_ULTRALYTICS,
)
