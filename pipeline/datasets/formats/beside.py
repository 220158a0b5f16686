"""Labels of another format, and lists of images, in the source: the reader has not read them; the ledger says so."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.datasets.formats.image_index import one_form, telling
from pipeline.datasets.formats.reading import IMAGE_SUFFIXES, Problem, Reading, files_under, relative
from pipeline.datasets.formats.signs import BINARY, FOREIGN, Sign, format_of
from pipeline.datasets.formats.split_folders import class_folders
from pipeline.datasets.formats.split_lists import IMAGE_SETS, PLACES, Ends, entries, hit_of, named_lists
from pipeline.datasets.formats.yolo import NO_LABELS

PER_IMAGE = {".txt", ".xml", ".json", ".pts"}  # what the labels of one image lie in, by the image's name
LISTED = "not_an_image"  # says nothing of what the file holds
UNKNOWN = ""
SHOWN = 4  # classes
NOT_HERE = "none of its images are here"


def other_labels(form: str, reading: Reading, path: Path, labels: Path) -> list[Problem]:
    """A row for each other format of which files in `path` and `labels` seem to be: how many, one of them, and how many
    images that have no other labels are left out or taken as background; and for each list that nothing has asked for.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "1.jpg").touch()
    ...     _ = Path(folder, "1.txt").write_text("0 0.5 0.5 0.2 0.4")
    ...     (row,) = other_labels("coco", Reading([], []), Path(folder), Path(folder))
    >>> row.rule, row.found.split("; ")[0]
    ('not_read', '1 files such as 1.txt, which look like yolo')
    """
    from pipeline.datasets.formats import FORMATS  # made of the modules of this folder, of which this is one

    if FORMATS[form].recognize is None:  # taken only where it is named: made of an ingested dataset
        return []
    signs = {row.name: row.sign for row in FORMATS.values() if row.sign}
    own = signs.get(form, Sign((), lambda *_: False))
    signs |= {words: sign for words, (sign, _) in FOREIGN.items()}
    files = {f: relative(f, labels, path) for root in dict.fromkeys((path, labels)) for f in files_under(root, None)}
    images = _Images(reading, path, files)
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)  # format -> file -> the images that it is called like
    named = {p.file for p in reading.problems if p.rule != LISTED}
    listed = {p.file for p in reading.problems if p.rule == LISTED}
    for file, name in files.items():
        suffix, beside = file.suffix.lower(), relative(file, path, labels)
        if suffix == own.named or suffix in BINARY or {name, beside} & named:
            continue
        called = images.called(name) if suffix in PER_IMAGE and not NO_LABELS.match(file.name.lower()) else []
        if suffix == ".txt" and not called:  # notes, or a list
            continue
        like = format_of(file, form, signs)
        if like is None and called and suffix != own.counted and beside not in listed:
            like = UNKNOWN
        if like is not None and like != form:
            found[like][name] = called
    rows = [_found(like, there, images) for like, there in sorted(found.items())]
    if found.keys() <= {UNKNOWN, *FOREIGN}:
        rows += _class_folders(form, images, path)
    return [*(Problem("", "", "not_read", row, "noted") for row in rows), *_unasked(reading, images, path, labels)]


class _Images:
    """The images of the source, what labels are called like, and what became of each."""

    def __init__(self, reading: Reading, path: Path, files: Iterable[Path]):
        taken = {c.file: c for c in reading.candidates}
        refused = {p.file for p in reading.problems if p.done == "refused" and p.rule != "no_label"}  # these had labels
        self.clips = any(c.frames is not None for c in reading.candidates)
        self.names, self.out, self.empty = [], set[str](), set[str]()
        self._by_key: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for file in (f for f in files if f.suffix.lower() in IMAGE_SUFFIXES and f.is_relative_to(path)):
            name, candidate = relative(file, path), taken.get(file)
            self.names.append(name)
            if candidate is None and name not in refused:
                self.out.add(name)
            elif candidate and not candidate.objects and candidate.label is None:
                self.empty.add(name)
            for key in {_key(name), _key(name)[-1:]}:
                self._by_key[key].append(name)

    def called(self, name: str) -> list[str]:
        """The images that a file of labels is called like: those in folders that say the same, else in any."""
        key = _key(name)
        return self._by_key.get(key) or self._by_key.get(key[-1:], [])


def _key(name: str) -> tuple[str, ...]:
    place = PurePosixPath(name)
    return (*telling(place.parent.parts), one_form(place.stem))


def _found(like: str, there: dict[str, list[str]], images: _Images) -> str:
    seems = f"which look like {like}; format {like} reads those" if like else "called like images, of no known format"
    if like in FOREIGN:
        seems = f"which look like {like}, which nothing here reads: {FOREIGN[like][1]}"
    found = f"{len(there)} files such as {min(there)}, {seems}"
    own = {called[0] for called in there.values() if len(called) == 1}
    for what, some in (("left out", own & images.out), ("taken as background", own & images.empty)):
        if some:
            found += f"; {len(some)} images that have no other labels are {what}"
    return found


def _unasked(reading: Reading, images: _Images, path: Path, labels: Path) -> list[Problem]:
    """Rows for the lists that have not given the splits, and how many of their images are of another one."""
    if images.clips and reading.lists:  # UCF101 has three splits, each with its lists
        return []
    splits = {c.name: c.split or "train" for c in reading.candidates}
    ends, rows = Ends([*images.names, *splits]), []
    for split, file, sure in named_lists(path, labels, (*PLACES, IMAGE_SETS)):
        if file in reading.lists:
            continue
        try:
            here = [hit[0] for entry in entries(file) if (hit := hit_of(entry, ends)) and hit[0]]
        except InputError as error:
            here, of = [], str(error).removeprefix(f"{file}: ")
        else:
            apart = sum(splits.get(name, split) != split for name in here)
            of = f"{len(here)} images on it that are here are of"
            of = f"{apart} of the {of} another split" if apart else f"the {of} that split" if here else NOT_HERE
        if not here and not sure:
            continue
        found = f"a list for {split} that nothing asks for; {of}"
        rows.append(Problem(relative(file, path, labels), "", "not_read", found, "noted"))
    return rows


def _class_folders(form: str, images: _Images, path: Path) -> list[str]:
    """Of images most of which are left out, whether they lie in folders that may be classes."""
    if form == "folder" or images.clips or 2 * len(images.out) <= len(images.names):
        return []
    try:
        classes = sorted({label for _, label in class_folders(images.names, path)[0].values()})
    except InputError:
        return []
    if len(classes) < 2:
        return []
    some = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
    lie = "lie in folders that may be classes"
    return [f"{len(images.out)} images that are left out {lie} ({some}); format folder reads those"]
