"""Files over HTTP: what came stays and is gone on with, and a file is whole and checked or not there.

RFC 9110: Range and If-Range ask for the rest of the same version; 206 is that rest, 200 the whole file anew.
"""

import hashlib
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from tqdm import tqdm

from pipeline.core.errors import InputError, without_password
from pipeline.core.files import naming, new_file, read_json, write_json
from pipeline.core.image_file import ImageFileError, upright_size
from pipeline.core.links import link_or_copy
from pipeline.core.sole import unlink_planted
from pipeline.datasets.public.answers import CutError, GoneError, answered, began_at, is_hopeless, version_of

if TYPE_CHECKING:
    from requests import Session

CONNECTING, ANSWERING = 20, 60  # seconds without a word from the server
PAUSES = (1.0, 4.0, 15.0)  # seconds before another try where the last one brought nothing
AT_ONCE = 8  # small files
BLOCK = 1 << 20  # bytes
BUSY = (408, 429, 500, 502, 503, 504)
GONE = (404, 410)
MOST_GONE = 0.03  # of small files


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at `url`, with the `checksum` that is known of it ("sha256:..." or "md5:..."); "" if none is published."""

    url: str
    checksum: str = ""

    @property
    def name(self) -> str:
        return unquote(PurePosixPath(urlsplit(self.url).path).name)


class Downloads:
    """Brings files into `folder`. Of files without a published checksum `seen`, a JSON file, has the one that they had
    at the first download, and a later one is held to it.
    """

    def __init__(self, folder: Path, seen: Path) -> None:
        self._folder, self._seen = folder, seen
        self._known: dict[str, str] = read_json(seen) if seen.is_file() else {}
        self._new: dict[str, str] = {}
        self._sessions: dict[bool, Session] = {}
        self.gone: list[str] = []  # addresses of small files that their server has no longer
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, file: RemoteFile) -> Path:
        """The file, whole and checked, in `folder`. Raises InputError naming its address; what came of it stays."""
        place = self._folder / file.name
        expected = file.checksum or self._known.get(file.url, "")
        part = self._folder / f"{file.name}.part"
        kind, _, digits = expected.partition(":")
        by = "published" if file.checksum else f"it had at the first download, in {self._seen}"
        if place.is_file():  # of a try that ended later, or put there by hand
            if expected and (found := _digest(place, kind)) != digits:
                raise InputError(
                    f"{place}: {kind} {found}; expected {digits}, as {by}. It is kept: remove it, or put the right one "
                    "in its place, and run it again"
                )
            self._note(file, place)
            return place
        resumed = self._bring(file, part)
        found = _digest(part, kind) if expected else ""
        if found != digits and resumed:  # the server's file may be another one than that which it began with
            part.unlink()
            self._bring(file, part)
            found = _digest(part, kind)
        if found != digits:
            part.unlink()
            raise InputError(
                f"{without_password(file.url)}: {kind} {found}; expected {digits}, as {by}. What came is removed: "
                "try again, and if it stays so, the publisher has another file there"
            )
        part.replace(place)
        _beside(part).unlink(missing_ok=True)
        self._note(file, place)
        return place

    def get_images(self, places: Mapping[str, Path]) -> None:
        """Images, by address, several at once; those that came stay in `folder` too, those that are gone are in
        `gone`. Raises InputError for the first that does not come, and where more than MOST_GONE of all are gone.
        """
        most = max(1, int(MOST_GONE * len(places)))
        kept = {url: self._folder / "single" / f"{sha256(url.encode()).hexdigest()[:16]}.whole" for url in places}
        missing = {url: file for url, file in kept.items() if not file.is_file()}
        for url in missing:
            self._session(url)  # before threads ask for it
        with ThreadPoolExecutor(AT_ONCE) as pool, tqdm(total=len(places), desc="images", unit="file") as bar:
            bar.update(len(places) - len(missing))
            try:
                for gone in pool.map(self._get_image, missing, missing.values()):
                    bar.update()
                    self.gone += [] if gone is None else [gone.url]
                    if gone and len(self.gone) > most:
                        raise InputError(
                            f"{gone}; {len(self.gone)} of {len(places)} images are gone, at most {most} may"
                        )
            finally:
                pool.shutdown(cancel_futures=True)
        for url in places.keys() - self.gone:
            places[url].parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(kept[url], places[url])

    def remember(self) -> None:
        """Write the checksums of files that have none published into `seen`: to be called once they proved good."""
        if self._new:
            with FileLock(self._seen.with_name(f"{self._seen.name}.lock")):  # other sets have theirs in it too
                known = read_json(self._seen) if self._seen.is_file() else {}
                write_json(self._seen, dict(sorted({**self._new, **known}.items())))

    def _note(self, file: RemoteFile, place: Path) -> None:
        if not file.checksum and file.url not in self._known:
            self._new[file.url] = f"sha256:{_digest(place, 'sha256')}"

    def _get_image(self, url: str, place: Path) -> GoneError | None:
        try:
            with new_file(place) as unfinished:
                self._bring(RemoteFile(url), unfinished, quiet=True)
                _beside(unfinished).unlink(missing_ok=True)
                upright_size(unfinished)
        except ImageFileError as error:
            raise InputError(f"{without_password(url)}: what came is no image: {error.found}") from None
        except GoneError as error:
            return error
        return None

    def _bring(self, file: RemoteFile, part: Path, quiet: bool = False) -> bool:
        """The whole of `file` into `part`; returns whether some of it was there before."""
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        if _is_whole(file, part):  # ended before its name
            return True
        pauses, resumed, most = iter(PAUSES), False, _size(part)
        while True:
            try:
                while (began := self._request(file, part, quiet)) is None:
                    part.unlink(missing_ok=True)
            except (RequestException, HTTPError, CutError) as error:
                if _size(part) > most:
                    pauses, resumed, most = iter(PAUSES), True, _size(part)
                    continue
                pause = next(pauses, None)
                if pause is None or is_hopeless(error):
                    have = 0 if quiet else _partial(file, part)[0]  # a small file is begun anew
                    kept = f"; {have:,} bytes of it are kept: the same command goes on there" if have else ""
                    raise InputError(f"{without_password(file.url)}: {_reason(error)}{kept}") from None
                time.sleep(pause)
            else:
                return began > 0 or resumed

    def _request(self, file: RemoteFile, part: Path, quiet: bool) -> int | None:
        """One request that ends with the whole file in `part`; returns the byte that it began at, None where what is in
        `part` is of another version, or past the end of the server's file.
        """
        unlink_planted(part)
        have, version = _partial(file, part)
        headers = {"Accept-Encoding": "identity", "User-Agent": "pocketlens"}
        if have:
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
        with self._session(file.url).get(
            file.url, headers=headers, stream=True, timeout=(CONNECTING, ANSWERING)
        ) as answer:
            if answer.status_code in BUSY:
                raise CutError(f"the server answers {answer.status_code} {answer.reason}")
            began = began_at(answer, have, version)
            if began is None and not have:
                span = answer.headers.get("Content-Range", "a part without its place")
                raise CutError(f"the server answers with {span}, which was not asked for")
            if began is None:
                return None
            if answer.status_code in GONE:
                raise GoneError(file.url, answer)
            if not answer.ok:
                raise InputError(answered(file.url, answer))
            length = answer.headers.get("Content-Length", "")
            total = began + int(length) if length.isdecimal() else None
            write_json(_beside(part), {"url": file.url, "version": version_of(answer), "total": total})
            with naming(part), part.open("ab" if began else "wb") as out, _bar(file, began, total, quiet) as bar:
                # not stream(), which drops what came of a block when the connection ends in it
                while block := answer.raw.read1(BLOCK, decode_content=False):
                    out.write(block)
                    bar.update(len(block))
            ends = "chunked" in answer.headers.get("Transfer-Encoding", "")
        if total is not None and _size(part) != total:
            raise CutError(f"the connection ended after {_size(part):,} of {total:,} bytes")
        if total is None and not (ends or file.checksum or file.url in self._known):
            part.unlink()
            raise InputError(
                f"{without_password(file.url)}: the server does not say how long the file is, and no checksum is "
                "known: nothing tells whether all of it came"
            )
        return began

    def _session(self, url: str) -> "Session":
        """One that uses the proxies of the environment, but not for this machine itself."""
        from requests import Session
        from requests.adapters import HTTPAdapter

        own = _is_loopback(urlsplit(url).hostname or "")
        if own not in self._sessions:
            session = self._sessions[own] = Session()
            session.trust_env = not own
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(pool_maxsize=AT_ONCE))
        return self._sessions[own]


def _partial(file: RemoteFile, part: Path) -> tuple[int, str]:
    """How many bytes can be gone on from, and of which version they are; none where nothing would tell a mixture."""
    state = _state(file, part)
    version = state.get("version", "")
    return (_size(part), version) if state and (version or file.checksum) else (0, "")


def _is_whole(file: RemoteFile, part: Path) -> bool:
    return part.is_file() and _state(file, part).get("total") == _size(part)


def _state(file: RemoteFile, part: Path) -> dict[str, Any]:
    """What the server said of the file whose beginning is in `part`; empty if that is of another address."""
    said: dict[str, Any] = read_json(_beside(part)) if _beside(part).is_file() else {}
    return said if said.get("url") == file.url else {}


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _bar(file: RemoteFile, began: int, total: int | None, quiet: bool) -> Any:
    sizes: dict[str, Any] = {"total": total, "initial": began, "unit": "B", "unit_scale": True, "unit_divisor": 1000}
    return tqdm(desc=file.name, disable=quiet, mininterval=0.5, **sizes)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    from requests import ConnectionError, ConnectTimeout, Timeout

    if isinstance(error, ConnectTimeout | Timeout):
        return f"no answer in {CONNECTING if isinstance(error, ConnectTimeout) else ANSWERING} seconds"
    inner = getattr(error.args[0], "reason", error) if error.args else error  # of urllib3, which says it in a few words
    said = without_password(" ".join(str(inner).split()))
    return f"not reachable ({said})" if isinstance(error, ConnectionError) else said
