"""A whole dataset in FiftyOne, and what a person does there: nothing of it is lost when the files change."""

import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspected import HERD, draw_run, edit, opened_run
from PIL import Image
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.ui import WebDriverWait

from pipeline.annotation.mistakes import Suspect, write_mistakes
from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.layer import content_of, is_of, layer_file, read_layer, write_layer
from pipeline.core.sample import ABSENT, SPLITS, Landmark, Object, Sample, read_samples, write_dataset, write_samples
from pipeline.datasets.formats.made_ids import source_files
from pipeline.datasets.formats.reading import Candidate, Reading, give_ids
from pipeline.datasets.ingest.layers import Layer, lay
from pipeline.inspection.app import inspect_dataset, show, tagged_ids
from pipeline.inspection.database import close, connect
from pipeline.inspection.dataset_view import DatasetFiles, name_of_dataset, open_dataset
from pipeline.inspection.edits import hash_of_file
from pipeline.inspection.embedding import points_of
from pipeline.inspection.opening import tags_in
from pipeline.inspection.run_view import name_of

LEDGER = ["file,key,rule,found,done"]
DAY = date(2026, 2, 3)
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("fiftyone")
    close()


def draw_dataset(root: Path, task: str = "detect") -> DatasetFiles:
    """Four images a split, with a ledger that refuses one file that can be shown and one that cannot."""
    test, *_, truth, _ = draw_run(root, task)
    ingested = test.parent
    rows = [(split, truth[i]) for split in SPLITS for i in range(4)]
    for split in SPLITS:
        (ingested / split).mkdir(exist_ok=True)
        samples = []
        for number, (_, t) in enumerate(row for row in rows if row[0] == split):
            name = f"{split}{number}.jpg"
            Image.open(test / f"img{number}.jpg").save(ingested / split / name)
            samples.append(replace(t, id=f"{split}{number}", file_name=name, split=split))
        write_samples(ingested / split, samples)
    source = root / "source"
    source.mkdir()
    Image.new("RGB", (32, 24), (9, 200, 9)).save(source / "twice.png")
    (source / "torn.jpg").write_bytes(b"not an image")
    lines = [*LEDGER, "train0.jpg,2,box_outside,(9 9 40 40),clipped", "twice.png,,conflicting_labels,two,refused"]
    write_text(
        root / "ledger.csv", "\n".join([*lines, "torn.jpg,,unreadable,no image,refused", ",,drawn_anew,x,noted\n"])
    )
    sources = {"train0": "train0.jpg", "train1": "walk/train1.jpg"}
    where = (root / "ledger.csv", root / "mistakes.csv", root / "labels")
    return DatasetFiles("herd", ingested, *where, source, sources, lambda: {"test0": ["train0"], "train0": ["test0"]})


def vectors(samples: list[Sample]) -> np.ndarray:
    """Two heaps of images, and one far from both."""
    rows = np.random.default_rng(3).normal(size=(len(samples), 64)).astype(np.float32)
    rows[::2] += 40
    rows[5] -= 400
    return rows


def tagged(database: Path, name: str) -> list[str]:
    return [id for id, tags in tags_in(database, [name]).items() if "relabel" in tags]


def sample_of(view: Any, name: str) -> Any:
    return view.match({"name": name}).first()


