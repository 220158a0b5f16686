"""How each public set is brought into a folder so that one of the formats reads it, whole or the first images only."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json, write_text
from pipeline.core.lines import read_rows
from pipeline.datasets.public.fetch import Downloads, RemoteFile
from pipeline.datasets.public.unpack import members, unpack

# `most`: so many images or clips of each split, None for all
Bring = Callable[[Downloads, Path, int | None], None]

COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)


def first(names: Iterable[str], most: int | None, split: Callable[[str], str], label: Callable[[str], str]) -> set[str]:
    """The first `most` of each split, class by class in turn, in the order of their names."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(names):
        found[split(name)][label(name)].append(name)
    taken: set[str] = set()
    for labels in found.values():
        turns = [name for turn in zip_longest(*labels.values()) for name in turn if name is not None]
        taken.update(turns[:most])
    return taken


def ucf101(clips: RemoteFile, lists: RemoteFile) -> Bring:
    """videos/<Class>/<clip>.avi beside ucfTrainTestlist/; the splits of the first list count for `most`."""

    def bring(downloads: Downloads, folder: Path, most: int | None) -> None:
        unpack(downloads.get(lists), folder, lambda name: name if name.endswith(".txt") else None)
        where = next(folder.rglob("trainlist01.txt"), None)
        if where is None:
            raise InputError(f"{lists.url}: no trainlist01.txt in it")
        if where.parent != folder / "ucfTrainTestlist":
            where.parent.replace(folder / "ucfTrainTestlist")
        split_of = {}
        for split in ("train", "test"):
            for line in read_rows(folder / f"ucfTrainTestlist/{split}list01.txt").split("\n"):
                if line.strip():
                    split_of[line.split()[0]] = split
        wanted = first(split_of, most, split_of.__getitem__, lambda name: name.split("/")[0])

        def place(name: str) -> str | None:
            clip = "/".join(PurePosixPath(name).parts[-2:])
            return f"videos/{clip}" if clip.endswith(".avi") and (most is None or clip in wanted) else None

        unpack(downloads.get(clips), folder, place)

    return bring


def class_folders(archive: RemoteFile) -> Bring:
    """<split>/<class>/<image or clip>, without the folder that the archive has around them."""

    def bring(downloads: Downloads, folder: Path, most: int | None) -> None:
        file = downloads.get(archive)
        found = [name for name in members(file) if len(PurePosixPath(name).parts) == 4]
        wanted = first(found, most, lambda name: name.split("/")[1], lambda name: name.split("/")[2])
        unpack(file, folder, lambda name: name.partition("/")[2] if name in wanted else None)

    return bring


def coco128(archive: RemoteFile) -> Bring:
    """images/train2017 and labels/train2017 with a data.yaml, which the archive does not have."""

    def bring(downloads: Downloads, folder: Path, most: int | None) -> None:
        file = downloads.get(archive)
        images = [name for name in members(file) if "/images/train2017/" in f"/{name}"]
        stems = {PurePosixPath(name).stem for name in first(images, most, lambda _: "train", lambda _: "")}

        def place(name: str) -> str | None:
            path = PurePosixPath(name)
            kept = len(path.parts) < 3 or path.stem in stems
            return "/".join(path.parts[1:]) or None if kept else None

        unpack(file, folder, place)
        names = "".join(f"  {i}: {name}\n" for i, name in enumerate(COCO_NAMES))
        write_text(folder / "data.yaml", f"path: .\ntrain: images/train2017\nnames:\n{names}")

    return bring


def oxford_pets(images: RemoteFile, annotations: RemoteFile) -> Bring:
    """images/{train,test}/<breed>/<image>.jpg by the lists of the set, beside annotations/."""

    def bring(downloads: Downloads, folder: Path, most: int | None) -> None:
        unpack(downloads.get(annotations), folder, _without_hidden)
        split_of = {}
        for split, file in (("train", "trainval"), ("test", "test")):
            for line in read_rows(folder / f"annotations/{file}.txt").split("\n"):
                if line.strip():
                    split_of[line.split()[0]] = split
        wanted = first(split_of, most, split_of.__getitem__, _breed)

        def place(name: str) -> str | None:
            stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix  # .mat lie beside some images
            photo = suffix == ".jpg" and stem in wanted
            return f"images/{split_of[stem]}/{_breed(stem)}/{stem}.jpg" if photo else None

        unpack(downloads.get(images), folder, place)
        if most is not None:
            for labels in (folder / "annotations").glob("*/*"):
                if labels.stem not in wanted:
                    labels.unlink()

    return bring


def _breed(stem: str) -> str:
    return stem.rpartition("_")[0]


def _without_hidden(name: str) -> str | None:
    return None if any(part.startswith(".") for part in PurePosixPath(name).parts) else name


def voc(*archives: RemoteFile) -> Bring:
    """VOCdevkit/<year>/ with its lists; of `most`, images and XML of the first in train, val and test."""

    def bring(downloads: Downloads, folder: Path, most: int | None) -> None:
        files = [downloads.get(archive) for archive in archives]
        if most is None:
            for file in files:
                unpack(file, folder, lambda name: name)
            return
        lists = ("train.txt", "val.txt", "test.txt")
        wanted: set[str] = set()
        for file in files:
            unpack(file, folder, lambda name: name if _in_main(name) and PurePosixPath(name).name in lists else None)
        for listed in folder.glob("VOCdevkit/*/ImageSets/Main/*.txt"):
            wanted |= set(sorted(read_rows(listed).split())[:most])
        for file in files:
            unpack(file, folder, lambda name: name if _of_image(name) and PurePosixPath(name).stem in wanted else None)

    return bring


def _in_main(name: str) -> bool:
    return "/ImageSets/Main/" in f"/{name}"


def _of_image(name: str) -> bool:
    return PurePosixPath(name).parent.name in ("JPEGImages", "Annotations")


def coco(annotations: RemoteFile, member: str, images: RemoteFile) -> Bring:
    """images/ and annotations/<member>. Of `most`, only these images are fetched, each by the address in the labels."""

    def bring(downloads: Downloads, folder: Path, most: int | None) -> None:
        labels = folder / "annotations" / member
        unpack(
            downloads.get(annotations),
            folder,
            lambda name: f"annotations/{member}" if PurePosixPath(name).name == member else None,
        )
        if not labels.is_file():
            raise InputError(f"{annotations.url}: no {member} in it")
        if most is None:
            unpack(downloads.get(images), folder, lambda name: f"images/{PurePosixPath(name).name}")
            return
        said = read_json(labels)
        rows = sorted(said["images"], key=lambda row: row["id"])[:most]
        for row in rows:
            if PurePosixPath(row["file_name"]).name != row["file_name"]:
                raise InputError(f"{labels}: image {row['id']}: file_name {row['file_name']!r}; expected a name alone")
        downloads.get_images({row["coco_url"]: folder / "images" / row["file_name"] for row in rows})
        said["images"] = [row for row in rows if row["coco_url"] not in downloads.gone]
        kept = {row["id"] for row in said["images"]}
        said["annotations"] = [row for row in said["annotations"] if row["image_id"] in kept]
        write_json(labels, said)

    return bring
