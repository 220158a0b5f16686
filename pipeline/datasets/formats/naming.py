"""The names under which images are written: their own, as far as the target can tell them apart."""

import hashlib
import re
import unicodedata
from collections import Counter
from itertools import chain, count, takewhile
from pathlib import PurePosixPath

from pipeline.datasets.formats.reading import Candidate, Problem, is_split_name, says_nothing
from pipeline.datasets.formats.writing import Writer

LONGEST = 230  # bytes of a part of a path: file systems take 255, and suffixes and the numbers of frames come on top
FORBIDDEN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories of what breaks a line or is no UTF-8


def placed(candidates: list[Candidate], writer: Writer) -> tuple[list[str], list[Problem]]:
    """Where each candidate goes, relative to the new folder, and a row for each whose name had to change.

    Of a clip it is the beginning of its frames' names. No two are alike, nor are they without suffixes where the
    target has `stems`; capitals and Unicode's forms do not tell names apart.

    >>> def place(split, name):
    ...     return f"{split}/{name}"
    >>> writer = Writer(place, lambda *_: None, frozenset(), stems=True)
    >>> names = ("train/a/1.jpg", "train/b/1.jpg", "train/b/1.png")
    >>> placed([Candidate(None, name, split="train") for name in names], writer)[0]
    ['train/a/1.jpg', 'train/b/1.jpg', 'train/b/1_png.png']
    """
    own = [_suffixed(c, writer) for c in candidates]
    bare = [_bare(name) for name in own]
    forms = [_one_form(writer.place(c.split, name)) for c, name in zip(candidates, bare, strict=True)]
    times = Counter(forms)
    wanted = [short if times[form] == 1 else _joined(name) for name, short, form in zip(own, bare, forms, strict=True)]
    safe = [_safe(name) for name in wanted]
    keys = [_key(writer.place(c.split, name), writer) for c, name in zip(candidates, safe, strict=True)]
    there, given = set(keys), set()
    found, rows = [], []
    for c, name, short, written, key in zip(candidates, wanted, bare, safe, keys, strict=True):
        place = writer.place(c.split, written)
        if key in given:
            others = (writer.place(c.split, other) for other in _others(written, c))
            place = next(other for other in others if _key(other, writer) not in there)
            there.add(_key(place, writer))
        given.add(key)
        found.append(place)
        if place != writer.place(c.split, short):
            what = "another image has that name" if written == name else "the name cannot be written as it is"
            rows.append(Problem(c.name, "", "renamed", f"written as {found[-1]}: {what}", "noted"))
    return found, rows


def _suffixed(candidate: Candidate, writer: Writer) -> str:
    if candidate.crop:
        return f"{candidate.id}.jpg"
    path = PurePosixPath(candidate.name)
    if candidate.frames is not None:
        return path.with_suffix("").as_posix()
    if writer.suffixes is not None and path.suffix.lower() not in writer.suffixes:
        return path.with_suffix(".png").as_posix()
    return candidate.name


def _bare(name: str) -> str:
    """Without the folders at the top that only say that images, or those of a split, lie there."""
    return name.split("/", _plain(name))[-1]


def _joined(name: str) -> str:
    """With these folders as the beginning of what lies in them: a layout has such folders of its own."""
    return name.replace("/", "-", _plain(name))


def _plain(name: str) -> int:
    """How many folders at the top only say that images, or those of a split, lie there."""
    folders = takewhile(lambda folder: is_split_name(folder) or says_nothing(folder), name.split("/")[:-1])
    return len(list(folders))


def _safe(name: str) -> str:
    """Without characters that break a line or are no UTF-8, a backslash (others take it for a folder), and folders
    that are called like a split: these are joined to what lies in them.
    """
    *folders, base = ("".join("_" if _is_forbidden(c) else c for c in part) for part in name.split("/"))
    parts, joined = [], ""
    for folder in folders:
        joined += folder
        if is_split_name(joined):
            joined += "-"
        else:
            parts.append(joined)
            joined = ""
    return "/".join(map(_short, [*parts, joined + base]))


def _is_forbidden(character: str) -> bool:
    return character in "\\\ufffe\uffff" or unicodedata.category(character) in FORBIDDEN


def _short(part: str) -> str:
    if len(part.encode()) <= LONGEST:
        return part
    suffix = PurePosixPath(part).suffix
    suffix = suffix if len(suffix) < 8 else ""
    start = part.removesuffix(suffix).encode()[: LONGEST - 16].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(part.encode()).hexdigest()[:8]}{suffix}"


def _others(name: str, candidate: Candidate) -> chain[str]:
    """Names to be tried in the place of one that is taken: `1_png.png`, then `1_2.png`, `1_3.png`, ..."""
    path = PurePosixPath(name)
    suffix = re.sub(r"\W", "", PurePosixPath(candidate.name).suffix)
    return chain(
        [path.with_name(f"{path.stem}_{suffix}{path.suffix}").as_posix()],
        (path.with_name(f"{path.stem}_{number}{path.suffix}").as_posix() for number in count(2)),
    )


def _key(path: str, writer: Writer) -> str:
    return _one_form(PurePosixPath(path).with_suffix("").as_posix() if writer.stems else path)


def _one_form(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
