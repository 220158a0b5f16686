"""To CVAT and back by its API, against a stub: cuts, busy servers, and the work of people, which nothing replaces."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cvat_stub import TOKEN, cvat_served
from studio import draw_herd

from pipeline import cli
from pipeline.annotation import cvat_sending, cvat_server
from pipeline.annotation.cvat_server import Cvat
from pipeline.core.errors import InputError
from pipeline.core.layer import content_of, read_layer
from pipeline.core.sample import SPLITS, Dataset, Object, read_samples, write_dataset, write_samples
from pipeline.core.turns import turn


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A project with a herd, in which the test runs, and the stub."""
    truth = draw_herd(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Cvat, "pause", lambda *_: None)
    with cvat_served() as (url, known):
        monkeypatch.setenv("CVAT_URL", url)
        monkeypatch.setenv("CVAT_ACCESS_TOKEN", TOKEN)
        yield known, truth


def send(*more: str) -> None:
    cli._run(["annotate", "herd", "--to", "cvat", *more])


def fetch(*more: str) -> dict[str, Any]:
    name = more[1] if more[:1] == ("--name",) else "round1"
    cli._run(["annotated", "herd", "--name", name, "--from", "cvat", *more])
    return {s.id: s for s in read_layer(f"labels/herd/{name}.jsonl")}


def rules(name: str = "round1") -> list[tuple[str, str]]:
    return [(row["file"], row["rule"]) for row in ledger(name)]


def ledger(name: str = "round1") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(f"labels/herd/{name}.ledger.csv").read_text())))


def names(known) -> list[str]:
    return [frame["name"] for task in known.tasks.values() for frame in task["frames"]]


def test_what_nobody_has_touched_comes_back_as_it_went(server, capsys):
    known, truth = server
    send()
    said = capsys.readouterr().out
    assert "5 images sent" in said and said.endswith("`pocketlens annotated herd --name LAYER --from cvat`\n")
    (task,) = known.tasks.values()
    assert names(known) == [f"{s.id}.jpg" for s in truth]
    assert {s["source"] for s in task["shapes"]} == {"file"} and len(task["shapes"]) == 2 * 5
    assert {(part["occluded"], part["outside"]) for s in task["shapes"] for part in s.get("elements", [])} == {
        (False, False), (True, False), (False, True)
    }  # fmt: skip
    known.complete()
    found = fetch()
    for sample in truth:
        said = found[sample.id]
        assert said.against == content_of(sample) == content_of(replace(sample, objects=said.objects))
        assert (said.state, said.by) == ("labelled" if sample.objects else "empty", "ann")
    assert rules() == []


@pytest.mark.parametrize("change", [{"state": "completed"}, {"state": "in progress"}, {}])
def test_a_job_that_changes_while_it_is_fetched_is_a_draft(server, monkeypatch, change):
    """As it is completed, or what is drawn in it changed, between two calls."""
    known, truth = server
    send()
    ((number, task),) = known.tasks.items()
    if change.get("state") != "completed":
        known.complete()
    jobs = Cvat.jobs

    def changing(self, asked):
        found = jobs(self, asked)
        task["jobs"][0] |= change | {"updated_date": known.now()}
        known.shown(number, "train-0.jpg")[0]["source"] = "manual"
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Cvat, "jobs", changing)
        found = fetch()
    assert {said.state for said in found.values()} == {"untouched"}
    assert rules() == [("train-0", "draft")]
    known.complete()
    assert fetch()["train-0"].objects == truth[0].objects


def test_the_project_with_the_number_is_fetched_whatever_it_is_called(server):
    known, truth = server
    send()
    known.complete()
    found = fetch()
    known.projects.append({"id": known.number(), "name": known.projects[0]["name"]})  # the newest of that name
    with pytest.raises(InputError, match=r"projects/\d+: no label 'cow'"):
        fetch("--name", "newest")
    assert fetch("--name", "first", "--project", "1") == found
    known.projects[0]["name"] = f"cows of {known.projects[0]['name']}"
    assert fetch("--name", "renamed", "--project", "1") == found and len(found) == len(truth)
    known.projects[0]["name"] = "cows"
    with pytest.raises(InputError, match="the title is 'cows'; expected one that ends in 8 hex digits"):
        fetch("--name", "lost", "--project", "1")


