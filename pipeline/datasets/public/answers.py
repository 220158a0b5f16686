"""What a server's answer says of a file, and what ends a try."""

import re
from typing import TYPE_CHECKING

from pipeline.core.errors import InputError, without_password

if TYPE_CHECKING:
    from requests import Response


class CutError(Exception):
    """The server ended before the file did."""


class GoneError(InputError):
    """The server has no such file, and will not have it later."""

    def __init__(self, url: str, answer: "Response") -> None:
        super().__init__(answered(url, answer))
        self.url = url


def answered(url: str, answer: "Response") -> str:
    """The address and the status, for people."""
    return f"{without_password(url)}: the server answers {answer.status_code} {answer.reason}"


def began_at(answer: "Response", have: int, version: str) -> int | None:
    """The byte that the answer begins at; None if what is there is no beginning of the server's file."""
    if answer.status_code == 206:
        said = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        same = not (version and version_of(answer)) or version == version_of(answer)
        return have if said and int(said[1]) == have and same else None
    return None if answer.status_code == 416 and have else 0


def version_of(answer: "Response") -> str:
    """What If-Range may be given: a strong ETag, else the date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def is_hopeless(error: Exception) -> bool:
    """Whether another try would end the same way."""
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, SSLError, TooManyRedirects

    return isinstance(error, InvalidSchema | InvalidURL | MissingSchema | SSLError | TooManyRedirects)