def test_all_splits_with_their_source_ledger_twins_and_suspicions(tmp_path, database):
    files = draw_dataset(tmp_path)
    found = [("test2", None, 0.7, "dropped"), ("val1", 1, 0.9, "swapped"), ("val1", 0, 0.95, "shifted")]
    write_mistakes(files.mistakes, [Suspect(*row, "cow") for row in found])
    view = open_dataset(files, database).dataset
    assert view.count_sample_tags() == {"train": 4, "val": 4, "test": 4, "refused": 1}
    first = sample_of(view, "train0")
    assert first.file == "train0.jpg" and first.problems == ["box_outside of 2: (9 9 40 40) (clipped)"]
    assert sample_of(view, "train1").file == "walk/train1.jpg"
    assert view.load_saved_view("near-duplicates across splits").values("name") == ["train0", "test0"]
    suspected = view.load_saved_view("suspected label mistakes")
    # in the file's order: a score is its kind's own
    assert suspected.values("name") == ["test2", "val1"] and suspected.values("mistake_kind") == ["dropped", "swapped"]
    assert suspected.values("mistake_rank") == [1, 2]
    assert view.load_saved_view("refused").values("filepath") == [str(files.source / "twice.png")]
    assert view.load_saved_view("refused").values("problems") == [["conflicting_labels: two (refused)"]]
    assert view.info["refused"] == {"torn.jpg": "unreadable: no image (refused)"}
    objects = {s.id: s.objects for split in SPLITS for s in read_samples(files.ingested / split)}
    shown = view.match_tags(list(SPLITS))
    boxes = dict(zip(*shown.values(["name", "ground_truth.detections.bounding_box"]), strict=True))
    assert boxes == {id: [list(o.box) for o in own] for id, own in objects.items()}
    assert view.get_field("problems").read_only and not view.get_field("ground_truth").read_only
    assert view.active_label_schemas == ["ground_truth"]
    assert view.label_schemas["ground_truth"]["classes"] == HERD.labels
    group = {g.name: g.paths for g in view.app_config.sidebar_groups}
    assert group["labels"][0] == "ground_truth" and group["image"][:2] == ["name", "file"]


def placed(o: Object) -> Object:
    """As ingest writes it: a landmark that is absent has no place."""
    return replace(o, landmarks=[mark if mark.visibility else Landmark(0, 0, ABSENT) for mark in o.landmarks])


def test_what_a_person_changes_and_tags_is_a_layer_before_anything_is_made_anew(tmp_path, database):
    files = replace(draw_dataset(tmp_path), by="ann")
    view = open_dataset(files, database, DAY).dataset
    before = {s.id: s for split in SPLITS for s in read_samples(files.ingested / split)}
    assert open_dataset(files, database, DAY).said == [], "what nobody has touched is no statement"
    box = edit(view, "train3")
    emptied = sample_of(view, "val1")
    emptied.ground_truth.detections = []
    emptied.save()
    for name, tag in (("test2", "exclude"), ("train3", "relabel"), ("val3", "wrong")):
        chosen = sample_of(view, name)
        chosen.tags.append(tag)
        chosen.save()
    write_text(files.ledger, "\n".join([*LEDGER, ""]))  # as after the next ingest
    opened = open_dataset(files, database, DAY)
    layer = tmp_path / f"labels/herd/app-{DAY}.jsonl"
    assert opened.said == [f"{layer}: what was said of 3 images in FiftyOne's App"]
    said = {s.id: s for s in read_layer(layer)}
    assert {id: (s.state, s.by, s.shown) for id, s in said.items()} == {
        "train3": ("labelled", "ann", ""),
        "val1": ("empty", "ann", ""),
        "test2": ("excluded", "ann", ""),
    }
    assert [said[id].against for id in said] == [content_of(before[id]) for id in said]
    assert is_of(said["train3"], Image.open(files.ingested / "train/train3.jpg"))
    first, *others = said["train3"].objects
    assert (list(first.box), first.label) == (box, "horse")
    untouched = [placed(o) for o in before["train3"].objects]
    assert others == untouched[1:] and first.landmarks == untouched[0].landmarks
    view = opened.dataset
    assert sample_of(view, "train0").problems == [], "it was made anew"
    assert set(view.count_sample_tags()) == {*SPLITS, "exclude", "relabel", "wrong"}
    assert open_dataset(files, database, DAY).said == [] and len(read_layer(layer)) == 3
    again = sample_of(view, "train3")
    again.ground_truth.detections = []
    again.save()
    assert len(open_dataset(files, database, DAY).said) == 1
    assert {s.id: s.state for s in read_layer(layer)}["train3"] == "empty", "the last word counts"
    assert tagged(database, view.name) == ["train3"]


