"""What people did in Label Studio, as a label layer: a statement for each image that was sent, by our id and pixels."""

from collections import Counter
from dataclasses import replace
from typing import Any

from pipeline.annotation.agreement import agree, one_of
from pipeline.annotation.answers import Answer, answer_of
from pipeline.annotation.fetched import Fetched, not_there
from pipeline.annotation.label_studio import LabelStudio
from pipeline.annotation.project import Project
from pipeline.annotation.sending import ID, PIXELS
from pipeline.annotation.sent import Sent, read_sent
from pipeline.core.errors import InputError
from pipeline.core.layer import Statement
from pipeline.core.sample import Sample
from pipeline.datasets.formats.reading import Problem


def fetch(server: LabelStudio, number: int, project: Project, reviewers: list[str]) -> Fetched:
    """What people said in the project with this `number`; the answers of `reviewers` count before all others.

    Raises InputError if nothing is known of what was sent.
    """
    sent = read_sent(project.listed)
    if not sent:
        raise InputError(f"{project.listed}: nothing is listed as sent; expected it beside the layers, from the sender")
    people = server.people()
    found = Fetched()
    annotations: dict[str, list[dict[str, Any]]] = {}
    tasks = server.tasks(number)
    for task in tasks:
        refused = _refused(task, sent)
        if refused:
            number_there = task.get("id") if isinstance(task, dict) else task
            found.rows.append(Problem(f"task {number_there!r:.40}", "", *refused, "refused"))
            continue
        id = task["data"][ID]
        annotations.setdefault(id, []).extend(task["annotations"])
        for draft in task.get("drafts") or []:
            found.drafts += 1
            by = _who(draft.get("user") if isinstance(draft, dict) else None, people)
            found.rows.append(Problem(id, by, "draft", "not submitted", "not taken"))
    missing = sent.keys() - {_id_of(task) for task in tasks}
    found.rows += not_there(len(missing), "the project: were their tasks deleted?")
    for id, done in sorted(annotations.items()):
        found.statements.append(_statement(done, sent[id], people, project, reviewers, found))
    return found


def _refused(task: Any, sent: dict[str, Sent]) -> tuple[str, str] | None:
    """Why nothing of a task is taken: rule and words. Its number in Label Studio says nothing, as they come again."""
    id = _id_of(task)
    if id is None:
        return "unknown_task", f"no {ID}: it was not sent from here"
    if id not in sent:
        return "unknown_task", f"{id!r:.60} is not among what was sent"
    data, done, drafts = task["data"], task.get("annotations"), task.get("drafts") or []
    if not isinstance(done, list) or not all(isinstance(annotation, dict) for annotation in done):
        return "unknown_task", f"annotations {done!r:.60}; expected a list of them"
    if not isinstance(drafts, list):
        return "unknown_task", f"drafts {drafts!r:.60}; expected a list of them"
    if data.get(PIXELS) != sent[id].pixels:
        return "other_pixels", f"{id!r} shows {data.get(PIXELS)!r}; {sent[id].pixels!r} was sent"
    return None


def _id_of(task: Any) -> str | None:
    data = task.get("data") if isinstance(task, dict) else None
    id = data.get(ID) if isinstance(data, dict) else None
    return id if isinstance(id, str) else None


def _statement(
    annotations: list[dict[str, Any]],
    sent: Sent,
    people: dict[int, str],
    project: Project,
    reviewers: list[str],
    found: Fetched,
) -> Statement:
    newest: dict[str, Answer] = {}
    for annotation in annotations:
        by = _who(annotation.get("completed_by"), people)
        answer, rows = answer_of(annotation, sent, by, project)
        found.rows += rows
        if answer is not None and (by not in newest or answer.age > newest[by].age):
            newest[by] = answer
    _count(newest, sent, found)
    id, what = sent.sample.id, (sent.sample.id, sent.pixels, sent.look)
    if not newest:
        return Statement(*what, "untouched", sent.against, "", sent.shown)
    taken = one_of(list(newest.values()), reviewers)
    for by, answer in sorted(newest.items()):
        if not (answer.sample is taken.sample is None) and not agree(answer.sample, taken.sample):
            said = "skipped it" if answer.sample is None else _words(answer.sample)
            found.rows.append(Problem(id, by, "disagreement", f"{said}; {taken.by}'s answer is taken", "noted"))
    statement = Statement(*what, "skipped", sent.against, taken.by, sent.shown, taken.seconds)
    if taken.sample is None:
        return statement
    label, objects = taken.sample.label, taken.sample.objects
    state = "empty" if label is None and not objects else "labelled"
    return replace(statement, state=state, label=label, objects=objects)


def _count(newest: dict[str, Answer], sent: Sent, found: Fetched) -> None:
    for by, answer in newest.items():
        if answer.sample is not None:
            found.answers[by][sent.sample.id] = answer.sample
            person = found.people[by]
            person.images += 1
            person.objects += len(sent.sample.objects)
            person.kept += answer.kept
            person.seconds += [] if answer.seconds is None else [answer.seconds]


def _words(sample: Sample) -> str:
    if sample.label is not None:
        return sample.label
    counts = Counter(o.label for o in sample.objects)
    return ", ".join(f"{n} {label}" for label, n in sorted(counts.items())) or "nothing there"


def _who(user: Any, people: dict[int, str]) -> str:
    """A person's email; an export has the number, an object, or the email itself."""
    if isinstance(user, dict):
        return str(user.get("email") or user.get("username") or user.get("id"))
    return people.get(user, str(user)) if isinstance(user, int) else str(user or "")
