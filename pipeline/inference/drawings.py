"""The folder of `--draw`: it holds what was drawn, and nothing that is there already is lost to it."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.sole import unlink_planted
from pipeline.datasets.formats.reading import DRAWINGS


class DrawingFolder:
    """A new or empty folder, or one with drawings of before, which new ones of the same names replace.

    The file `DRAWINGS` in it lists, a JSON string a line, the names that may be replaced; it is written before the
    files are, so that after a kill no file of ours looks like one of the user's.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     drawings = DrawingFolder(Path(folder, "drawn"), ["photos/a.jpg"])
    ...     drawings.make("metadata.jsonl")
    ...     [drawings.free("a", ".png").name for _ in range(2)]
    ['a.png', 'a-2.png']
    """

    def __init__(self, path: Path, inputs: Iterable[Path | str]) -> None:
        """Writes nothing. Raises InputError for a folder that one of the files `inputs` is in, or other files are."""
        self.path = path
        self._marker = path / DRAWINGS
        self._taken: set[str] = set()
        if path.exists() and not path.is_dir():
            raise InputError(f"--draw {path}: is there already, and no folder; expected a folder")
        if path.is_dir():
            self._check_inputs(inputs)
            if not self._marker.is_file() and (found := sorted(p.name for p in path.iterdir())):
                raise InputError(
                    f"--draw {path}: holds {found[0]}, which --draw did not make; "
                    "expected a new or empty folder, or one with drawings of before"
                )
        self._ours = self._listed()

    def make(self, *names: str) -> None:
        """Make the folder, in which files of these names will be written. Raises InputError if it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in names:
                self._note(name)
        except OSError as error:
            raise InputError(f"--draw {self.path}: cannot be made or written to: {error}") from None

    def free(self, stem: str, suffix: str) -> Path:
        """The path of a new file: with a number where this run, or somebody else, has one of the name. May raise
        OSError.
        """
        name, number = f"{stem}{suffix}", 1
        # without case, since on some file systems A.png and a.png are one file
        while name.casefold() in self._taken or (name not in self._ours and os.path.lexists(self.path / name)):
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._note(name)
        return self.path / name

    def _note(self, name: str) -> None:
        self._taken.add(name.casefold())
        if name not in self._ours:
            self._ours.add(name)
            unlink_planted(self._marker)  # or linked to DVC's cache
            names = [name] if self._marker.exists() else sorted(self._ours)
            with self._marker.open("a", encoding="utf-8") as file:
                # the line before may have been cut
                file.writelines("\n" + json.dumps(one) for one in names)

    def _listed(self) -> set[str]:
        if not self._marker.is_file():
            return set()
        names = set()
        for line in self._marker.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                names.add(str(json.loads(line)))
            except ValueError:
                continue  # cut by a kill, before the file that it names was begun
        return names

    def _check_inputs(self, inputs: Iterable[Path | str]) -> None:
        """By what the file system says that is one folder: links, `..` and case hide none."""
        here, outside = self.path.stat(), set[Path]()
        for file in inputs:
            # the folder of a link, and that of what it leads to
            for start in (Path(os.path.realpath(Path(file).parent)), Path(os.path.realpath(file)).parent):
                for folder in (start, *start.parents):
                    if folder in outside:
                        break
                    if folder.exists() and os.path.samestat(folder.stat(), here):
                        raise InputError(f"--draw {self.path}: holds {file}, which is read; expected another folder")
                    outside.add(folder)
