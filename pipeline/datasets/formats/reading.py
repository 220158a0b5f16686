"""What every source hands over, and the small things they share: finding images, split names, ids, landmark pairs."""

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.core import face68
from pipeline.core.errors import InputError, shown
from pipeline.core.sample import ABSENT, HIDDEN, VISIBLE, Landmark, Object

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm"}
CLIP_SUFFIXES = {".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"}
DRAWINGS = ".pocketlens-drawings"  # the file that names what --draw has made in a folder
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# what stands beside a split's word and says nothing of its own: seg_train, obj_train_data, val_images, trainset
_FILLER = re.compile(
    "a|all|and|annotations?|autosplit|class(es)?|clips?|cls|coco|crop(ped|s)?|data(sets?)?|db|det(ection)?|dir|ds|files?|folds?|"
    "folders?|frames?|full|images?|imgs?|instances|jpe?g|labels?|lists?|new|obj(ects?)?|of|part|photos?|pictures?|png|"
    "mini|pose|raw|resized|samples?|seg(mentation)?|sets?|small|splits?|subset|the|tiny|ucf|videos?|voc|yolo"
)
_SPLIT = "|".join(sorted(SPLIT_NAMES, key=len, reverse=True))
# trainset, testlist, trainval
_JOINED = re.compile(f"(?:{_SPLIT}|data|images?|imgs?|labels?|lists?|mini|sets?|split)+")


@dataclass(slots=True)
class Problem:
    """A row of the ledger. `done`: refused (the file), dropped (the object), clipped, hidden (a landmark), noted."""

    file: str
    key: str
    rule: str
    found: str
    done: str = "refused"


@dataclass(slots=True)
class Candidate:
    """An image or clip as its owner has it, labels relative (0 to 1), not yet looked at.

    `file` is absolute, `name` its path relative to the source in POSIX form, `id` made of that. `size` is the width
    and height in pixels that the labels were made for, where the source says; `unsized`: it does not, and that is the
    upright image's. `keys` names each object in the ledger. A clip has `frames`, the number of images to take, and may
    have `marks`: the objects of each frame that is labelled, by its place from 0, boxes in pixels; only such frames are
    taken. Of an image with a `crop` (left, top, side in pixels, it may reach over the edge) that square is taken, and
    the labels are relative to it.
    """

    file: Path
    name: str
    id: str = ""
    split: str | None = None
    group: str | None = None
    clip: str | None = None
    label: str | None = None
    objects: list[Object] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    frames: int | None = None
    crop: tuple[int, int, int] | None = None
    marks: dict[int, list[Object]] | None = None
    unsized: bool = False