def test_of_an_image_in_two_tasks_the_completed_job_counts(server):
    known, truth = server
    send("--ids", _ids("train-0"))
    first = dict(known.tasks)
    known.tasks.clear()
    send()
    (second,) = known.tasks
    known.tasks = first | known.tasks
    known.complete(second)
    found = fetch()
    assert [found[s.id].state for s in truth] == [*["labelled"] * 4, "empty"]
    assert rules() == [("train-0", "listed_twice")]


def test_what_was_never_sent_is_not_listed(server, monkeypatch):
    known, _ = server
    known.broken = "No media"
    with pytest.raises(InputError, match="images are not taken: No media"):
        send()
    assert known.tasks == {} and list(Path("labels/herd/.sent").iterdir()) == []
    known.broken = ""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Cvat, "upload", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        send()
    send("--ids", _ids("train-0"))
    known.complete()
    assert fetch().keys() == {"train-0"} and rules() == []


def test_two_who_send_at_once_take_nothing_from_each_other(server):
    send()
    (file,) = Path("labels/herd/.sent").iterdir()
    key = file.name.split("-")[1]
    with turn(file.with_name(f"cvat-{key}.jsonl")), pytest.raises(InputError, match="another command is writing it"):
        send()


def test_an_image_that_went_since_it_was_ingested_is_named(server, monkeypatch):
    def gone(*_):
        Path("data/ingested/herd/train/ä%41.jpg").unlink()
        return whole(*_)

    whole = Cvat.label_ids
    monkeypatch.setattr(Cvat, "label_ids", gone)
    with pytest.raises(InputError, match=r"herd/train/ä%41\.jpg: no such image"):
        send()


def test_what_is_in_a_job_that_is_not_completed_is_a_draft(server, monkeypatch, capsys):
    known, truth = server
    monkeypatch.setattr(cvat_server, "JOB", 2)
    send()
    (number,) = known.tasks
    for i in (1, 2):
        box = known.shown(number, f"train-{i}.jpg")[0]
        box["points"][0] += 8
        box["source"] = "manual"
    known.complete(places=[0])
    known.tasks[number]["jobs"][1]["state"] = "in progress"
    found = fetch()
    assert [found[s.id].state for s in truth] == ["labelled", "labelled", *["untouched"] * 3]
    assert found["train-0"].objects == truth[0].objects
    assert found["train-1"].objects[0].box[0] == pytest.approx(truth[1].objects[0].box[0] + 8 / 160)
    assert rules() == [("train-2", "draft")] and "1 drafts were not submitted" in capsys.readouterr().out


def test_what_a_person_deleted_is_gone_and_what_is_odd_is_a_row(server):
    known, _ = server
    send()
    ((number, task),) = known.tasks.items()
    first, second = known.shown(number, "train-0.jpg"), known.shown(number, "train-1.jpg")
    task["shapes"] = [s for s in task["shapes"] if s not in first]
    task["shapes"].append(second[0] | {"type": "polygon", "points": [1, 1, 5, 1, 5, 5], "source": "manual"})
    task["tracks"].append({"frame": 0, "label_id": second[0]["label_id"], "shapes": []})
    task["deleted"] = [4]
    known.tasks[99] = task | {"id": 99, "name": "of another/one"}
    known.complete(number)
    found = fetch("--by", "eve")
    assert (found["train-0"].state, found["train-0"].by) == ("empty", "eve") and "train-4" not in found
    assert set(rules()) == {
        ("train-1", "other_shape"), (task["name"], "other_shape"), ("of another/one", "unknown_task"),
        ("train-4", "deleted_there")
    }  # fmt: skip
    del known.tasks[number]
    with pytest.raises(InputError, match="has 4 answers that the project does not"):
        fetch()
    assert fetch("--name", "round2") == {} and ("", "not_there") in rules("round2")


