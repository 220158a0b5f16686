"""The images under a folder, to be found by what a label calls them.

A label and a file system write one name in many ways: slashes, percent signs, Unicode's composed and decomposed forms,
capitals, a suffix or none, a path of the machine where the labelling was done. None of these parts a name from its
file. A folder does: `cam2/1.jpg` is never `cam1/1.jpg`.
"""

import os
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from pipeline.core.errors import InputError, shown
from pipeline.core.sample import SPLITS
from pipeline.datasets.formats.reading import IMAGE_SUFFIXES, files_under, split_of

# words of folders that only say that images or labels lie there; where one of them differs, the images need not
PLAIN = re.compile(
    r"images?|imgs?|pictures?|pics?|photos?|jpegimages|jpe?gs?|pngs?|frames|raw|data|datasets?|obj|sets?|media|files|"
    r"instances?|annot(ation)?s?|annos?|anns?|label(l?ed|s)?|xmls?|txts?|pts|points|landmarks?|keypoints|json|csv|voc|coco|yolo|"
    r"gt|groundtruth|truth|b?box(es)?|uploads?|default|originals?|source"
)
LABEL_SUFFIXES = {".txt", ".xml", ".json", ".jsonl", ".csv", ".pts", ".yaml", ".yml", ".npy", ".mat", ".md"}
URL = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*", re.IGNORECASE)
WORDS = re.compile(r"[\s_.-]+|(?<=\D)(?=\d)|(?<=\d)(?=\D)")
TEST_DEV = re.compile(r"test[\s_.-]*dev|dev[\s_.-]*test")  # one split, see `split_of`
Folders = tuple[str, ...]


