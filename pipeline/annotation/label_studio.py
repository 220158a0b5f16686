"""The calls that this project makes of a Label Studio server (https://labelstud.io/api), over `requests`.

A personal access token is a refresh token: it is exchanged for one that lives five minutes, and exchanged again when
that has ended. A legacy token is sent as it is.
"""

import base64
import json
from typing import Any

import requests

from pipeline.annotation.server import TRIES, Form, Server, goes_in_header, succeeded
from pipeline.core.errors import InputError

EXPORT = "/api/projects/{}/export?exportType=JSON&download_all_tasks=true"
TOKENS = "Account & Settings there has a personal access token"
LEGACY = "a legacy token is taken only where Organization > Access Token Settings allows legacy tokens"


class Made(Form):
    """What has a number there."""

    id: int


class Titled(Made):
    title: str


class Storage(Form):
    path: str | None


class Imported(Form):
    task_count: int | None = None
    prediction_count: int | None = None


class Shown(Form):
    created: int | None = None


class Prediction(Made):
    model_version: str | None


class User(Made):
    email: str | None = None
    username: str | None = None


class Task(Made):
    """An image, with what people did on it."""

    data: dict[str, Any]
    annotations: list[Any]
    drafts: list[Any] | None = None


class Access(Form):
    access: str


class LabelStudio(Server):
    """A server of Label Studio."""

    tool, tokens, start = "Label Studio", TOKENS, "`make label-studio` starts one"

    def __init__(self, url: str, token: str, wait: float = 1.0):
        super().__init__(url, token, wait)
        self._personal = _is_personal(self._token)
        if not self._personal:
            self._proof, self.tokens = f"Token {self._token}", f"{TOKENS}; {LEGACY}"

    def project(self, title: str) -> int | None:
        found = self._pages("/api/projects/?page_size=1000&fields=id,title&include=id,title", Titled)
        return max((row.id for row in found if row.title == title), default=None)

    def title(self, project: int) -> str:
        return self._json("GET", f"/api/projects/{project}/", Titled).title

    def new_project(self, title: str, config: str, **settings: Any) -> int:
        said = {"title": title, "label_config": config} | settings
        return self._json("POST", "/api/projects/", Made, tries=1, json=said).id

    def change(self, project: int, **settings: Any) -> None:
        self._json("PATCH", f"/api/projects/{project}/", dict[str, Any], json=settings)

    def serve_folder(self, project: int, path: str) -> None:
        """Let the project show the images below `path`, as the server calls it; nothing is imported from there."""
        place = f"/api/storages/localfiles?project={project}"
        if all(row.path != path for row in self._json("GET", place, list[Storage])):
            storage = {"project": project, "path": path, "title": "Pocketlens", "use_blob_urls": True}
            self._json("POST", "/api/storages/localfiles", dict[str, Any], json=storage)

    def file(self, place: str) -> bytes | None:
        """The bytes of what a task shows by its `place`; None if the server does not show it."""
        answer = self._call("GET", place, allow_redirects=True)
        return answer.content if succeeded(answer) else None

    def tasks(self, project: int) -> list[Any]:
        """All tasks, with the annotations and drafts of all people, in whatever form each is."""
        return self._json("GET", EXPORT.format(project), list[Any])

    def whole_tasks(self, project: int) -> list[Task]:
        """All tasks. Raises InputError if one has another form."""
        return self._json("GET", EXPORT.format(project), list[Task])

    def add_tasks(self, project: int, tasks: list[dict[str, Any]]) -> None:
        """Raises InputError if fewer came into being than were sent. A call that fails is not made again."""
        answer = self._json("POST", f"/api/projects/{project}/import", Imported, tries=1, json=tasks)
        sent = sum(len(task.get("predictions", [])) for task in tasks)
        self._counted("tasks", answer.task_count, len(tasks))
        self._counted("predictions", answer.prediction_count, sent)

    def add_predictions(self, project: int, predictions: list[dict[str, Any]]) -> None:
        """Raises InputError if fewer came into being than were sent. A call that fails is not made again."""
        answer = self._json("POST", f"/api/projects/{project}/import/predictions", Shown, tries=1, json=predictions)
        self._counted("predictions", answer.created, len(predictions))

    def remove_predictions(self, task: int, version: str | None) -> None:
        """Take those of the model `version` from the task, all if None, so that none is there twice."""
        path = f"/api/predictions/?task={task}"
        for row in self._json("GET", path, list[Prediction]):
            if version in (None, row.model_version):
                self._done("DELETE", f"/api/predictions/{row.id}/")

    def people(self) -> dict[int, str]:
        """The email, or the name, of each user by id."""
        users = self._json("GET", "/api/users/", list[User])
        return {user.id: user.email or user.username or str(user.id) for user in users}

    def _call(self, method: str, path: str, tries: int = TRIES, **more: Any) -> requests.Response:
        """The answer: after `tries` that a busy server has not answered, and with a fresh token where one has ended."""
        if self._personal and not self._proof:
            self._refresh()
        answer = super()._call(method, path, tries, **more)
        if answer.status_code == requests.codes.unauthorized and self._personal:
            self._refresh()
            answer = super()._call(method, path, tries, **more)
        return answer

    def _refresh(self) -> None:
        self._proof, path = "", "/api/token/refresh/"
        answer = self._tried("POST", path, TRIES, json={"refresh": self._token})
        self._refuse_busy(answer, "POST", path, TRIES)
        if not succeeded(answer):
            raise InputError(
                f"{self.url}: the personal access token is not taken ({answer.status_code}): it has ended or was "
                f"revoked; {TOKENS}"
            )
        access = self._read(answer, path, Access).access
        if not goes_in_header(access):
            raise InputError(f"{self.url}: {path} answers with what is no token")
        self._proof = f"Bearer {access}"


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