def test_a_shape_on_an_image_that_is_not_there_is_a_row(server):
    known, _ = server
    send()
    ((number, task),) = known.tasks.items()
    first, second = (known.shown(number, f"train-{i}.jpg")[0] for i in (0, 1))
    first["frame"], second["frame"] = 99, -1
    task["tags"].append({"id": 77, "frame": 5, "label_id": first["label_id"], "group": None, "source": "manual"})
    task["frames"].append({"name": "late.jpg", "width": 8, "height": 8})
    known.complete()
    fetch()
    dropped = [row for row in ledger() if row["rule"] == "unknown_image"]
    assert [row["found"] for row in dropped] == [
        f"rectangle {first['id']} is on frame 99, which is in no job of the task",
        f"rectangle {second['id']} is on frame -1, which is in no job of the task",
        "tag 77 is on frame 5, which is in no job of the task",
    ]
    assert {row["file"] for row in dropped} == {task["name"]}


def test_a_shape_that_is_not_whole_is_a_row(server):
    """A box of three numbers, or of six; a skeleton without points; a point with half of a second one."""
    known, _ = server
    send()
    ((number, task),) = known.tasks.items()
    box, skeleton = known.shown(number, "train-0.jpg")
    six, three = [dict(known.shown(number, f"train-{i}.jpg")[0]) for i in (1, 2)]
    task["shapes"] = [skeleton | {"elements": []}, box, six | {"points": [*range(6)]}, three | {"points": [1, 2, 3]}]
    task["shapes"].append(box | {"type": "points", "points": [1, 2, 3]})
    known.complete()
    fetch()
    found = sorted((row["file"], row["rule"]) for row in ledger() if row["rule"].startswith("bad_"))
    assert found == [("train-0", "bad_landmarks")] * 2 + [("train-1", "bad_box"), ("train-2", "bad_box")]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"size": None}, "it has no images yet"),
        ({"jobs": []}, "none of its 0 jobs has them"),
        ({"frames": []}, "none of its 1 jobs has them"),
    ],
)
def test_a_task_that_has_not_what_was_sent_in_it_is_named(server, change, why):
    known, _ = server
    send()
    ((_, task),) = known.tasks.items()
    task["shapes"] = []
    task |= change
    known.complete()
    assert fetch() == {}
    (row,) = ledger()
    assert (row["file"], row["rule"]) == (task["name"], "not_there")
    assert row["found"] == f"5 images that were sent in it are not there (first: train-0): {why}"


def test_a_frame_that_was_not_sent_is_a_row(server):
    known, _ = server
    send()
    ((_, task),) = known.tasks.items()
    task["frames"][1] = task["frames"][1] | {"name": "other.jpg"}
    task["frames"][2] = task["frames"][0]
    known.complete()
    assert len(fetch()) == 3
    assert rules() == [
        ("other.jpg", "unknown_image"), ("train-0.jpg", "unknown_image"), (task["name"], "not_there")
    ]  # fmt: skip


def test_a_label_that_is_not_the_projects_is_named_by_its_number(server):
    known, _ = server
    send()
    ((number, _),) = known.tasks.items()
    known.shown(number, "train-0.jpg")[0]["label_id"] = 99
    known.complete()
    assert fetch()["train-0"].state == "untouched"
    (row,) = ledger()
    assert (row["rule"], row["found"]) == ("unknown_class", "label_id 99: not among the dataset's")


def test_held_out_images_go_out_blind(server, capsys):
    known, _ = server
    send("--split", "test")
    assert "1 images sent, 1 of them blind" in capsys.readouterr().out
    assert [task["shapes"] for task in known.tasks.values()] == [[]]