class ImageIndex:
    """The images under a folder: `files` sorted, and `names` by path relative to the folder, in POSIX form."""

    def __init__(self, root: Path):
        self.root = root
        self.files = sorted(files_under(root, IMAGE_SUFFIXES))
        self.names = {file.relative_to(root).as_posix(): file for file in self.files}
        if not self.files:
            raise InputError(f"{root}: no images in it or below; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
        self._same_name: dict[str, Sequence[str]] = {}
        self._found: dict[tuple[str, str, tuple[str, ...], str], list[str]] = {}

    def folder_of(self, file: Path, labels: Path) -> str:
        """The folder of a label file as `find` takes it: relative to the root, else to `labels`; "" for these."""
        root = next((r for r in (self.root, labels) if file.parent.is_relative_to(r)), file.parent)
        return file.parent.relative_to(root).as_posix() if file.parent != root else ""

    def find(self, name: str, folder: str = "", near: tuple[str, ...] = (), called: str = "") -> list[str]:
        """The images that a label's `name` may mean: [] none, 2 or more unclear. The list is not to be changed.

        `name` is a path, a file name or one without suffix. `folder` is the label file's, see `folder_of`; `near` are
        names of folders in which the images of that label file may lie. `called` is the label file's own name, where
        it tells it from others: that of `cam1.json` or `val2017.json` keeps a bare name in folders of that name, split.

        What lies below the label file's own folder, or the first one above it that has images, comes first. A name
        with folders finds an image in these folders only; one without may lie anywhere, if it is the only one.
        """
        key = (name, folder, near, called)
        if key not in self._found:  # what is unclear takes a look at all images of that name, and is often asked again
            self._found[key] = self._find(*key)
        return self._found[key]

    def _find(self, name: str, folder: str, near: tuple[str, ...], called: str) -> list[str]:
        path, decoded = _paths(name)
        for above in _upward(folder):
            if there := self._at(above, (name, path, decoded), near):
                return there
            if (below := self._below(above, path, folder, near)) is not None:
                return below
        # a decoded sign may be a slash, which makes other folders
        for written in dict.fromkeys((path, decoded)):
            matching = self._matching(written) if "/" in written else self._called(written)
            if called and not telling(written.split("/")[:-1]):
                matching = self._of_file(matching, called)
            if found := self._nearest(matching, written, folder, near):
                return found
        return []

    def _at(self, above: str, written: tuple[str, ...], near: tuple[str, ...]) -> list[str]:
        """The image that is just at one of the places that the texts `written` name, seen from the folder `above`."""
        places = (_join(above, inner, text) for text in dict.fromkeys(written) for inner in ("", *near))
        return next(([place] for place in places if place in self.names), [])

    def _below(self, above: str, path: str, folder: str, near: tuple[str, ...]) -> list[str] | None:
        """What `path` means in another form of its text, where the folder `above` decides that: for a bare name
        because it has images, for a path because it has the folder that is named. None if it does not.
        """
        if "/" not in path:
            if not above or above not in self._holding:
                return None
            called, parts = self._called(path), above.split("/")
            ends = (cut(called, parts, key=lambda n: n.split("/")[: len(parts)]) for cut in (bisect_left, bisect_right))
            below = called[slice(*ends)]
            if not below and not telling(parts):  # a picture among the annotations, say
                return None
        else:
            named = {_join(above, inner, path).rpartition("/")[0] for inner in ("", *near)} & self._folders
            if not named:
                return None
            below = [n for n in self._matching(path) if n.rpartition("/")[0] in named]
        return self._nearest(below, path, folder, near)

    def fault(self, name: str, found: list[str], missing: str = "no such image") -> tuple[str, str]:
        """The ledger's rule, and what was found, where `find` gives not just one image for `name`."""
        if found:
            return "ambiguous_file", f"{len(found)} images of that name: {', '.join(map(shown, found[:2]))}"
        return "missing_file", f"{missing}{self.reason(PurePosixPath(_paths(name)[1]).name)}"

    def reason(self, base: str) -> str:
        """What there is instead of the image `base`, to be put behind what is said of it; "" if there is nothing."""
        stem = PurePosixPath(base).stem
        for key in dict.fromkeys((base, stem, *(stem + suffix for suffix in sorted(IMAGE_SUFFIXES)))):
            for other in self._others.get(one_form(key), ()):
                suffix = PurePosixPath(other).suffix.lower()
                return f"; {shown(other)} is there, but {suffix or 'a file without suffix'} is not read"
        for wanted, what in ((base, "in another folder"), (stem, "with another suffix")):
            if elsewhere := self._called(wanted):
                return f"; {shown(elsewhere[0])} has its name {what}"
        return ""

    def _called(self, base: str) -> Sequence[str]:
        """The images of that name, in any folder and any form of its text; in the order of `files`."""
        if base not in self._same_name:  # often asked again where many folders have images of one name
            self._same_name[base] = self._matching(base)
        return self._same_name[base]

    def _matching(self, written: str) -> Sequence[str]:
        """The images that the path `written` can mean by its folders, in any form of its text."""
        *folders, base = [part for part in written.split("/") if part not in ("", ".", "..")] or [written]
        told = telling(folders)
        without_splits = bool(told) and not any(_split_words(part) for part in told)
        stem, suffix = os.path.splitext(base)  # noqa: PTH122 (a name that is a suffix alone)
        for key in dict.fromkeys((stem, base)):  # `base` is a stem itself where the label has no suffix
            found = self._told(told, one_form(key), without_splits)
            if key == stem and suffix:
                found = [n for n in found if one_form(PurePosixPath(n).suffix) == one_form(suffix)]
            if found := self._in_named(found, folders):
                return found
        return []

    def _told(self, told: Folders, key: str, without_splits: bool) -> Sequence[str]:
        """The images of the stem `key` whose telling folders end in `told`, or are an end of it."""
        ends, whole = self._by_splits[without_splits]
        if found := ends.get((*told, key)):
            return found
        # images that lie in no telling folder may have come from anywhere, if all of them do
        tails = [(*told[i:], key) for i in range(1, len(told) + self._flat[without_splits])]
        return next((whole[tail] for tail in tails if tail in whole), [])

    def _in_named(self, found: Sequence[str], folders: list[str]) -> Sequence[str]:
        """Of `found` those in the folders that the label names, as far as there are such folders with images."""
        forms = tuple(map(one_form, folders))
        for i in range(len(forms)):
            if forms[i:] in self._folder_ends:
                tail = forms[i:]
                return [n for n in found if tuple(map(one_form, n.split("/")[:-1]))[-len(tail) :] == tail]
        return found

    def _of_file(self, found: Sequence[str], called: str) -> Sequence[str]:
        """Of `found` those that a label file of that name can mean, as far as there are folders that say so."""
        told, split = _told(called), split_of(called)
        if told in self._told_folders:
            return [n for n in found if told in telling(n.split("/")[:-1])]
        if split is None or split not in map(split_of, self._told_folders):
            return found
        said = [{split_of(part) for part in n.split("/")[:-1]} - {None} for n in found]
        return [n for n, splits in zip(found, said, strict=True) if not splits or split in splits]

    def _nearest(self, found: Sequence[str], written: str, folder: str, near: tuple[str, ...]) -> list[str]:
        """Of several images those whose name is written most alike; of these the one in a folder that is near."""
        if len(found) > 1:
            base = PurePosixPath(written).name
            unlike = [min(_unlike(n.rpartition("/")[2], base), _unlike(PurePosixPath(n).stem, base)) for n in found]
            least = min(unlike)
            found = [n for n, distance in zip(found, unlike, strict=True) if distance == least]
        around = {*near, *PurePosixPath(folder).parts, folder}
        for closer in (
            [n for n in found if f"/{n}".endswith(f"/{written}")],
            [n for n in found if n.rpartition("/")[0] in around],
            [n for n in found if not around.isdisjoint(n.split("/")[:-1])],
        ):
            if len(closer) == 1:
                return closer
        return list(found)

    @cached_property
    def _folders(self) -> set[str]:
        """Folders that images lie in directly."""
        return {name.rpartition("/")[0] for name in self.names}

    @cached_property
    def _told_folders(self) -> set[str]:
        return {told for folder in self._folders for told in telling(folder.split("/"))}

    @cached_property
    def _holding(self) -> set[str]:
        """Folders with images in them or below."""
        return {str(folder) for own in self._folders for folder in (PurePosixPath(own), *PurePosixPath(own).parents)}

    @cached_property
    def _folder_ends(self) -> set[Folders]:
        forms = [tuple(map(one_form, folder.split("/"))) for folder in self._folders if folder]
        return {form[i:] for form in forms for i in range(len(form))}

    @cached_property
    def _flat(self) -> dict[bool, bool]:
        """Whether no image lies in a folder that tells it from others; with True, folders of splits tell nothing."""
        told = [telling(folder.split("/")) for folder in self._folders]
        return {False: not any(told), True: not any(not _split_words(part) for parts in told for part in parts)}

    @cached_property
    def _by_splits(self) -> dict[bool, tuple[dict[Folders, list[str]], dict[Folders, list[str]]]]:
        """Telling folders and stem of each image -> the images: by every end of that path, and by the whole.

        With True, folders of splits are left out: images are often sorted into them after the labelling.
        """
        found = {}
        for without_splits in (False, True):
            ends: dict[Folders, list[str]] = defaultdict(list)
            whole: dict[Folders, list[str]] = defaultdict(list)
            for name in self.names:
                *folders, base = name.split("/")
                told = telling(folders)
                told = tuple(part for part in told if not _split_words(part)) if without_splits else told
                key = (*told, one_form(PurePosixPath(base).stem))
                whole[key].append(name)
                for i in range(len(key)):
                    ends[key[i:]].append(name)
            found[without_splits] = (dict(ends), dict(whole))
        return found

    @cached_property
    def _others(self) -> dict[str, list[str]]:
        """Form of a name without its last suffix -> files that are no images, and no labels but for those that are
        called like an image's whole name.
        """
        found: dict[str, list[str]] = defaultdict(list)
        for file in files_under(self.root, None):
            name = file.relative_to(self.root).as_posix()
            inner, suffix = PurePosixPath(file.stem).suffix.lower(), file.suffix.lower()
            if name not in self.names and (suffix not in LABEL_SUFFIXES or inner in IMAGE_SUFFIXES):
                found[one_form(file.stem)].append(name)
        return dict(found)


def _paths(name: str) -> tuple[str, str]:
    """The path that a label means, without what only Windows or a URL has in one; and with percent signs decoded."""
    path = name.replace("\\", "/")
    if url := URL.match(path):
        path = re.split("[?#]", path[url.end() :])[0]
    return path, unquote(path, errors="surrogateescape")


def _join(*parts: str) -> str:
    """The parts as one path from the root, without what leads up and down again."""
    return os.path.normpath("/".join(part for part in parts if part))


@lru_cache(1 << 12)
def _upward(folder: str) -> Sequence[str]:
    """The folder and those above it, the last one ""."""
    own = PurePosixPath(folder)
    return ["" if str(place) == "." else str(place) for place in (own, *own.parents)]


def _unlike(a: str, b: str) -> int:
    """0 for the same text, more for one that is the same in a wider sense."""
    composed, other = unicodedata.normalize("NFC", a), unicodedata.normalize("NFC", b)
    return 0 if a == b else 1 if composed == other else 2 if composed.casefold() == other.casefold() else 3


@lru_cache(1 << 16)
def one_form(text: str) -> str:
    """One text for all forms in which a name or path is written.

    >>> one_form("Mu\u0308ll%201.JPG") == one_form("M\u00fcll 1.jpg")
    True
    """
    if "%" in text:
        text = unquote(text, errors="surrogateescape")
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).casefold().strip()


def telling(folders: Sequence[str]) -> Folders:
    """What the folders say of the images in them."""
    return tuple(told for folder in folders if (told := _told(folder)))


@lru_cache(1 << 16)
def _told(folder: str) -> str:
    words = WORDS.split(TEST_DEV.sub("test", one_form(folder)))
    return "_".join(split_of(word) or word for word in words if word and not PLAIN.fullmatch(word))


def _split_words(told: str) -> bool:
    return all(word in SPLITS or word.isdigit() for word in told.split("_")) and split_of(told) is not None
