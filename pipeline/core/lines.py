"""Files of lines: tables and lists. A line is of bounded length, so that one of hundreds of megabytes is refused
before it is in memory, where csv would take many times its size.
"""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import MARKS, open_file, read_text

LONGEST_LINE = 16 << 20  # bytes: an object with 1000 landmarks, the most there may be, has 0.1 MB
LARGEST_TABLE = 64 << 20  # bytes of a table with a row per epoch
LARGEST_LIST = 1 << 30  # bytes of a list of files, three million, or of a table with a row per object
PART = 1 << 20
HEAD = 16 << 10  # bytes: more than the longest path, in UTF-32 too
BEYOND = "\0beyond"  # a key that is no column's


def first_bytes(path: Path, size: int) -> bytes:
    """What a file begins with. Raises InputError as `open_file`, and OSError.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "images.txt").write_text("1.jpg\\n2.jpg\\n")
    ...     first_bytes(Path(folder, "images.txt"), 5)
    b'1.jpg'
    """
    with open_file(path) as file:
        return file.read(size)


def check_lines(path: Path | str) -> None:
    """Raises InputError naming the first line that is longer than LONGEST_LINE, which is more than PART; of a file that
    is missing nothing.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "images.txt").write_text("1.jpg\\n2.jpg\\n")
    ...     check_lines(f"{folder}/images.txt")
    """
    number, length, last = 1, 0, b""
    path = Path(path)
    if not path.is_file() or path.stat().st_size <= LONGEST_LINE:  # what is missing read_text says
        return
    with open_file(path) as file:
        while part := file.read(PART):
            ends = part.replace(b"\r", b"\n")  # as ends of lines were on a Mac
            length += ends.find(b"\n") if b"\n" in ends else len(ends)
            if length > LONGEST_LINE:
                found = f"a line of more than {LONGEST_LINE >> 20} MB"
                raise InputError(f"{path}: line {number}: {found}; expected a file of lines, each shorter")
            if b"\n" in ends:
                number += ends.count(b"\n") - (last + part).count(b"\r\n")
                length = len(ends) - ends.rfind(b"\n") - 1
            last = part[-1:]


def read_rows(path: Path | str) -> str:
    """`read_text` of a file of lines. Raises InputError as that does, and as `check_lines`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "images.txt").write_text("1.jpg\\n2.jpg\\n")
    ...     read_rows(f"{folder}/images.txt")
    '1.jpg\\n2.jpg\\n'
    """
    check_lines(path)
    return read_text(path)


def first_line(path: Path) -> str:
    """The first line that is not blank, without blanks around it; "" if there is none. Of a long file its beginning
    alone is read, and may be all that is text. Raises InputError as `read_rows`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "images.txt").write_text("\\n 1.jpg\\n2.jpg\\n")
    ...     first_line(Path(folder, "images.txt"))
    '1.jpg'
    """
    head = first_bytes(path, HEAD) if path.exists() else b""  # what is missing read_rows says
    mark, encoding = next((row for row in MARKS if head.startswith(row[0])), (b"", "utf-8"))
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head[len(mark) :])  # what is cut off is left out
    except UnicodeDecodeError:
        text = ""
    *lines, _ = text.replace("\r", "\n").split("\n")  # the last one may be cut
    if "\0" in text or not any(map(str.strip, lines)):
        lines = read_rows(path).split("\n")
    return next((line.strip() for line in lines if line.strip()), "")


def check_size(path: Path, most: int = LARGEST_LIST) -> None:
    """Raises InputError for a file of more than `most` bytes; of one that is missing nothing.

    >>> check_size(Path("no such file"))
    """
    if path.is_file() and (size := path.stat().st_size) > most:
        raise InputError(f"{path}: {size >> 20} MB; expected at most {most >> 20} MB")


def read_table(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file that the chain made, with its heading. Raises InputError for one that is larger than it
    makes, or is no CSV. It may have a row per object, so its rows are not all held.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "confusion.csv").write_text("actual,predicted\\ncow,goat\\n")
    ...     list(read_table(Path(folder, "confusion.csv")))
    [['actual', 'predicted'], ['cow', 'goat']]
    """
    check_size(path, LARGEST_LIST)
    try:
        yield from csv.reader(io.StringIO(read_rows(path), newline=""))
    except csv.Error as error:
        raise InputError(f"{path}: not CSV: {error}") from None


def rows_by_column(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the cells of each row of a CSV file that is not empty. Raises InputError for a column that is there
    twice, and for what is no CSV.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "metadata.csv").write_text("file_name,label\\na.jpg,cow\\n")
    ...     list(rows_by_column(Path(folder, "metadata.csv")))
    [(2, {'file_name': 'a.jpg', 'label': 'cow'})]
    """
    reader = csv.reader(io.StringIO(read_rows(path), newline=""))
    try:
        header = next(reader, [])
        if twice := [name for name, times in Counter(header).items() if times > 1]:
            raise InputError(f"{path}:1: column {twice[0]!r} twice; expected each once")
        for cells in reader:
            if any(cells):
                yield reader.line_num, by_column(header, cells)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def by_column(header: list[str], cells: list[str]) -> dict[str, str]:
    """The cells of a row by column; what `beyond` says of the row has the key BEYOND.

    >>> by_column(["file_name", "label"], ["a.jpg"])
    {'file_name': 'a.jpg'}
    """
    row = dict(zip(header, cells, strict=False))
    if found := beyond(header, cells):
        row[BEYOND] = found
    return row


def beyond(header: list[str], cells: list[str]) -> str:
    """What to say of a row with cells beyond its header, as where a comma in a cell is not quoted: what any of them is
    of nobody knows. "" of any other.

    >>> beyond(["file_name", "label"], ["a.jpg", "cow", " brown"])
    '3 cells, expected 2 as in the header; a cell with a comma is put into quotes'
    """
    if not any(map(str.strip, cells[len(header) :])):
        return ""
    return f"{len(cells)} cells, expected {len(header)} as in the header; a cell with a comma is put into quotes"


def read_figures(path: Path | str) -> list[dict[str, float]]:
    """The rows of a CSV file of numbers below its heading. Raises InputError if it is missing or a cell is no number.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "history.csv").write_text("epoch,train_loss\\n0,1.5\\n")
    ...     read_figures(f"{folder}/history.csv")
    [{'epoch': 0.0, 'train_loss': 1.5}]
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; `dvc repro` makes it, `dvc checkout` or `dvc pull` brings it back")
    check_size(path, LARGEST_TABLE)
    try:
        rows = csv.DictReader(read_rows(path).splitlines())
        return [{key: float(cell) for key, cell in row.items()} for row in rows]
    except (TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: expected a number in each cell: {error}") from None
