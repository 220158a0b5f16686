"""To Label Studio and back, against a stub: tokens, busy servers, kills, and what people may say."""

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from studio import HERD, LEGACY, NAMES, PERSONAL, cow, draw_herd, studio

from pipeline import cli
from pipeline.annotation import sending
from pipeline.annotation.agreement import agree, one_of
from pipeline.annotation.answers import Answer
from pipeline.annotation.label_studio import LabelStudio
from pipeline.annotation.outgoing import certainty, chosen, outgoing
from pipeline.commands.labels import _ids
from pipeline.core.errors import InputError
from pipeline.core.errors import shown as printed
from pipeline.core.layer import content_of, read_layer, write_layer
from pipeline.core.sample import SPLITS, Object, Sample, read_samples, write_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.models.nets import build


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A project with a herd, in which the test runs, and the stub that shows its images."""
    truth = draw_herd(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LabelStudio, "pause", lambda *_: None)
    with studio(tmp_path / "data/ingested") as (url, known):
        monkeypatch.setenv("LABEL_STUDIO_URL", url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY)
        yield known, truth


def run(*arguments: str) -> None:
    cli._run(list(arguments))


def send(*more: str) -> None:
    run("annotate", "herd", "--to", "label-studio", *more)


def fetch(*more: str) -> dict[str, Any]:
    run("annotated", "herd", "--name", "round1", *more)
    return {s.id: s for s in read_layer("labels/herd/round1.jsonl")}


def ledger() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path("labels/herd/round1.ledger.csv").read_text())))


def test_what_nobody_has_touched_comes_back_as_it_went(server, capsys):
    known, truth = server
    send()
    assert "5 images sent" in capsys.readouterr().out
    assert all(not t["annotations"] for t in known.tasks), "labels go out as predictions, so that nothing is done"
    for place in range(len(truth)):
        known.annotate(place, known.shown(place))
    found = fetch()
    for sample in truth:
        said = found[sample.id]
        assert said.against == content_of(sample) == content_of(replace(sample, objects=said.objects))
        assert said.state == ("labelled" if sample.objects else "empty")
    assert "5 of 5 objects left as they were shown, 4 s an image" in capsys.readouterr().out
    assert ledger() == []


def test_each_state_is_told_from_the_others(server, capsys):
    known, truth = server
    send()
    known.annotate(1, [], was_cancelled=True)
    known.annotate(2, [])
    moved = known.shown(3)
    moved[0]["value"]["x"] += 5
    known.annotate(3, moved, user=2)
    known.tasks[4]["drafts"] = [{"user": "bob@example.com", "result": moved}]
    found = fetch()
    assert [found[s.id].state for s in truth] == ["untouched", "skipped", "empty", "labelled", "untouched"]
    assert [found[s.id].by for s in truth] == ["", "ann@example.com", "ann@example.com", "bob@example.com", ""]
    assert {s.shown for s in found.values()} == {"labels"} and found["train-3"].seconds == 4.0
    assert found["train-3"].objects[0].box == truth[3].objects[1].box, "what was left alone, before what was moved"
    assert found["train-3"].objects[1].box[0] == pytest.approx(0.06)
    assert [(r["file"], r["key"], r["rule"]) for r in ledger()] == [("train-4", "bob@example.com", "draft")]
    assert "1 drafts were not submitted" in capsys.readouterr().out


def test_where_nobody_has_answered_there_is_nothing_to_lay_over(server, capsys):
    send()
    assert {s.state for s in fetch().values()} == {"untouched"}
    assert capsys.readouterr().out.splitlines()[-1] == "nothing to lay over: nobody has answered yet"


def test_names_of_all_kinds_are_shown_by_the_server(server):
    known, truth = server
    send()
    client = LabelStudio(os.environ["LABEL_STUDIO_URL"], LEGACY)
    for task, sample in zip(known.tasks, truth, strict=True):
        assert client.file(task["data"]["image"]) == (known.root / "herd/train" / sample.file_name).read_bytes()
    assert [Path(s["path"]).name for s in known.storages] == ["herd"]


def test_validation_and_test_images_go_out_blind_unless_asked(server, capsys):
    known, _ = server
    for split in ("val", "test"):
        send("--split", split)
    assert "1 images sent, 1 of them blind" in capsys.readouterr().out
    assert [t["predictions"] for t in known.tasks] == [[], []]
    known.annotate(0, [])
    assert fetch()["val-0"].shown == ""
    known.tasks.clear()
    send("--split", "test", "--not-blind")
    assert known.tasks[0]["predictions"][0]["model_version"] == "labels"


def test_a_list_of_ids_keeps_its_order(server, monkeypatch):
    known, _ = server
    monkeypatch.setattr("sys.stdin", io.StringIO("train-3\ntest-0\n\ntrain-1\n"))
    send("--ids", "-")
    assert [t["data"]["pocketlens_id"] for t in known.tasks] == ["train-3", "test-0", "train-1"]
    Path("ids.txt").write_text("train-9\n")
    with pytest.raises(InputError, match=r"no image 'train-9' \(1 of 1 ids are not there\)"):
        send("--ids", "ids.txt")


def test_ids_are_taken_as_commands_print_them(tmp_path):
    odd = "caf\udce9 "
    for split in SPLITS:
        write_samples(tmp_path / split, [Sample(odd, "1.png", 8, 8)] if split == "test" else [])
    file = tmp_path / "ids.txt"
    file.write_text(f"{printed(odd)}\r\n\n")
    assert [s.id for s in chosen(tmp_path, "", _ids(file))] == [odd]
    assert [s.id for s in chosen(tmp_path, "", [odd])] == [odd]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_busy_server_gets_every_image_once(server, monkeypatch, when):
    known, truth = server
    monkeypatch.setattr(sending, "BATCH", 2)
    known.fails = [(503, when), (500, when), (0, "")]
    send()
    ids = [t["data"]["pocketlens_id"] for t in known.tasks]
    assert sorted(ids) == [s.id for s in truth] and max(known.batches) == 2


def test_a_second_run_after_a_kill_sends_what_is_missing(server, monkeypatch, capsys):
    known, truth = server
    monkeypatch.setattr(sending, "BATCH", 2)
    whole = LabelStudio.add_tasks

    def killed(self, project, tasks):
        whole(self, project, tasks)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LabelStudio, "add_tasks", killed)
        send()
    assert len(known.tasks) == 2
    known.annotate(0, known.shown(0))
    send()
    assert "3 images sent, 2 were there" in capsys.readouterr().out
    assert [t["data"]["pocketlens_id"] for t in known.tasks] == [s.id for s in truth]
    assert fetch()["train-0"].objects == truth[0].objects, "what was sent is listed before it goes out"


def test_fewer_than_were_sent_is_an_error(server):
    known, _ = server
    known.dropped = 1
    with pytest.raises(InputError, match="5 predictions were sent, and 4 came into being"):
        send()


def test_an_image_that_is_there_twice_is_an_error(server):
    known, _ = server
    send()
    known.tasks.append(known.tasks[0] | {"id": 99})
    with pytest.raises(InputError, match=r"1 of 5 images are not there once \(train-0: 2 times\)"):
        send()


def test_a_long_upload_outlives_its_access_token(server, monkeypatch):
    known, truth = server
    known.access = 2
    monkeypatch.setattr(sending, "BATCH", 1)
    send("--token", PERSONAL)
    assert len(known.tasks) == len(truth) and known.refreshed > 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--token", "a" * 40), "legacy token is taken only where Organization > Access Token Settings allows"),
        (("--token", PERSONAL.replace(".", "e.", 1)), "personal access token is not taken"),
        (("--url", "http://127.0.0.1:1"), "no Label Studio answers there; `make label-studio` starts one"),
        (("--url", "127.0.0.1:1"), "expected http"),
        (("--url", "http://me:secret@127.0.0.1:1"), "--url http://127.0.0.1:1: expected no password"),
        (("--images", "/elsewhere"), "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/elsewhere.*--images says"),
        (("--run", "herd"), "no run 'herd'"),
    ],
)
def test_what_is_wrong_is_said_with_its_cure(server, arguments, said):
    with pytest.raises(InputError, match=said):
        send(*arguments)
    assert not server[0].tasks


@pytest.mark.parametrize("around", ["\r", "\n", " \t"])
def test_a_token_is_taken_without_the_blanks_around_it(server, around):
    send("--token", PERSONAL + around)
    send("--token", LEGACY + around)
    assert len(server[0].tasks) == 5


@pytest.mark.parametrize("token", ["s3cret s3cret", "s3cret\ns3cret", "s3cret\u2026", "s3cret\u00e4"])
def test_a_token_that_cannot_be_sent_is_not_printed(server, token):
    with pytest.raises(InputError, match="has blanks or odd characters in it; Account & Settings") as error:
        send("--token", token)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("/api/token/refresh/", (503, {"detail": "busy"}), r"POST /api/token/refresh/: 503, 4 times: busy"),
        ("/api/token/refresh/", (200, b"<html>"), "token/refresh/ is not a JSON object; expected the address"),
        ("/api/token/refresh/", (200, {}), "token/refresh/ has no 'access'"),
        ("/api/token/refresh/", (200, {"access": "s3cret\n"}), "answers with what is no token"),
        ("/api/projects/", (200, b""), "is not a JSON object"),
        ("/api/projects/", (200, {}), "has no 'results'"),
        ("/api/projects/1/import", (200, b""), "import is not a JSON object"),
        ("/api/storages/localfiles", (200, {}), "is not a JSON list"),
    ],
)
def test_answers_of_what_is_no_label_studio_are_named(server, path, answer, said):
    server[0].instead[path] = [answer] * 4
    with pytest.raises(InputError, match=said) as error:
        send("--token", PERSONAL)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("token", "path"), [(PERSONAL, "/api/token/refresh/"), (LEGACY, "/api/projects/"), (LEGACY, "/api/projects/1/")]
)
def test_a_server_that_has_moved_is_named(server, token, path):
    known, _ = server
    there = f"https://ls.example.org{path}"
    known.instead[path] = [(301, {"location": f"{there}?page=1"})]
    with pytest.raises(InputError, match=f"sends {path}.* on to {there}; expected the address that answers"):
        send("--token", token)
        fetch("--token", token, "--project", "1")


def test_pages_that_go_round_come_to_an_end(server):
    server[0].instead["/api/projects/"] = [(200, {"results": [], "next": "/api/projects/?page=2"})] * 3
    with pytest.raises(InputError, match=r"/api/projects/\?page=2 comes after itself"):
        send()


@pytest.mark.parametrize("url", ["http://\u00f6..x", "http://[::1", "http://a:port"])
def test_an_address_that_is_none_is_named(server, url):
    with pytest.raises(InputError, match=r"--url .*expected http://host:port"):
        send("--url", url)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/projects/", []),
        ("/api/projects/", {}),
        ("/api/projects/", {"results": {}}),
        ("/api/projects/", {"results": [{}]}),
        ("/api/projects/1/", []),
        ("/api/projects/1/", {}),
        ("/api/projects/1/export", {}),
        ("/api/users/", {}),
        ("/api/users/", [{}]),
        ("/api/users/", [{"id": [1]}]),
    ],
)
def test_what_no_label_studio_says_is_named(server, path, answer):
    send()
    server[0].instead[path] = [(200, answer)]
    with pytest.raises(InputError, match="expected the address of a Label Studio server"):
        fetch(*(["--project", "1"] if path == "/api/projects/1/" else []))


def test_a_refresh_is_tried_again(server):
    server[0].instead["/api/token/refresh/"] = [(503, {})] * 3
    send("--token", PERSONAL)
    assert len(server[0].tasks) == 5


def test_pages_are_asked_for_where_the_first_one_came_from(server, tmp_path, monkeypatch):
    """A .netrc does not count: the token says who asks."""
    known, _ = server
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    send()
    following = "http://internal:8080/studio/api/projects/?page=2"
    known.instead["/api/projects/"] = [(200, {"results": [], "next": following})]
    send()
    assert known.asked.count("GET /api/projects/") == 3 and len(known.projects) == 1


@pytest.mark.parametrize("missing", ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"])
def test_a_setting_that_is_missing_is_named(server, monkeypatch, missing):
    monkeypatch.delenv(missing)
    with pytest.raises(InputError, match=missing):
        send()


def test_a_server_that_shows_other_images_is_refused(server, tmp_path):
    known, _ = server
    known.root = tmp_path / "other"
    (known.root / "herd/train").mkdir(parents=True)
    (known.root / "herd/train" / NAMES[0]).write_bytes(b"another image")
    with pytest.raises(InputError, match="shows another file than data/ingested/herd has"):
        send("--images", str(known.root))
    (known.root / "herd/train" / NAMES[0]).unlink()
    with pytest.raises(InputError, match="does not show this image"):
        send("--images", str(known.root))


def test_tasks_of_others_and_of_other_pixels_are_refused(server):
    known, _ = server
    send()
    for place, data in (
        (0, {"image": "x"}),
        (1, {"pocketlens_id": "cow"}),
        (2, known.tasks[2]["data"] | {"pixels": "0"}),
    ):
        known.annotate(place, known.shown(place))
        known.tasks[place]["data"] = data
    assert sorted(fetch()) == ["train-3", "train-4"]
    assert [(r["file"], r["rule"], r["done"]) for r in ledger()] == [
        ("task 1", "unknown_task", "refused"),
        ("task 2", "unknown_task", "refused"),
        ("task 3", "other_pixels", "refused"),
        ("", "not_there", "noted"),
    ]


def test_a_layer_is_not_emptied_by_a_project_that_has_less(server):
    known, _ = server
    send()
    known.annotate(0, known.shown(0))
    fetch()
    known.tasks[0]["annotations"].clear()
    with pytest.raises(InputError, match=r"has 1 answers that the project does not \(first: train-0\)"):
        fetch()


def test_a_layer_does_not_lose_what_others_said(server):
    known, _ = server
    send()
    known.annotate(1, known.shown(1))
    found = fetch()
    [one] = found["train-1"].objects
    other = replace(found["train-1"], by="eve", objects=[replace(one, box=(0.2, 0.2, 0.4, 0.4))])
    for said in (other, replace(other, state="excluded", objects=[])):
        write_layer("labels/herd/round1.jsonl", [said])
        before = Path("labels/herd/round1.jsonl").read_bytes()
        with pytest.raises(InputError, match=r"has 1 answers that the project does not \(first: train-1\)"):
            fetch()
        assert Path("labels/herd/round1.jsonl").read_bytes() == before
    for renewed in (replace(other, by="ann@example.com"), replace(found["train-1"], by="eve")):
        write_layer("labels/herd/round1.jsonl", [renewed])
        assert fetch() == found
    write_layer("labels/herd/round1.jsonl", [found["train-1"]])
    known.annotate(1, [], user=2)
    assert fetch("--reviewer", "bob@example.com")["train-1"].by == "bob@example.com", "ann's is in the project as well"


def test_an_image_of_another_size_is_refused(server):
    known, _ = server
    send()
    known.annotate(0, [r | {"original_width": 120, "original_height": 160} for r in known.shown(0)])
    assert fetch()["train-0"].state == "untouched"
    assert [r["rule"] for r in ledger()] == ["other_size"]


def test_what_is_drawn_oddly_has_a_row(server):
    known, truth = server
    send()
    turned, loose, strange = known.shown(0), known.shown(2), known.shown(1)
    turned[0]["value"]["rotation"] = 90
    for region in loose:
        region.pop("parentID", None)
    strange[1]["value"]["keypointlabels"] = ["trunk"]
    for place, regions in ((0, turned), (1, strange), (2, loose)):
        known.annotate(place, regions)
    found = fetch()
    x, y, w, h = truth[0].objects[0].box
    width, height = w * 160, h * 120  # turned about its upper-left corner, in pixels
    assert found["train-0"].objects[0].box == pytest.approx((x - height / 160, y, height / 160, width / 120))
    assert found["train-2"].objects == truth[2].objects, "a point in only one box is given to it"
    assert [p.visibility for p in found["train-1"].objects[0].landmarks] == [0, 1, 0, 2]
    rules = [(r["file"], r["rule"]) for r in ledger()]
    assert ("train-0", "box_turned") in rules and ("train-1", "unknown_landmark") in rules
    assert ("train-2", "tied_by_place") in rules


@pytest.mark.parametrize("result", [None, "gone", {}, ["x", 3]])
def test_only_an_empty_list_says_that_nothing_is_there(server, result):
    known, _ = server
    send()
    known.annotate(0, result)
    if result == "gone":
        del known.tasks[0]["annotations"][0]["result"]
    known.annotate(1, [])
    found = fetch()
    assert (found["train-0"].state, found["train-1"].state) == ("untouched", "empty")
    assert [(r["file"], r["rule"], r["done"]) for r in ledger()] == [("train-0", "bad_row", "refused")]


def test_an_odd_task_or_answer_does_not_stop_the_others(server):
    known, truth = server
    send()
    for place, seconds in enumerate((float("nan"), float("inf"), 10**400, True)):
        known.annotate(place, known.shown(place), lead_time=seconds)
    known.annotate(4, [{"type": ["textarea"], "value": {}}])
    far = known.shown(3)
    far[0]["value"] |= {"x": 1e308, "width": 1e308}
    known.annotate(3, far)
    sent = known.tasks[0]
    known.tasks += [sent | {"data": None}, sent | {"data": sent["data"] | {"pocketlens_id": ["x"]}}]
    known.tasks += [{k: v for k, v in sent.items() if k != "annotations"}, sent | {"annotations": [None]}]
    known.tasks += [sent | {"drafts": 5}]
    found = fetch()
    assert [found[s.id].objects for s in truth] == [s.objects for s in truth[:3]] + [truth[3].objects[1:], []]
    assert [found[s.id].seconds for s in truth[:3]] == [None] * 3
    assert [r["rule"] for r in ledger() if r["done"] == "refused" and r["file"] != "train-4"] == ["unknown_task"] * 5
    assert "bad_box" in [r["rule"] for r in ledger()]


def test_an_image_with_nothing_but_a_comment_on_it_is_empty(server):
    send()
    server[0].annotate(0, [{"type": "textarea", "value": {"text": ["no cow"]}, "to_name": "image"}])
    assert fetch()["train-0"].state == "empty"
    assert [r["rule"] for r in ledger()] == ["not_read"]


def test_tasks_that_were_deleted_are_counted(server):
    known, _ = server
    send()
    del known.tasks[1:3]
    assert sorted(fetch()) == ["train-0", "train-3", "train-4"]
    assert [(r["rule"], r["found"], r["done"]) for r in ledger()] == [
        ("not_there", "2 images that were sent are not in the project: were their tasks deleted?", "noted")
    ]


def test_an_answer_with_a_new_class_is_refused_alone(server):
    known, _ = server
    send()
    strange = known.shown(0)
    strange[0]["value"]["rectanglelabels"] = ["zebra"]
    known.annotate(0, strange, user=2)
    known.annotate(1, known.shown(1))
    found = fetch()
    assert (found["train-0"].state, found["train-1"].state) == ("untouched", "labelled")
    assert [(r["file"], r["key"], r["rule"], r["found"]) for r in ledger()] == [
        ("train-0", "bob@example.com", "unknown_class", "zebra: not among the dataset's")
    ]


def test_what_is_next_names_the_layers_that_are_there(server, capsys):
    send()
    server[0].annotate(1, [])
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("labels: x", "labels: x, layers: [round0]"))
    fetch()
    assert "next: `layers: [round0, round1]` under datasets.herd" in capsys.readouterr().out
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("[round0]", "[round1, round0]"))
    fetch()
    assert "next: `make repro`" in capsys.readouterr().out


def test_a_title_that_was_changed_is_no_path(server):
    send()
    server[0].projects[1]["title"] = "../../../x"
    with pytest.raises(InputError, match=r"the title is '../../../x'; expected one that ends in 8 hex digits"):
        fetch("--project", "1")


@pytest.mark.parametrize(
    "arguments",
    [
        (send, "--to", "cvat", "--out", "task", "--url", "http://a"),
        (send, "--to", "cvat", "--out", "task", "--token", "a"),
        (send, "--to", "cvat", "--out", "task", "--images", "a"),
        (send, "--to", "cvat", "--out", "task", "--annotators", "1"),
        (fetch, "--empty-is-background"),
        (fetch, "--by", "ann"),
        (fetch, "--task", "a"),
        (fetch, "--xml", "a.xml", "--reviewer", "ann"),
        (fetch, "--xml", "a.xml", "--project", "1"),
        (fetch, "--xml", "a.xml", "--url", "http://a"),
    ],
)
def test_an_option_that_would_say_nothing_is_refused(server, arguments):
    command, *words = arguments
    option = next(word for word in reversed(words) if word.startswith("--"))
    with pytest.raises(InputError, match=f"{option}: says nothing with"):
        command(*words)
    assert not server[0].asked and not Path("task").exists()


def test_connections_are_closed(server, monkeypatch):
    closed, close = [], LabelStudio.__exit__
    monkeypatch.setattr(LabelStudio, "__exit__", lambda *said: closed.append(1) or close(*said))
    send()
    fetch()
    assert closed == [1, 1]


def test_a_class_that_changed_keeps_its_box_to_the_last_digit(server):
    known, truth = server
    send()
    relabelled = known.shown(1)
    relabelled[0]["value"]["rectanglelabels"] = ["cow"]
    known.annotate(1, relabelled)
    [o] = fetch()["train-1"].objects
    assert (o.label, o.box) == ("cow", truth[1].objects[0].box)


def test_an_object_takes_nothing_from_another_in_its_place(server):
    """Nor does one without landmarks get absent ones."""
    known, truth = server
    crowd, one = replace(cow(0.1), landmarks=[], crowd=True), replace(cow(0.1, "horse"), landmarks=[])
    both = replace(truth[0], objects=[crowd, one])
    Path("data/ingested/herd/train/metadata.jsonl").write_text("".join(s.to_line() for s in [both, *truth[1:]]))
    send()
    relabelled = known.shown(0)
    relabelled[1]["value"]["rectanglelabels"] = ["cow"]
    known.annotate(0, relabelled)
    assert fetch()["train-0"].objects == [crowd, replace(one, label="cow")]


def test_a_second_model_is_shown_where_nobody_has_answered(server, monkeypatch, capsys):
    known, truth = server
    models = {"first": 0.01, "second": 0.02}

    def model(run):
        def predict(folder, samples):
            rows = [replace(s, objects=[replace(o, score=0.9) for o in s.objects]) for s in samples]
            return [(replace(s, objects=[cow(models[run])]), 0.75) for s in rows]

        return f"{run} 00", predict

    monkeypatch.setattr("pipeline.commands.labels._model", model)
    block = "{dataset: herd, task: detect, model: {pretrained: false}}"
    Path("params.yaml").write_text(Path("params.yaml").read_text() + f"runs:\n  first: {block}\n  second: {block}\n")
    run("annotate", "first", "--to", "label-studio")
    assert known.projects[1]["sampling"] == "Uncertainty sampling"
    assert known.tasks[0]["predictions"][0]["score"] == 0.75
    known.annotate(0, known.shown(0))
    capsys.readouterr()
    run("annotate", "second", "--to", "label-studio")
    assert "5 were there; 4 of these now show second 00" in capsys.readouterr().out
    assert known.projects[1]["model_version"] == "second 00"
    assert [len(t["predictions"]) for t in known.tasks] == [1, 2, 2, 2, 2]
    known.annotate(1, known.shown(1))
    found = fetch()
    assert (found["train-0"].shown, found["train-1"].shown) == ("first 00", "second 00")
    assert found["train-1"].objects == [cow(0.02)] and found["train-1"].against == content_of(truth[1])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_second_model_that_was_cut_is_sent_again(server, monkeypatch, when):
    known, truth = server

    def model(run):
        return run, lambda folder, samples: [(replace(s, objects=[cow(0.02)]), 0.75) for s in samples]

    send()
    monkeypatch.setattr("pipeline.commands.labels._model", model)
    text = "runs:\n  first: {dataset: herd, task: detect, model: {pretrained: false}}\n"
    Path("params.yaml").write_text(Path("params.yaml").read_text() + text)
    known.fails = [(503, when)]
    with pytest.raises(InputError, match="503"):
        send("--run", "first")
    send("--run", "first")
    assert [[p["model_version"] for p in t["predictions"]] for t in known.tasks] == [["labels", "first"]] * len(truth)


def relabel(truth):
    """As a layer does: all cows are horses."""
    now = [replace(s, objects=[replace(o, label="horse") for o in s.objects]) for s in truth]
    Path("data/ingested/herd/train/metadata.jsonl").write_text("".join(s.to_line() for s in now))
    return now


def test_labels_that_changed_are_shown_where_nobody_has_begun(server, capsys):
    known, truth = server
    send()
    known.annotate(0, known.shown(0))
    known.tasks[2]["drafts"] = [{"user": 1, "result": known.shown(2)}]
    now = relabel(truth)
    capsys.readouterr()
    send()
    assert "0 images sent, 5 were there; 1 of these now show labels" in capsys.readouterr().out  # 1 is a horse, 4 empty
    assert [len(t["predictions"]) for t in known.tasks] == [1] * 5
    known.tasks[2]["drafts"] = []
    for place in (2, 3):
        known.annotate(place, known.shown(place))
    found = fetch()
    assert [found[f"train-{i}"].against for i in range(4)] == [
        content_of(s) for s in (truth[0], truth[1], truth[2], now[3])
    ]
    assert found["train-2"].objects == truth[2].objects and found["train-3"].objects == now[3].objects


def test_a_list_of_what_was_sent_that_is_lost_is_made_again_where_nobody_has_begun(server, capsys):
    known, truth = server
    send()
    known.annotate(0, known.shown(0))
    [listed] = Path("labels/herd/.sent").iterdir()
    listed.unlink()
    now = relabel(truth)
    capsys.readouterr()
    send()
    assert f"1 are there and begun (first: train-0), but {listed} does not say what was sent" in capsys.readouterr().out
    assert [len(t["predictions"]) for t in known.tasks] == [1] * 5
    known.annotate(3, known.shown(3))
    found = fetch()
    assert sorted(found) == [f"train-{i}" for i in range(1, 5)]
    assert (found["train-3"].objects, found["train-3"].against) == (now[3].objects, content_of(now[3]))


def test_another_list_of_labels_is_another_project(server):
    known, _ = server
    send()
    file = Path("data/ingested/herd/dataset.json")
    row = json.loads(file.read_text())
    file.write_text(json.dumps(row | {"labels": ["cow", "horse", "goat"]}))
    send()
    assert len(known.projects) == 2
    known.annotate(0, known.shown(0))
    assert fetch("--project", "1")["train-0"].state == "labelled"


@pytest.mark.parametrize("name", ["h", "h" * 80])
def test_titles_are_as_long_as_they_may_be(tmp_path, monkeypatch, name):
    draw_herd(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    with studio(tmp_path / "data/ingested") as (url, known):
        run("annotate", name, "--to", "label-studio", "--url", url, "--token", LEGACY)
    assert 3 <= len(known.projects[1]["title"]) <= 50


def test_class_labels_go_out_and_come_back(tmp_path, monkeypatch):
    draw_herd(tmp_path)
    folder = tmp_path / "data/ingested/herd/train"
    rows = [replace(s, label=HERD.labels[i % 2], objects=[]) for i, s in enumerate(read_samples(folder))]
    (folder / "metadata.jsonl").write_text("".join(s.to_line() for s in rows))
    monkeypatch.chdir(tmp_path)
    with studio(tmp_path / "data/ingested") as (url, known):
        run("annotate", "herd", "--to", "label-studio", "--url", url, "--token", LEGACY)
        assert "RectangleLabels" not in known.projects[1]["label_config"]
        known.annotate(0, known.shown(0))
        run("annotated", "herd", "--name", "round1", "--url", url, "--token", LEGACY)
    found = {s.id: s for s in read_layer("labels/herd/round1.jsonl")}
    assert (found["train-0"].label, found["train-0"].state, found["train-1"].state) == ("cow", "labelled", "untouched")
    assert found["train-0"].against == content_of(replace(rows[0], file_name=""))


def test_a_run_says_what_it_sees_and_how_sure_it_is(server):
    known, _ = server
    net = "mobilenetv2_035", {"kind": "pool", "dropout": 0.2}, 32, "letterbox", [0.5] * 3, [0.5] * 3, {}, ["logits"]
    spec = ModelSpec("tiny", "herd", "classify", HERD.labels, [], [], [], *net)
    for split in SPLITS:
        folder = Path("data/ingested/herd", split)
        rows = [replace(s, label="cow", objects=[]) for s in read_samples(folder)]
        (folder / "metadata.jsonl").write_text("".join(s.to_line() for s in rows))
    block = "{dataset: herd, task: classify, model: {pretrained: false}}"
    Path("params.yaml").write_text(
        f"datasets:\n  herd: {{format: folder, path: x, labels: x}}\nruns:\n  tiny: {block}\n  later: {block}\n"
    )
    write_spec("models/tiny/model.json", spec)
    save_file(build(spec).state_dict(), "models/tiny/model.safetensors")
    run("annotate", "tiny", "--to", "label-studio")
    send("--run", "tiny", "--split", "test")
    [*shown, blind] = known.tasks
    assert blind["predictions"] == []
    for task in shown:
        [said] = task["predictions"]
        assert said["model_version"].startswith("tiny ") and 0.5 <= said["score"] < 1
        assert said["result"][0]["value"]["choices"][0] in HERD.labels
    with pytest.raises(InputError, match="models/later: not here"):
        send("--run", "later")


def answers(*rows: tuple[str, str, Any]) -> list[Answer]:
    made = []
    for i, (by, kind, x) in enumerate(rows):
        sample = None if kind == "skip" else Sample("1", "", 8, 8, objects=[cow(x)])
        made.append(Answer(by, f"{i}", by, sample, ground_truth=kind == "truth"))
    return made


@pytest.mark.parametrize(
    ("rows", "reviewers", "taken"),
    [
        ([("ann", "", 0.1), ("bob", "", 0.6), ("cy", "skip", 0)], [], "bob"),
        ([("ann", "", 0.1), ("bob", "", 0.11), ("cy", "", 0.6)], [], "bob"),
        ([("ann", "truth", 0.6), ("bob", "", 0.1), ("cy", "", 0.1)], [], "ann"),
        ([("ann", "truth", 0.6), ("bob", "", 0.1), ("cy", "", 0.1)], ["cy"], "cy"),
        ([("ann", "skip", 0)], [], "ann"),
    ],
)
def test_one_of_several_answers_counts_in_whatever_order_they_come(rows, reviewers, taken):
    made = answers(*rows)
    for order in (made, made[::-1], made[1:] + made[:1]):
        assert one_of(order, reviewers).by == taken


def test_of_two_answers_of_one_moment_the_later_number_counts():
    nine, ten = (Answer("ann", "1", key, Sample("1", "", 8, 8, label=key)) for key in ("9", "10"))
    assert one_of([ten, nine], []).key == one_of([nine, ten], []).key == "10"


def test_people_who_disagree_are_listed_and_judged_against_each_other(server, capsys):
    known, _ = server
    send()
    for place in range(4):
        known.annotate(place, known.shown(place), user=1)
        other = known.shown(place)
        if place == 0:
            other[0]["value"]["rectanglelabels"] = ["horse"]
        known.annotate(place, other, user=2)
    fetch()
    assert [(r["file"], r["key"], r["rule"]) for r in ledger()] == [("train-0", "ann@example.com", "disagreement")]
    [row] = json.loads(Path("labels/herd/round1.agreement.json").read_text())
    assert (row["truth"], row["judged"], row["images"]) == ("ann@example.com", "bob@example.com", 4)
    assert 0 < row["figures"]["AP"] < 1
    assert f"on 4 images: AP {row['figures']['AP']:.4f}" in capsys.readouterr().out
    fetch("--reviewer", "ann@example.com")
    assert [r["key"] for r in ledger()] == ["bob@example.com"]


@pytest.mark.parametrize(
    ("box", "said"),
    [((0.5, 0, 0.6, 1), "in the image"), ((0, 0, float("nan"), 1), "not finite"), ((0, 0, 0, 1), "in the image")],
)
def test_what_cannot_be_shown_is_not_sent(tmp_path, box, said):
    draw_herd(tmp_path)
    folder = tmp_path / "data/ingested/herd"
    samples = [replace(s, split="train") for s in read_samples(folder / "train")[:1]]
    samples[0].objects = [Object("cow", box)]
    with pytest.raises(InputError, match=said):
        outgoing(folder, samples, HERD, "", None, False)
    samples[0].objects = [Object("dog", (0, 0, 1, 1))]
    with pytest.raises(InputError, match="label 'dog'; expected one of cow, horse"):
        outgoing(folder, samples, HERD, "", None, False)


def test_a_box_that_is_out_by_a_hair_is_clipped_and_comes_back_as_it_was(server):
    known, truth = server
    hair = replace(truth[0], objects=[replace(cow(0.1), box=(-1e-9, 0.25, 1.00001, 0.5))])
    folder = Path("data/ingested/herd/train")
    (folder / "metadata.jsonl").write_text("".join(s.to_line() for s in [hair, *truth[1:]]))
    send()
    value = known.shown(0)[0]["value"]
    assert value["x"] >= 0 and value["x"] + value["width"] <= 100
    known.annotate(0, known.shown(0))
    assert fetch()["train-0"].objects == hair.objects


def test_people_agree_on_what_lies_in_one_place():
    two = Sample("1", "", 8, 8, objects=[cow(0.1), cow(0.6)])
    assert agree(two, replace(two, objects=two.objects[::-1]))
    assert not agree(two, replace(two, objects=two.objects[:1] * 2))
    assert certainty(Sample("1", "", 8, 8)) == 1.0


def test_nothing_of_label_studio_is_a_dependency():
    text = (Path(__file__).parents[1] / "requirements.lock").read_text()
    assert "label-studio" not in text
