"""Cells of tables that people open in a spreadsheet, and places of this machine as others may be told of them."""

import re
from pathlib import PurePath, PureWindowsPath

from pipeline.core.errors import shown, without_password

# spreadsheets take the signs in full width too; with apostrophes before it, so that no two texts become one cell
FORMULA = re.compile(r"'*\s*[=+@\-\uff1d\uff0b\uff20\uff0d]")
OF_THE_MACHINE = re.compile(r"(.*::)?(file|local):", re.I | re.S)  # a URL, as fsspec takes them


def cell(text: str) -> str:
    """A text as a cell of a CSV file: on one line, and with an apostrophe before what a spreadsheet would compute.

    >>> cell("=HYPERLINK(1)"), cell("cow = goat")
    ("'=HYPERLINK(1)", 'cow = goat')
    """
    text = shown(text)
    return f"'{text}" if FORMULA.match(text) else text


def of_cell(cell: str) -> str:
    """The text that `cell` made harmless.

    >>> of_cell("'=1.jpg"), of_cell("'1.jpg")
    ('=1.jpg', "'1.jpg")
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def told(place: str) -> str:
    """A path or URL as it goes out with a model: of an absolute path the last name, as the others are of this machine
    and of whoever works on it.

    >>> told("data/herd"), told("/home/ann/herd"), told("s3://me:secret@herds/2026")
    ('data/herd', 'herd', 's3://herds/2026')
    """
    for path in (PurePath(place), PureWindowsPath(place)):
        if path.is_absolute() or place.startswith("~") or OF_THE_MACHINE.match(place):
            return path.name
    return without_password(place)
