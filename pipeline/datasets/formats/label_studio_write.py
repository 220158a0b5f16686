"""Label Studio, written: `tasks.json` to import, each task with its annotation, and `label_config.xml` for a project.

Images are named as Label Studio serves local files, seen from its document root, which is the folder that is written:
`/data/local-files/?d=images/...`. Places are percent; a hidden landmark has the choice `hidden` for its region.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.core.files import write_text
from pipeline.core.sample import HIDDEN, Dataset, Object, Sample
from pipeline.datasets.formats import label_studio_config as config
from pipeline.datasets.formats.writing import Lost, Writer, in_pixels
from pipeline.datasets.formats.xml_names import refuse_in_xml

SERVED = "/data/local-files/?d="
TASKS = "tasks.json"
DOT = 0.5  # percent of the image's width: how large a landmark is drawn


def _place(split: str | None, name: str) -> str:
    return f"images/{split}/{name}" if split else f"images/{name}"


def _write(folder: Path, dataset: Dataset, samples: Iterable[Sample], lost: Lost) -> None:  # noqa: ARG001
    refuse_in_xml(dataset)
    write_text(folder / config.CONFIG, config.config_of(dataset))
    with (folder / TASKS).open("w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        for number, sample in enumerate(samples, 1):
            row = json.dumps(_task(number, sample, dataset.landmarks), ensure_ascii=False, allow_nan=False)
            file.write(f"{',' if number > 1 else ''}\n{row}")
        file.write("\n]\n")


def _task(number: int, sample: Sample, landmarks: list[str]) -> dict[str, Any]:
    data = {"image": place_of(sample.file_name)} | ({"split": sample.split} if sample.split else {})
    return {"id": number, "data": data, "annotations": [{"result": regions_of(sample, landmarks)}]}


def place_of(path: str) -> str:
    """What a task names a local file by, from its path below the server's document root.

    >>> place_of("herd/train/cow 1.jpg")
    '/data/local-files/?d=herd/train/cow%201.jpg'
    """
    return SERVED + quote(path)


def regions_of(sample: Sample, landmarks: list[str]) -> list[dict[str, Any]]:
    """The label and the objects of a sample, as the result of an annotation or a prediction.

    >>> [region] = regions_of(Sample("1", "1.jpg", 64, 48, objects=[Object("cow", (0.5, 0, 0.25, 1))]), [])
    >>> region["value"]
    {'x': 50, 'y': 0, 'width': 25, 'height': 100, 'rotation': 0, 'rectanglelabels': ['cow']}
    """
    size = {"original_width": sample.width, "original_height": sample.height, "image_rotation": 0}
    regions = [region for i, o in enumerate(sample.objects, 1) for region in _regions(o, f"box-{i}", landmarks)]
    if sample.label is not None:
        regions.append(_region("image-label", config.LABEL, "choices", {"choices": [sample.label]}))
    return [region | size for region in regions]


def _regions(o: Object, id: str, landmarks: list[str]) -> Iterator[dict[str, Any]]:
    x, y, width, height = map(_percent, o.box)
    place: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
    yield _region(id, config.BOX, "rectanglelabels", place | {"rectanglelabels": [o.label]})
    for i, (name, p) in enumerate(zip(landmarks, o.landmarks, strict=bool(o.landmarks)), 1):
        if not p.visibility:
            continue
        spot: dict[str, Any] = {"x": _percent(p.x), "y": _percent(p.y), "width": DOT}
        point = _region(f"{id}-{i}", config.POINT, "keypointlabels", spot | {"keypointlabels": [name]})
        yield point | {"parentID": id}
        if p.visibility == HIDDEN:
            yield _region(f"{id}-{i}", config.HIDDEN, "choices", spot | {"choices": ["hidden"]})


def _region(id: str, control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "type": kind, "from_name": control, "to_name": "image", "value": value}


def _percent(share: float) -> float:
    return in_pixels(share, 100)


WRITER = Writer(
    place=_place,
    write=_write,
    keeps=frozenset({"image_labels", "boxes", "landmarks", "hidden", "splits", "lone_split", "classes"}),
)
