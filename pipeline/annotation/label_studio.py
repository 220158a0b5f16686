"""The calls that this project makes of a Label Studio server (https://labelstud.io/api), over `requests`.

A personal access token is a refresh token: it is exchanged for one that lives five minutes, and exchanged again when
that has ended. A legacy token is sent as it is.
"""

import base64
import json
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from pipeline.core.errors import InputError, without_password

TRIES = 4  # of a call that a busy server did not answer: SQLite is locked while another one writes
BUSY = (429, 500, 502, 503, 504)
TIMEOUT_S = 300  # of an import; what nobody answers fails at once
TOKENS = "Account & Settings there has a personal access token"
LEGACY = "a legacy token is taken only where Organization > Access Token Settings allows legacy tokens"


class BusyError(InputError):
    """The server did not answer this call; whether it did what it was asked, nobody knows."""


class LabelStudio:
    """A server at `url`, and who asks. `wait` is the pause in seconds after a first failed try; it doubles.

    With `with` its connections are closed at the end. Every method raises InputError naming the address if nobody
    answers there, the token is not taken, or the server refuses; `BusyError`, an InputError too, if it could not.
    """

    def __init__(self, url: str, token: str, wait: float = 1.0):
        if without_password(url) != url:
            raise InputError(f"--url {without_password(url)}: expected no password in it; the token says who asks")
        self.url, self.wait = url.rstrip("/"), wait
        self._token = token.strip()
        if not _goes_in_header(self._token):
            raise InputError(f"the token for {self.url} has blanks or odd characters in it; {TOKENS}")
        self._personal = _is_personal(self._token)
        self._proof = "" if self._personal else f"Token {self._token}"
        self._session = requests.Session()
        self._session.auth = self._signed  # else requests takes what ~/.netrc has for the host

    def __enter__(self) -> "LabelStudio":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def projects(self) -> dict[str, int]:
        """The ids of the projects by title, of two with one title the newer."""
        found: dict[str, int] = {}
        page, asked = "/api/projects/?page_size=1000&fields=id,title&include=id,title", set[str]()
        while page:
            if page in asked:
                raise InputError(f"{self.url}: {page} comes after itself; expected the address of Label Studio")
            asked.add(page)
            answer = self._json("GET", page)
            for row in self._rows(self._value(answer, "results", page), page, "id", "title"):
                found[row["title"]] = max(row["id"], found.get(row["title"], 0))
            page = _path_of(answer.get("next") or "")
        return found

    def title(self, project: int) -> str:
        path = f"/api/projects/{project}/"
        return str(self._value(self._json("GET", path), "title", path))

    def new_project(self, title: str, config: str, **settings: Any) -> int:
        answer = self._json("POST", "/api/projects/", tries=1, json={"title": title, "label_config": config} | settings)
        return int(self._value(answer, "id", "/api/projects/"))

    def change(self, project: int, **settings: Any) -> None:
        self._json("PATCH", f"/api/projects/{project}/", json=settings)

    def serve_folder(self, project: int, path: str) -> None:
        """Let the project show the images below `path`, as the server calls it; nothing is imported from there."""
        known = self._json("GET", f"/api/storages/localfiles?project={project}", kind=list)
        if all(row["path"] != path for row in known):
            storage = {"project": project, "path": path, "title": "Pocketlens", "use_blob_urls": True}
            self._json("POST", "/api/storages/localfiles", json=storage)

    def file(self, place: str) -> bytes | None:
        """The bytes of what a task shows by its `place`; None if the server does not show it."""
        answer = self._call("GET", place, allow_redirects=True)
        return answer.content if answer.ok else None

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks, with the annotations and drafts of all people."""
        path = f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true"
        return list(self._json("GET", path, kind=list))

    def add_tasks(self, project: int, tasks: list[dict[str, Any]]) -> None:
        """Raises InputError if fewer came into being than were sent. A call that fails is not made again."""
        answer = self._json("POST", f"/api/projects/{project}/import", tries=1, json=tasks)
        sent = sum(len(task.get("predictions", [])) for task in tasks)
        self._counted("tasks", answer.get("task_count"), len(tasks))
        self._counted("predictions", answer.get("prediction_count"), sent)

    def add_predictions(self, project: int, predictions: list[dict[str, Any]]) -> None:
        """Raises InputError if fewer came into being than were sent. A call that fails is not made again."""
        answer = self._json("POST", f"/api/projects/{project}/import/predictions", tries=1, json=predictions)
        self._counted("predictions", answer.get("created"), len(predictions))

    def remove_predictions(self, task: int, version: str | None) -> None:
        """Take those of the model `version` from the task, all if None, so that none is there twice."""
        for row in self._json("GET", f"/api/predictions/?task={task}", kind=list):
            if version in (None, row["model_version"]):
                self._done("DELETE", f"/api/predictions/{row['id']}/")

    def people(self) -> dict[int, str]:
        """The email, or the name, of each user by id."""
        users = self._rows(self._json("GET", "/api/users/", kind=list), "/api/users/", "id")
        return {user["id"]: user.get("email") or user.get("username") or str(user["id"]) for user in users}

    def pause(self, tried: int) -> None:
        """Before the next try, after so many that a busy server did not answer."""
        time.sleep(self.wait * 2 ** (tried - 1))

    def _counted(self, what: str, made: Any, sent: int) -> None:
        if made != sent:
            raise InputError(f"{self.url}: {sent} {what} were sent, and {made} came into being")

    def _json(self, method: str, path: str, tries: int = TRIES, kind: type = dict, **more: Any) -> Any:
        """What was answered, if it is of this kind."""
        return self._read(self._done(method, path, tries, **more), path, kind)

    def _read(self, answer: requests.Response, path: str, kind: type) -> Any:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, kind):
            what = "a JSON object" if kind is dict else "a JSON list"
            raise InputError(f"{self.url}: {path} is not {what}; expected the address of a Label Studio server")
        return found

    def _value(self, answer: dict[str, Any], key: str, path: str) -> Any:
        if key not in answer:
            raise InputError(f"{self.url}: {path} has no {key!r}; expected the address of a Label Studio server")
        return answer[key]

    def _rows(self, rows: Any, path: str, *keys: str) -> list[dict[str, Any]]:
        if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= set(keys) for row in rows):
            said = f"{path} has no rows with {' and '.join(keys)}"
            raise InputError(f"{self.url}: {said}; expected the address of a Label Studio server")
        return rows

    def _done(self, method: str, path: str, tries: int = TRIES, **more: Any) -> requests.Response:
        answer = self._call(method, path, tries, **more)
        if answer.status_code in (401, 403):
            said = TOKENS if self._personal else f"{TOKENS}; {LEGACY}"
            refused = f"{answer.status_code}: {_said(answer)}"
            raise InputError(f"{self.url}: the token is not taken ({refused}); {said}")
        self._refuse_busy(answer, method, path, tries)
        if not answer.ok:
            raise InputError(f"{self.url}: {method} {path}: {answer.status_code}: {_said(answer)}")
        return answer

    def _refuse_busy(self, answer: requests.Response, method: str, path: str, tries: int) -> None:
        if answer.status_code in BUSY:
            raise BusyError(f"{self.url}: {method} {path}: {answer.status_code}, {tries} times: {_said(answer)}")

    def _call(self, method: str, path: str, tries: int = TRIES, **more: Any) -> requests.Response:
        """The answer: after `tries` that a busy server has not answered, and with a fresh token where one has ended."""
        if self._personal and not self._proof:
            self._refresh()
        answer = self._tried(method, path, tries, **more)
        if answer.status_code == requests.codes.unauthorized and self._personal:
            self._refresh()
            answer = self._tried(method, path, tries, **more)
        return answer

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
        except (requests.ConnectionError, requests.Timeout):
            said = f"{self.url}: no Label Studio answers there; `make label-studio` starts one"
            raise BusyError(said) from None
        except requests.RequestException as error:
            raise InputError(f"{self.url}: {error}") from None
        if answer.is_redirect:
            there = without_password(urljoin(answer.url, answer.headers["Location"])).split("?")[0]
            raise InputError(f"--url {self.url}: sends {path} on to {there}; expected the address that answers")
        return answer

    def _refresh(self) -> None:
        self._proof, path = "", "/api/token/refresh/"
        answer = self._tried("POST", path, TRIES, json={"refresh": self._token})
        self._refuse_busy(answer, "POST", path, TRIES)
        if not answer.ok:
            raise InputError(
                f"{self.url}: the personal access token is not taken ({answer.status_code}): it has ended or was "
                f"revoked; {TOKENS}"
            )
        access = str(self._value(self._read(answer, path, dict), "access", path))
        if not _goes_in_header(access):
            raise InputError(f"{self.url}: {path} answers with what is no token")
        self._proof = f"Bearer {access}"

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._proof:
            request.headers["Authorization"] = self._proof
        return request


def _goes_in_header(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _path_of(address: str) -> str:
    """Where in the API: behind a proxy a server may call itself otherwise than it is called from here."""
    found = urlsplit(address)
    return f"{found.path[max(found.path.find('/api/'), 0) :]}?{found.query}" if address else ""


def _is_personal(token: str) -> bool:
    """Whether it is a JWT, as a personal access token is, or a legacy token of 40 hex digits."""
    parts = token.split(".")
    if len(parts) != 3:
        return False
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return False
    return isinstance(payload, dict) and payload.get("token_type") == "refresh"


def _said(answer: requests.Response) -> str:
    """What a refusal says, in one line."""
    try:
        said = answer.json()
    except ValueError:
        return answer.reason
    if isinstance(said, dict):
        rows = said.get("validation_errors") or said.get("non_field_errors") or said.get("detail") or said
        return " ".join(str(rows).split())[:500]
    return " ".join(str(said).split())[:500]