@dataclass(slots=True)
class Reading:
    """All that a source says. `labels` in the order of the class indices; `pairs` and `skeleton` 0-based; `unseen` of
    the landmarks have a place and a visibility of 0; `lost` objects are of images that were refused on reading; `lists`
    are the files that were asked for splits.
    """

    candidates: list[Candidate]
    labels: list[str]
    landmarks: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    skeleton: list[tuple[int, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unseen: int = 0
    lost: int = 0
    lists: set[Path] = field(default_factory=set)


def files_under(root: Path, suffixes: set[str] | None) -> Iterator[Path]:
    """Files with one of `suffixes` (lower case; None: any) in `root` and below, without hidden ones and what is in
    hidden folders, and without folders below that hold drawings of predictions. One that cannot be read is an OSError.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("a.JPG", ".hidden.jpg", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     [file.name for file in files_under(Path(folder), {".jpg"})]
    ['a.JPG']
    """
    walked = set()
    for folder, folders, files in os.walk(root, onerror=_unread, followlinks=True):
        if (real := os.path.realpath(folder)) in walked:  # a link to a folder above would go round for ever
            folders.clear()
            continue
        walked.add(real)
        if DRAWINGS in files and folder != str(root):
            folders.clear()
            continue
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for file in files:
            suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122 (fast)
            if not file.startswith(".") and (suffixes is None or suffix in suffixes):
                yield Path(folder, file)


def _unread(error: OSError) -> None:
    if not isinstance(error, NotADirectoryError | FileNotFoundError):
        raise error


def relative(file: Path, *roots: Path) -> str:
    """`file` as the ledger names it: relative to the first of `roots` that holds it, in POSIX form."""
    for root in roots:
        if file.is_relative_to(root):
            return file.relative_to(root).as_posix() if file != root else file.name
    return file.name


def split_of(*names: str) -> str | None:
    """The split that a file or folder name speaks of; the first name that has one.

    >>> split_of("instances_val2017"), split_of("Testing"), split_of("obj_train_data"), split_of("devset")
    ('val', 'test', 'train', 'val')
    >>> split_of("trainval", "contest")  # two splits in one; none
    """
    for name in names:
        if len(splits := splits_in(name)) == 1:
            return splits.pop()
    return None


def splits_in(name: str) -> set[str]:
    """All splits that a file or folder name speaks of: "trainval" is of two, and so of none."""
    if not re.search(_SPLIT, name, re.IGNORECASE):
        return set()
    said = [part for word in _words(name) for part in re.findall(_SPLIT, word) if _JOINED.fullmatch(word)]
    if {"test", "dev"} == set(said):  # test-dev and devtest are a part of the test, as in COCO and VisDrone
        return {"test"}
    return {SPLIT_NAMES[word] for word in said}


def is_split_name(name: str) -> bool:
    """Whether a name says a split and nothing else: "seg_train" does, "test_tube" may be of something.

    >>> is_split_name("seg_train2017"), is_split_name("ValImages"), is_split_name("test_tube")
    (True, True, False)
    """
    others = (word for word in _words(name) if len(word) > 1 and not _FILLER.fullmatch(word))
    return split_of(name) is not None and all(map(_JOINED.fullmatch, others))


def says_nothing(name: str) -> bool:
    """Whether a folder's name is no class: "images", "dataset", "raw_data"."""
    words = [word for word in _words(name) if len(word) > 1]
    return bool(words) and all(map(_FILLER.fullmatch, words))


def _words(name: str) -> list[str]:
    """A name's words in small letters, cut at what is no letter, and where a capital follows if that makes a split."""
    name = unicodedata.normalize("NFC", name)
    words = []
    for word in re.findall(r"[^\W\d_]+", name):
        parts = re.findall("[A-Z]?[a-z]+|[A-Z]+(?![a-z])", word)
        camel = len(parts) > 1 and "".join(parts) == word and not _JOINED.fullmatch(word.lower())
        words += parts if camel else [word]
    return [word.lower() for word in words]


def give_ids(candidates: list[Candidate], wanted: list[str]) -> None:
    """Ids that are safe file names, made of the `wanted` texts; where two would be alike, all of them get a hash."""
    slugs = [_slug(text) for text in wanted]
    alike = Counter(slug.casefold() for slug in slugs)  # some file systems do not tell A from a
    for candidate, slug in zip(candidates, slugs, strict=True):
        short = slug.encode()[:100].decode(errors="ignore")  # file systems count bytes
        unclear = alike[slug.casefold()] > 1 or short != slug
        code = hashlib.sha256(candidate.name.encode(errors="surrogatepass")).hexdigest()[:8]
        candidate.id = f"{short}-{code}" if unclear else slug


def _slug(text: str) -> str:
    text = unicodedata.normalize("NFC", text.replace("/", "-"))
    return re.sub(r"[^\w.-]+", "_", text).strip("._-") or "picture"


def label_text(name: object) -> str:
    """A class's name as a dataset has it: one text for all Unicode forms of it, on one line, all of it UTF-8.

    >>> label_text("Mu\u0308ll") == "M\u00fcll"
    True
    """
    return shown(unicodedata.normalize("NFC", str(name)))


def said_of_names(reading: Reading) -> list[Problem]:
    """Rows for file names that are not UTF-8, and for classes whose names differ only in case or blanks.

    >>> [problem.found for problem in said_of_names(Reading([], ["cat", "Cat", "dog"]))]
    ["'cat' and 'Cat' differ only in case or blanks; kept apart"]
    """
    parts: dict[str, int] = defaultdict(int)
    for candidate in reading.candidates:
        if _is_utf8(candidate.name):
            continue
        names = candidate.name.split("/")
        parts["/".join(names[: next(i for i, name in enumerate(names, 1) if not _is_utf8(name))])] += 1
    advice = "the name is not UTF-8, and DVC cannot track it: rename it"
    rows = [Problem(part, "", "bad_name", f"{advice} (images: {count})", "noted") for part, count in parts.items()]
    alike: dict[str, list[str]] = defaultdict(list)
    for label in reading.labels:
        alike["".join(label.casefold().split())].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            found = f"{' and '.join(map(repr, labels))} differ only in case or blanks; kept apart"
            rows.append(Problem("", labels[0], "alike_classes", found, "noted"))
    return rows


def refuse_names(path: Path) -> None:
    r"""Raises InputError if a file or folder in `path` or below, hidden or not, has a name that is not UTF-8: DVC,
    which keeps a hash of the source, stops at it and does not say where.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, os.fsdecode(b"caf\xe9.jpg")).touch()
    ...     try:
    ...         refuse_names(Path(folder))
    ...     except InputError as error:
    ...         print(str(error).removeprefix(folder)[:30])
    : caf\xe9.jpg: the name is not
    """
    found = []
    for folder, folders, files in os.walk(path):
        found += [relative(Path(folder, name), path) for name in (*folders, *files) if not _is_utf8(name)]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise InputError(
            f"{path}: {shown(min(found))}{more}: the name is not UTF-8, and DVC cannot track it: rename it, "
            f"`convmv -f latin1 -t utf8 -r` does so with all"
        )


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)  # how Python holds a byte that is not UTF-8


def without_suffix(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def landmark(x: float, y: float, seen: float) -> Landmark:
    """A landmark with COCO's visibility, or what comes nearest to it; one that is absent has no place."""
    visibility = VISIBLE if seen >= VISIBLE else HIDDEN if seen >= HIDDEN else ABSENT
    return Landmark(x, y, visibility) if visibility else Landmark(0.0, 0.0, ABSENT)


def point_names(count: int) -> list[str]:
    """Names for landmarks that the source only numbers."""
    return [f"point_{i:0{len(str(count - 1))}d}" for i in range(count)]


def known_scheme(count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Left-right pairs and skeleton of landmarks that the source only numbers: those of a face's 68, else none."""
    return (list(face68.PAIRS), list(face68.SKELETON)) if count == face68.COUNT else ([], [])


def left_right_pairs(names: list[str]) -> list[tuple[int, int]]:
    """Index pairs of landmarks that a mirror swaps: left_eye and right_eye, L_Eye and R_Eye, eyeLeft and eyeRight."""
    other = {"left": "right", "l": "r"}
    words = [tuple(w.lower() for w in re.findall("[A-Z]?[a-z]+|[A-Z]+|[0-9]+", name)) for name in names]
    place = {w: i for i, w in enumerate(words)}
    pairs = []
    for i, left in enumerate(words):
        right = tuple(other.get(w, w) for w in left)
        if right != left and right in place:
            pairs.append((i, place[right]))
    return pairs


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height as the image is seen, from its header. Raises ValueError saying what was found instead."""
    from pipeline.core import image_file  # params are read without it

    try:
        return image_file.upright_size(file)
    except image_file.ImageFileError as error:
        raise ValueError(error.found) from None
