"""A server of an annotation tool, asked over `requests`: who asks, what a busy one gets, and what is no answer."""

import re
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar, get_origin
from urllib.parse import urljoin, urlsplit

import requests
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from urllib3.exceptions import ProtocolError

from pipeline.annotation.project import KEY
from pipeline.core.errors import InputError, without_password

TRIES = 4  # of a call that a busy server did not answer: SQLite is locked while another one writes
BUSY = (429, 500, 502, 503, 504)
TIMEOUT_S = 300  # of an import; what nobody answers fails at once
T = TypeVar("T")


class BusyError(InputError):
    """The server did not answer this call; whether it did what it was asked, nobody knows."""


class Form(BaseModel):
    """What is read of an answer; what else it has is left. A number is no text, nor a text a number."""

    model_config = ConfigDict(strict=True, frozen=True)


class Page(Form):
    """Of a list that comes in pages."""

    results: list[Any]
    next: Any = None


class Server:
    """A server at `url`, and who asks. `wait` is the pause in seconds after a first failed try; it doubles.

    With `with` its connections are closed at the end. Every method raises InputError naming the address if nobody
    answers there, the token is not taken, or the server refuses; `BusyError`, an InputError too, if it could not.
    `tool` is what it is called, `tokens` where it has one, `start` how one is started.
    """

    tool = tokens = start = ""

    def __init__(self, url: str, token: str, wait: float = 1.0):
        if without_password(url) != url:
            raise InputError(f"--url {without_password(url)}: expected no password in it; the token says who asks")
        self.url, self.wait = url.rstrip("/"), wait
        self._token = token.strip()
        if not goes_in_header(self._token):
            raise InputError(f"the token for {self.url} has blanks or odd characters in it; {self.tokens}")
        self._proof = ""
        self._session = requests.Session()
        self._session.auth = self._signed  # else requests takes what ~/.netrc has for the host

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def project(self, title: str) -> int | None:
        """The number of the newest project with this title."""
        raise NotImplementedError

    def title(self, project: int) -> str:
        """Of the project with this number."""
        raise NotImplementedError

    def number_of(self, title: str) -> int:
        """Of the newest project with this title. Raises InputError if there is none."""
        number = self.project(title)
        if number is None:
            wanted = "`pocketlens annotate` makes it, --project N names another one"
            raise InputError(f"{self.url}: no project {title!r}; {wanted}")
        return number

    def key_in(self, number: int) -> str:
        """What the project is listed under: the end of its title. The labels may have been others when it was made.

        Raises InputError if the title does not end so.
        """
        title = self.title(number)
        if not re.fullmatch(f"[0-9a-f]{{{KEY}}}", title[-KEY:]):
            raise InputError(
                f"{self.url}/projects/{number}: the title is {title!r}; expected one that ends in {KEY} hex digits, as "
                "`pocketlens annotate` made it: was it changed?"
            )
        return title[-KEY:]

    def insist(self, do: Callable[[int], T]) -> T:
        """What `do` returns, which gets how often it was tried before. A call that failed may have done its work: where
        that is not 0, `do` is to look up what is there before it does anything again.
        """
        for tried in range(TRIES - 1):
            try:
                return do(tried)
            except BusyError:
                self.pause(tried + 1)
        return do(TRIES - 1)

    def pause(self, tried: int) -> None:
        """Before the next try, after so many that a busy server did not answer."""
        time.sleep(self.wait * 2 ** (tried - 1))

    def _pages(self, page: str, form: type[T]) -> list[T]:
        """The rows of a list that comes in pages, each in this form."""
        found, asked = list[T](), set[str]()
        while page:
            if page in asked:
                raise InputError(f"{self.url}: {page} comes after itself; expected the address of {self.tool}")
            asked.add(page)
            answer = self._json("GET", page, Page)
            found += self._checked({"results": answer.results}, dict[str, list[form]], page)["results"]  # type: ignore[valid-type]
            page = self._path_of(answer.next, page)
        return found

    def _path_of(self, address: Any, page: str) -> str:
        """Where in the API the page after `page` is, "" after the last one: behind a proxy a server may call itself
        otherwise than it is called from here.
        """
        if not address:
            return ""
        try:
            found = urlsplit(address) if isinstance(address, str) else None
        except ValueError:  # as of a host in one bracket
            found = None
        if found is None:
            said = f"{page} has the next page {address!r:.60}"
            raise InputError(f"{self.url}: {said}; expected the address of a {self.tool} server")
        return f"{found.path[max(found.path.find('/api/'), 0) :]}?{found.query}"

    def _json(self, method: str, path: str, form: type[T], tries: int = TRIES, **more: Any) -> T:
        """What was answered, if it is in this form."""
        return self._read(self._done(method, path, tries, **more), path, form)

    def _read(self, answer: requests.Response, path: str, form: type[T]) -> T:
        kind, what = (list, "list") if get_origin(form) is list else (dict, "object")
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, kind):
            raise InputError(f"{self.url}: {path} is not a JSON {what}; expected the address of a {self.tool} server")
        return self._checked(found, form, path)

    def _checked(self, found: Any, form: type[T], path: str) -> T:
        try:
            return TypeAdapter(form).validate_python(found, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise InputError(f"{self.url}: {path} has no {key!r}; expected the address of a {self.tool} server")
        wanted = first["msg"].removeprefix("Input should be ")
        said = f"{path}: {key} is {first['input']!r:.60}, not {wanted}"
        raise InputError(f"{self.url}: {said}; expected the address of a {self.tool} server")

    def _counted(self, what: str, made: Any, sent: int) -> None:
        if made != sent:
            raise InputError(f"{self.url}: {sent} {what} were sent, and {made} came into being")

    def _done(self, method: str, path: str, tries: int = TRIES, **more: Any) -> requests.Response:
        answer = self._call(method, path, tries, **more)
        if answer.status_code in (401, 403):
            refused = f"{answer.status_code}: {_said(answer)}"
            raise InputError(f"{self.url}: the token is not taken ({refused}); {self.tokens}")
        self._refuse_busy(answer, method, path, tries)
        if not succeeded(answer):
            raise InputError(f"{self.url}: {method} {path}: {answer.status_code}: {_said(answer)}")
        return answer

    def _refuse_busy(self, answer: requests.Response, method: str, path: str, tries: int) -> None:
        if answer.status_code in BUSY:
            raise BusyError(f"{self.url}: {method} {path}: {answer.status_code}, {tries} times: {_said(answer)}")

    def _call(self, method: str, path: str, tries: int = TRIES, **more: Any) -> requests.Response:
        """The answer, after `tries` that a busy server has not answered."""
        return self._tried(method, path, tries, **more)

    def _tried(self, method: str, path: str, tries: int, **more: Any) -> requests.Response:
        answer = self._once(method, path, **more)
        for tried in range(1, tries):
            if answer.status_code not in BUSY:
                break
            self.pause(tried)
            answer = self._once(method, path, **more)
        return answer

    def _once(self, method: str, path: str, allow_redirects: bool = False, **more: Any) -> requests.Response:
        """A redirect is followed where that is asked for only: it makes a GET of what was to be posted."""
        more |= {"timeout": TIMEOUT_S, "allow_redirects": allow_redirects}
        try:
            answer = self._session.request(method, f"{self.url}{path}", **more)
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema):
            raise InputError(f"--url {self.url}: expected http:// or https:// before it") from None
        except ValueError as error:  # not only requests' own: names that no host can have raise urllib3's
            raise InputError(f"--url {self.url}: {error}; expected http://host:port") from None
        except requests.ReadTimeout:
            said = f"{method} {path}: no answer for {TIMEOUT_S} s"
            raise BusyError(f"{self.url}: {said}; run this again when the server has less to do") from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if error.args and isinstance(error.args[0], ProtocolError):
                said = f"{method} {path}: the connection was cut; run this again"
                raise BusyError(f"{self.url}: {said}") from None
            raise BusyError(f"{self.url}: no {self.tool} answers there; {self.start}") from None
        except requests.RequestException as error:
            raise InputError(f"{self.url}: {error}") from None
        if answer.is_redirect:
            there = without_password(urljoin(answer.url, answer.headers["Location"])).split("?")[0]
            raise InputError(f"--url {self.url}: sends {path} on to {there}; expected the address that answers")
        return answer

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._proof:
            request.headers["Authorization"] = self._proof
        return request


def succeeded(answer: requests.Response) -> bool:
    """A redirect to nowhere has not."""
    return 200 <= answer.status_code < 300


def goes_in_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _said(answer: requests.Response) -> str:
    """What a refusal says, in one line."""
    try:
        said = answer.json()
    except (ValueError, RecursionError):
        return answer.reason
    if isinstance(said, dict):
        rows = said.get("validation_errors") or said.get("non_field_errors") or said.get("detail") or said
        return " ".join(str(rows).split())[:500]
    return " ".join(str(said).split())[:500]