@pytest.mark.exhaustive
def test_tagged_images_of_the_dataset_and_its_runs_go_out_to_people(tmp_path, database, monkeypatch, capsys):
    files = draw_dataset(tmp_path)
    files = replace(files, name="queue", ingested=files.ingested.rename(files.ingested.with_name("queue")))
    write_dataset(files.ingested, replace(HERD, name="queue"))
    view = open_dataset(files, database).dataset
    view.match({"name": {"$in": ["train3", "train1"]}}).tag_samples("relabel")
    view.match({"name": "train2"}).tag_samples("wrong")
    test, predictions = files.ingested / "test", tmp_path / "reports/evaluate/r/predictions"
    sure = [replace(s, objects=[replace(o, score=0.9) for o in s.objects]) for s in read_samples(test)]
    write_samples(predictions, sure)
    run = opened_run("queued", test, predictions, database).dataset
    run.match({"name": "test2"}).tag_samples("relabel")
    write_text(
        tmp_path / "params.yaml",
        PARAMS.replace("{herd:", "{queue:", 1).replace("{herd: {dataset: herd", "{queued: {dataset: queue"),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.commands.labels.DATABASE", database)
    capsys.readouterr()
    main(["annotate", "queue", "--to", "cvat", "--out", "task", "--tag", "relabel"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "task: 3 images, 1 of them blind" and said[1].startswith("next: a task with its labels.json")
    assert sorted(p.name for p in Path("task/images").iterdir()) == ["test2.jpg", "train1.jpg", "train3.jpg"]
    with pytest.raises(SystemExit):
        main(["annotate", "queue", "--to", "cvat", "--out", "other", "--tag", "relable"])
    error = "--tag relable: no image of queue has it; tags that people gave in FiftyOne's App: relabel, wrong"
    assert error in capsys.readouterr().err and not Path("other").exists()


def test_a_view_whose_making_is_cut_short_leaves_tags_and_labels_where_they_were(tmp_path, database, monkeypatch):
    files = replace(draw_dataset(tmp_path), name="torn")
    view = open_dataset(files, database).dataset
    view.match({"name": "train1"}).tag_samples("relabel")
    write_text(files.ledger, "\n".join([*LEDGER, ""]))

    def cut() -> dict[str, list[str]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_dataset(replace(files, twins=cut), database)
    assert tagged(database, view.name) == ["train1"]
    fo = connect(database)
    with monkeypatch.context() as patch:  # as late as can be: the old one is gone, the new one has not its name yet
        patch.setattr(fo.Dataset, "name", property(lambda self: self._doc.name, lambda *_: cut()))
        with pytest.raises(KeyboardInterrupt):
            open_dataset(files, database)
    assert not fo.dataset_exists("pocketlens-dataset-torn")
    again = open_dataset(files, database)
    assert again.said == [] and tagged(database, again.dataset.name) == ["train1"]
    assert not [name for name in fo.list_datasets() if "torn" in name and name != again.dataset.name]


def test_a_second_correction_after_ingest_has_laid_the_first_is_laid_over_it(tmp_path, database):
    files = replace(draw_dataset(tmp_path), name="twice")
    folder, labels = files.ingested / "train", tmp_path / "labels"
    source = read_samples(folder)
    reading, names = Reading([], HERD.labels, HERD.landmarks), {s.id: s.file_name for s in source}

    def laid(*layers: str) -> list[Sample]:
        files = [layer_file(labels, "twice", layer) for layer in layers]
        found = lay([Layer(f.stem, f, "", read_layer(f)) for f in files], reading, source, names, folder)
        assert {rule for p in found.problems if (rule := p.rule) != "relabelled"} == set()
        write_samples(folder, found.samples)  # as ingest does
        return found.samples

    for day, boxes in enumerate((0, 1, 2), 1):
        view = open_dataset(files, database, DAY).dataset
        for number in range(boxes + 1):
            sample = sample_of(view, f"train{number}")
            box = [0.1 * day, 0.25, 0.5, 0.5]
            sample.ground_truth.detections = [connect(database).Detection(label="horse", bounding_box=box)]
            sample.save()
        open_dataset(files, database, DAY)
        open_dataset(files, database, DAY)
        now = laid(*(f"app-{DAY}{end}" for end in ("", "-2", "-3")[:day]))
        assert [s.objects[0].box[0] if s.objects else None for s in now[: boxes + 1]] == [0.1 * day] * (boxes + 1)


def test_an_image_with_the_tag_exclude_stays_excluded_until_that_holds_no_more(tmp_path, database):
    files = replace(draw_dataset(tmp_path), name="left-out")
    view = open_dataset(files, database, DAY).dataset
    layer = tmp_path / f"labels/left-out/app-{DAY}.jsonl"

    def states() -> list[str]:
        return [s.state for s in read_layer(layer)]

    view.match({"name": "train3"}).tag_samples("exclude")
    assert len(open_dataset(files, database, DAY).said) == 1 and states() == ["excluded"]
    edit(view, "train3")
    assert open_dataset(files, database, DAY).said == [] and states() == ["excluded"]
    view.match({"name": "train3"}).untag_samples("exclude")
    assert len(open_dataset(files, database, DAY).said) == 1 and states() == ["labelled"], "what was changed meanwhile"
    view.match({"name": "train3"}).tag_samples("exclude")
    assert len(open_dataset(files, database, DAY).said) == 1 and states() == ["excluded"]
    [said] = read_layer(layer)
    write_layer(layer, [replace(said, against="0" * 16)])  # of other labels: ingest does not take it
    assert len(open_dataset(files, database, DAY).said) == 1
    assert [s.against for s in read_layer(layer.with_stem(f"app-{DAY}-2"))] == [said.against]
    assert open_dataset(files, database, DAY).said == []


@pytest.mark.exhaustive
def test_what_was_written_is_said_also_where_the_app_cannot_be_shown(tmp_path, database):
    files, said = replace(draw_dataset(tmp_path), name="busy"), list[str]()
    edit(open_dataset(files, database).dataset, "train3")
    Image.new("RGB", (256, 192), (1, 2, 3)).save(files.ingested / "train/train2.jpg")  # its labels stay as they are
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="name another one"):
            inspect_dataset(files, database, taken.getsockname()[1], said.append)
    [layer] = (tmp_path / "labels/busy").iterdir()
    assert said == [f"{layer}: what was said of 1 images in FiftyOne's App"]
    shown = sample_of(open_dataset(files, database).dataset, "train2")
    assert shown.image == hash_of_file(files.ingested / "train/train2.jpg"), "another image is another view"


def test_no_two_views_have_one_name():
    assert len({name_of(name) for name in ("herd", "dataset-herd")} | {name_of_dataset("herd")}) == 3


def test_what_cannot_be_said_of_the_images_as_they_are_stays_in_the_old_dataset(tmp_path, database):
    files = draw_dataset(tmp_path)
    files = replace(files, name="flock")
    view = open_dataset(files, database).dataset
    box = edit(view, "train3")
    Image.new("RGB", (256, 192), (1, 2, 3)).save(files.ingested / "train/train3.jpg")
    view.set_values("note", {view.first().id: "ask the farmer"}, key_field="id")
    write_text(files.ledger, "\n".join([*LEDGER, ""]))
    opened = open_dataset(files, database)
    kept = connect(database).load_dataset("pocketlens-dataset-flock-kept-1")
    assert opened.said == [
        f"pocketlens-dataset-flock: kept as {kept.name} for note of it and labels of 1 images that have changed since"
    ]
    assert kept.first().note == "ask the farmer"
    assert sample_of(kept, "train3").ground_truth.detections[0].bounding_box == box
    assert not opened.dataset.has_field("note") and not (tmp_path / "labels").exists()


def test_edits_in_a_runs_view_survive_new_predictions(tmp_path, database):
    test, predictions, _, predicted = draw_run(tmp_path, "detect")
    view = opened_run("edited", test, predictions, database).dataset
    assert view.get_field("ground_truth").read_only
    edit(view, "img1")
    made = view.created_at
    predicted[0].objects = []
    write_samples(predictions, predicted)
    opened = opened_run("edited", test, predictions, database)
    [statement] = read_layer(next((tmp_path / "labels/herd").iterdir()))
    assert (statement.id, statement.state, statement.shown) == ("img1", "labelled", "edited")
    assert len(opened.said) == 1 and opened.dataset.created_at > made


def test_map_likeness_and_uniqueness_without_a_network(tmp_path, database, monkeypatch):
    files = replace(draw_dataset(tmp_path), name="mapped", vectors=vectors, backbone="net")
    connect(database)  # what follows may speak to the database, and to nobody else
    real = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in LOOPBACK, address
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    monkeypatch.setattr(socket, "getaddrinfo", refuse_names(socket.getaddrinfo))
    view = open_dataset(files, database).dataset
    ids = dict(zip(*view.match_tags(list(SPLITS)).values(["id", "name"]), strict=True))
    points = view.load_brain_results("map").points
    assert points.shape == (12, 2) and np.isfinite(points).all()
    alike = view.load_brain_results("alike")
    assert alike.total_index_size == 12 and set(alike.sample_ids) == set(ids)
    unique = dict(zip(*view.values(["name", "uniqueness"]), strict=True))
    assert max((u, name) for name, u in unique.items() if u is not None)[1] == "val1", "the one far from both heaps"
    assert unique["twice.png"] is None
    assert view.sort_by_similarity(view.first().id, brain_key="alike", k=3).first().id == view.first().id
    assert not any("embedding" in name for name in view.get_field_schema()), "no vector on a sample"


def refuse_names(real: Any) -> Any:
    def lookup(host: Any, *rest: Any, **more: Any) -> Any:
        assert host in (*LOOPBACK, None), host
        return real(host, *rest, **more)

    return lookup


def test_the_files_that_ids_were_made_of(tmp_path):
    for name in ("cow/1.jpg", "cow-2.JPG", "cow/2.jpg", "walk.avi", "notes.txt"):
        write_text(tmp_path / name, "")
    made = [Candidate(tmp_path, name) for name in ("cow-2.JPG", "cow/2.jpg")]
    give_ids(made, ["cow-2", "cow/2"])
    known = {made[0].id: "cow-2.JPG", made[1].id: "cow/2.jpg", "cow-1": "cow/1.jpg", "walk-00004": "walk.avi"}
    assert source_files(tmp_path, [*known, "notes", "7"]) == known and len(set(known)) == 4


@pytest.mark.parametrize("count", [1, 5, 40])
def test_the_map_is_the_same_each_time_also_of_few(count):
    rows = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
    assert points_of(rows).shape == (count, 2)
    assert np.array_equal(points_of(rows), points_of(rows))


def test_a_broken_table_is_named(tmp_path, database):
    files = replace(draw_dataset(tmp_path), name="broken")
    write_text(files.mistakes, "id,object,score,kind\nval1,0,high,box\n")
    with pytest.raises(InputError, match=r"mistakes.csv: val1: score 'high'; expected a number"):
        open_dataset(files, database)
    files.mistakes.unlink()
    write_text(files.ledger, "file,rule\n")
    with pytest.raises(InputError, match=r"ledger.csv: no column key; expected file,key,rule,found,done"):
        open_dataset(files, database)
    with pytest.raises(InputError, match="no FiftyOne dataset pocketlens-run-nobody"):
        tagged_ids("nobody", False, "relabel", database)


def test_an_image_dataset_has_labels_in_place_of_boxes(tmp_path, database):
    files = replace(draw_dataset(tmp_path, "classify"), name="faces")
    write_dataset(files.ingested, replace(HERD, landmarks=[], skeleton=[], pairs=[]))
    view = open_dataset(files, database).dataset
    assert sample_of(view, "val0").ground_truth.label == "cow"
    changed = sample_of(view, "val0")
    changed.ground_truth.label = "horse"
    changed.save()
    open_dataset(files, database)
    [statement] = read_layer(next((tmp_path / "labels/faces").iterdir()))
    assert (statement.id, statement.label, statement.objects) == ("val0", "horse", [])


PARAMS = """
datasets: {herd: {format: coco, path: data/mine, labels: data/mine}}
runs: {herd: {dataset: herd, task: detect, model: {backbone: mobilenetv2_050, pretrained: false}}}
"""


def test_a_name_is_the_runs_and_else_the_datasets(tmp_path, monkeypatch):
    files = draw_dataset(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "params.yaml", PARAMS)
    write_text(tmp_path / "reports/ingest/herd/ledger.csv", "\n".join([*LEDGER, ""]))
    asked: list[Any] = []
    for what in ("inspect_run", "inspect_dataset"):
        monkeypatch.setattr(f"pipeline.inspection.app.{what}", lambda shown, *_: asked.append(shown))
    (tmp_path / "reports/evaluate/r").rename(tmp_path / "reports/evaluate/herd")
    main(["inspect", "herd"])
    main(["inspect", "herd", "--dataset", "--no-map"])
    shutil.rmtree(tmp_path / "reports/evaluate/herd")
    main(["inspect", "herd"])
    run, unmapped, dataset = asked
    assert (run.run, run.files) == ("herd", tmp_path / "reports/verify/herd/predictions")
    assert (unmapped.name, unmapped.vectors, dataset.name) == ("herd", None, "herd")
    assert dataset.ingested == files.ingested and dataset.vectors is not None and dataset.source is None
    with pytest.raises(SystemExit):
        main(["inspect", "nosuch"])


def test_the_app_opens_on_a_dataset_and_what_is_tagged_there_is_a_layer(tmp_path, database, browser):
    files = replace(draw_dataset(tmp_path), name="opened")
    view = open_dataset(files, database).dataset
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    show(view, port, remote=True)
    browser.get(f"http://127.0.0.1:{port}/datasets/{view.name}")
    wait = WebDriverWait(browser, 90, poll_frequency=1)
    wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "[data-cy=looker]")) >= 12)
    expected = ("13 samples", "problems", "near_duplicates")

    def unsaid() -> list[str]:
        text = str(browser.find_element(By.TAG_NAME, "body").get_attribute("textContent")).lower()
        return [words for words in expected if words not in text]

    try:
        wait.until(lambda _: not unsaid())
    except TimeoutException:
        pytest.fail(f"the App does not say {unsaid()}")

    def clicked(_: Any) -> bool:
        for over in browser.find_elements(By.CSS_SELECTOR, ".MuiBackdrop-root"):  # of what FiftyOne offers to buy
            over.click()
        browser.find_element(By.CSS_SELECTOR, "[data-cy=action-tag-sample-labels]").click()
        return True

    WebDriverWait(browser, 60, 1, [WebDriverException]).until(clicked)
    field = wait.until(element_to_be_clickable((By.CSS_SELECTOR, "[data-cy=sample-tag-input]")))
    field.send_keys("exclude", Keys.ENTER)  # of all images: none is selected

    def applied(_: Any) -> bool:  # sought anew each time: the App draws it again when the tag is there
        browser.find_element(By.XPATH, "//*[text()='Apply']").click()
        return True

    WebDriverWait(browser, 60, 1, [WebDriverException]).until(applied)
    wait.until(lambda _: len(tags_in(database, [view.name])) == 13)
    layer = tmp_path / f"labels/opened/app-{DAY}.jsonl"
    assert open_dataset(files, database, DAY).said == [f"{layer}: what was said of 12 images in FiftyOne's App"]
    assert {s.state for s in read_layer(layer)} == {"excluded"}, "a refused image is in no layer"
