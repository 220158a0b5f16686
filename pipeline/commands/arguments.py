"""What an argument may be; each raises argparse.ArgumentTypeError for what it is not."""

import argparse
import math
from pathlib import Path

MOST_PORTS = 65535


def word(text: str) -> str:
    """An empty one, as of a shell's variable that is not set, is no wish for the default or for this folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a word")
    return text


def path(text: str) -> Path:
    if "://" in text or "::" in text:
        from pipeline.core.errors import without_password
        from pipeline.datasets.remote import FETCHED, is_url

        if is_url(text):
            fetches = f"`pocketlens add --data` fetches what lies at a URL into {FETCHED}/"
            found = f"found {without_password(text)!r}; expected a path of this machine; {fetches}"
            raise argparse.ArgumentTypeError(found)
    return Path(word(text))


def name(text: str) -> str:
    """Of a run or dataset."""
    from pipeline.core.names import NAME, NAMED

    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {NAMED}")
    return text


def place(text: str) -> Path | str:
    from pipeline.datasets.remote import is_url

    return word(text) if is_url(text) else path(text)


def words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected words with commas between")
    return words


def count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number, 1 or more")
    return int(text)


def above_0(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number above 0")
    return number


def share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a number from 0 to 1")
    return share


def port(text: str) -> int:
    if not text.strip().isdecimal() or int(text) > MOST_PORTS:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a port, up to {MOST_PORTS}")
    return int(text)


def numbers(text: str) -> list[float]:
    return [above_0(word) for word in text.split(",")]


def add_report(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help="all that was found, as one JSON object")
    parser.add_argument("--sheet", type=path, metavar="FILE", help=f"{what}, a new .jpg or .png")