def test_classes_of_images_go_out_as_tags(server):
    known, _ = server
    folder = Path("data/ingested/herd")
    for split in SPLITS:
        rows = [replace(s, label="cow", objects=[]) for s in read_samples(folder / split)]
        write_samples(folder / split, rows)
    write_dataset(folder, Dataset("herd", ["cow", "horse"]))
    send()
    ((number, task),) = known.tasks.items()
    horse = next(label["id"] for label in known.labels if label["name"] == "horse")
    assert len(task["tags"]) == 5 and task["shapes"] == []
    task["tags"][1] |= {"label_id": horse, "source": "manual"}
    known.complete(number)
    assert [s.label for s in fetch().values()] == ["cow", "horse", "cow", "cow", "cow"]


@pytest.mark.parametrize("call", ["new_task", "upload", "_wait", "add_annotations"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_second_run_after_a_kill_sends_what_is_missing(server, monkeypatch, call, when):
    known, truth = server
    monkeypatch.setattr(cvat_sending, "BATCH", 3)
    whole = getattr(Cvat, call)

    def killed(*arguments):
        if when == "after":
            whole(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Cvat, call, killed)
        send()
    send()
    assert sorted(names(known)) == [f"{s.id}.jpg" for s in truth]
    assert sum(len(task["shapes"]) for task in known.tasks.values()) == 2 * 5
    known.complete()
    assert all(fetch()[s.id].against == content_of(s) for s in truth) and rules() == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["POST /api/tasks", r"POST .*/data/", r"PATCH .*", r"GET .*/meta"])
def test_a_busy_server_gets_every_image_once(server, call, when):
    known, truth = server
    known.fails = [(call, 503, when), (call, 500, when)]
    send()
    assert sorted(names(known)) == [f"{s.id}.jpg" for s in truth] and len(known.fails) < 2
    assert sum(len(task["shapes"]) for task in known.tasks.values()) == 2 * 5


@pytest.mark.parametrize("work", ["a shape", "a job"])
def test_what_people_did_is_never_replaced(server, monkeypatch, capsys, work):
    """They have begun in a task whose labels had not come: not even those are added."""
    known, _ = server
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Cvat, "add_annotations", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        send()
    ((_, task),) = known.tasks.items()
    if work == "a shape":
        task["shapes"] = [{"type": "rectangle", "frame": 0, "label_id": 1, "points": [1, 1, 5, 5], "source": "manual"}]
    else:
        task["jobs"][0]["state"] = "in progress"
    before = [*task["shapes"]]
    send()
    assert f"5 were there; people have worked in {task['name']}: left as they left it" in capsys.readouterr().out
    assert task["shapes"] == before and not any(call.startswith(("PATCH", "DELETE")) for call in known.asked)


def test_what_has_changed_since_is_said_and_left(server, capsys):
    known, _ = server
    send("--ids", _ids("train-0", "train-1"))
    shapes = [*next(iter(known.tasks.values()))["shapes"]]
    folder = Path("data/ingested/herd/train")
    write_samples(folder, [replace(s, objects=[]) if s.id == "train-0" else s for s in read_samples(folder)])
    send()
    said = capsys.readouterr().out
    assert (
        "3 images sent, 2 were there; 1 are there with the image, labels or predictions of before (first: train-0)"
        in said
    )
    assert next(iter(known.tasks.values()))["shapes"] == shapes
    for file in Path("labels/herd/.sent").iterdir():
        file.unlink()
    send()
    assert "is not listed here: get the files of labels/*/.sent from the sender" in capsys.readouterr().out
    with pytest.raises(InputError, match="nothing is listed as sent"):
        fetch()


@pytest.mark.parametrize(("model", "score"), [("herd 11", 0.3), ("herd 00", 0.6)], ids=["another model", "a new score"])
def test_newer_predictions_are_said_and_left(server, monkeypatch, capsys, model, score):
    known, _ = server

    def says(name: str, least: float) -> None:
        def predict(_, samples):
            objects = [Object("cow", (0.1, 0.1, 0.3, 0.3), score=0.5), Object("cow", (0.5, 0.5, 0.3, 0.3), score=0.9)]
            kept = [o for o in objects if (o.score or 0) >= least]
            return [(replace(s, objects=kept), 0.5) for s in samples]

        monkeypatch.setattr("pipeline.commands.labels._model", lambda _: (name, predict))

    block = "{dataset: herd, task: detect, model: {pretrained: false}}"
    Path("params.yaml").write_text(Path("params.yaml").read_text() + f"runs:\n  r: {block}\n")
    says("herd 00", 0.3)
    send("--run", "r")
    send("--run", "r")
    assert "of before" not in capsys.readouterr().out
    shapes = [*next(iter(known.tasks.values()))["shapes"]]
    says(model, score)
    send("--run", "r")
    said = capsys.readouterr().out
    assert (
        f"{len(shapes) // 2} are there with the image, labels or predictions of before (first: train-0): fetch" in said
    )
    assert "delete their tasks, and send them anew" in said
    assert next(iter(known.tasks.values()))["shapes"] == shapes


def _ids(*ids: str) -> str:
    Path("ids.txt").write_text("\n".join(ids))
    return "ids.txt"


def test_a_task_without_images_that_was_not_sent_from_here_stays(server):
    known, _ = server
    send()
    known.answer("POST", "/api/tasks", {}, {}, {"name": "m/ne", "project_id": 1})
    send()
    assert [task["name"] for task in known.tasks.values()][1:] == ["m/ne"]


def test_fewer_than_were_sent_is_an_error(server, monkeypatch):
    known, _ = server
    known.dropped = 1
    with pytest.raises(InputError, match="10 shapes were sent, and 9 came into being"):
        send()
    known.tasks.clear()
    frames = Cvat.frames
    monkeypatch.setattr(Cvat, "frames", lambda *a: (frames(*a)[0][1:], set()))
    with pytest.raises(
        InputError, match=r"5 images were sent, and 4 came into being; the first that differs: .'train-0"
    ):
        send()


def test_images_that_the_server_does_not_take_are_an_error(server):
    known, _ = server
    known.broken = "No media data\nfound"
    with pytest.raises(InputError, match="images are not taken: No media data found"):
        send()
    known.broken = ""
    send()
    assert len(known.tasks) == 1 and len(names(known)) == 5


def test_a_project_whose_labels_were_changed_is_refused(server):
    known, _ = server
    send()
    known.labels[0]["name"] = "ox"
    with pytest.raises(InputError, match=r"/projects/1: no label 'cow'; expected 'herd .*' as it was made"):
        fetch()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["annotate", "herd", "--to", "cvat", "--token", "x"], "--token: says nothing with --to cvat"),
        (["annotate", "herd", "--to", "cvat", "--out", "a", "--url", "b"], "--url: says nothing with --to cvat"),
        (
            ["annotated", "herd", "--name", "a", "--from", "cvat", "--task", "x"],
            "--task: says nothing with --from cvat",
        ),
        (["annotated", "herd", "--name", "a", "--xml", "x", "--from", "cvat"], "--from: says nothing with --xml"),
        (
            ["annotate", "herd", "--to", "cvat", "--out", "x/.."],
            r"--out x/\.\.: a folder called '\.\.'; expected letters",
        ),
        (["annotated", "herd", "--name", "a", "--xml", "x", "--task", "a/b"], "--task 'a/b': expected letters"),
        (["annotated", "herd", "--name", "a", "--from", "cvat"], r"no project 'herd .*'; `pocketlens annotate` makes"),
    ],
)
def test_what_is_wrong_is_said(server, command, said):
    with pytest.raises(InputError, match=said):
        cli._run(command)


def test_the_token_is_in_no_file_and_no_message(server, monkeypatch, tmp_path):
    send()
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
    monkeypatch.setenv("CVAT_ACCESS_TOKEN", "0" * 40)
    with pytest.raises(InputError, match="the token is not taken") as error:
        send()
    assert "0" * 40 not in str(error.value)
    for key, words in (("CVAT_ACCESS_TOKEN", "no CVAT_ACCESS_TOKEN"), ("CVAT_URL", "--out FOLDER")):
        monkeypatch.delenv(key)
        with pytest.raises(InputError, match=words):
            send()
