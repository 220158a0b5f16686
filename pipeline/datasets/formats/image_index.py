"""The images under a folder, to be found by what a label calls them."""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.datasets.formats.reading import IMAGE_SUFFIXES, files_under


class ImageIndex:
    """The images under a folder, to be found by path, by the end of a path, or by name."""

    def __init__(self, root: Path):
        self.root = root
        self.files = sorted(files_under(root, IMAGE_SUFFIXES))
        self.names = {file.relative_to(root).as_posix(): file for file in self.files}
        self._same_name: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._same_name[PurePosixPath(name).name].append(name)
            self._same_name[PurePosixPath(name).stem].append(name)
        if not self.files:
            raise InputError(f"{root}: no images in it or below; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")

    def find(self, name: str, near: tuple[str, ...] = ()) -> list[str]:
        """The images that `name` (a path, a file name or one without suffix) may mean: [] none, 2 or more unclear.

        `near` are folders relative to the root that are looked into first. Nothing outside the root is found.
        """
        name = name.replace("\\", "/")
        for folder in ("", *near):
            path = os.path.normpath(f"{folder}/{name}" if folder else name)
            if path in self.names:
                return [path]
        found = self._same_name.get(PurePosixPath(name).name, [])
        for closer in (
            [f for f in found if f"/{f}".endswith(f"/{name}")],
            [f for f in found if str(PurePosixPath(f).parent) in near],
            [f for f in found if set(PurePosixPath(f).parts) & set(near)],
        ):
            if len(closer) == 1:
                return closer
        return found
