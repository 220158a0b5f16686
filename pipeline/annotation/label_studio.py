"""The calls that this project makes of a Label Studio server (https://labelstud.io/api), over `requests`.

A personal access token is a refresh token: it is exchanged for one that lives five minutes, and exchanged again when
that has ended. A legacy token is sent as it is.
"""

import base64
import json
from typing import Any

import requests

from pipeline.annotation.server import TRIES, Server, goes_in_header
from pipeline.core.errors import InputError

TOKENS = "Account & Settings there has a personal access token"
LEGACY = "a legacy token is taken only where Organization > Access Token Settings allows legacy tokens"


class LabelStudio(Server):
    """A server of Label Studio."""

    tool, tokens, start = "Label Studio", TOKENS, "`make label-studio` starts one"

    def __init__(self, url: str, token: str, wait: float = 1.0):
        super().__init__(url, token, wait)
        self._personal = _is_personal(self._token)
        if not self._personal:
            self._proof, self.tokens = f"Token {self._token}", f"{TOKENS}; {LEGACY}"

    def project(self, title: str) -> int | None:
        found = self._pages("/api/projects/?page_size=1000&fields=id,title&include=id,title", "id", "title")
        return max((row["id"] for row in found if row["title"] == title), default=None)

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
        place = f"/api/storages/localfiles?project={project}"
        known = self._rows(self._json("GET", place, kind=list), place, "path")
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
        path = f"/api/predictions/?task={task}"
        for row in self._rows(self._json("GET", path, kind=list), path, "id", "model_version"):
            if version in (None, row["model_version"]):
                self._done("DELETE", f"/api/predictions/{row['id']}/")

    def people(self) -> dict[int, str]:
        """The email, or the name, of each user by id."""
        users = self._rows(self._json("GET", "/api/users/", kind=list), "/api/users/", "id")
        return {user["id"]: user.get("email") or user.get("username") or str(user["id"]) for user in users}

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
        if not answer.ok:
            raise InputError(
                f"{self.url}: the personal access token is not taken ({answer.status_code}): it has ended or was "
                f"revoked; {TOKENS}"
            )
        access = str(self._value(self._read(answer, path, dict), "access", path))
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
