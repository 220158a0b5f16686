"""Label mistakes that were planted come first, in what is judged by heads that have not seen them."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

from pipeline.annotation.boxes import Boxed, judge
from pipeline.annotation.crops import NONE, inside, moved, moves, overlap
from pipeline.annotation.heads import Head, folds_of, margin, out_of_fold
from pipeline.annotation.mistakes import (
    KINDS,
    Suspect,
    image_suspects,
    judged_boxes,
    mistakes_text,
    ranked,
    suspects_of,
)
from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.inspection.dataset_view import read_mistakes
from pipeline.ops.preprocess import Frame

WEIGHTS = Path(__file__).parents[1] / "weights/mobilenetv2_050.drawn.safetensors"
FIRST = 0.15  # of a ranking: what a person has the time for


def recall(found: np.ndarray, mistakes: np.ndarray) -> float:
    """Of `mistakes` in the first rows of the ranking by `found`."""
    first = np.argsort(-found, kind="stable")[: round(FIRST * len(found))]
    return float(mistakes[first].sum() / mistakes.sum())


def swapped(rng: np.random.Generator, count: int, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of three labels that overlap a little, labels of which a share is wrong, and which these are."""
    truth = rng.integers(3, size=count)
    features = (np.eye(3, 64)[truth] * 6 + rng.normal(0, 1, (count, 64))).astype(np.float32)
    wrong = np.zeros(count, bool)
    wrong[rng.permutation(count)[: round(share * count)]] = True
    return features, np.where(wrong, (truth + rng.integers(1, 3, count)) % 3, truth), wrong


@pytest.mark.parametrize("seed", range(3))
def test_swapped_labels_come_first_and_only_out_of_fold(seed: int) -> None:
    features, labels, wrong = swapped(np.random.default_rng(seed), 300, 0.1)
    found = margin(out_of_fold(features, labels, [str(i) for i in range(300)], 3), labels)
    assert roc_auc_score(wrong, found) >= 0.9
    # the head that one trains: it has learned the mistakes, and agrees with them
    known = margin(Head(features, labels, 3, shrink=1e6)(features), labels)
    assert roc_auc_score(wrong, known) < roc_auc_score(wrong, found) - 0.05
    features, labels, wrong = swapped(np.random.default_rng(seed), 400, 0.05)
    assert recall(margin(out_of_fold(features, labels, [str(i) for i in range(400)], 3), labels), wrong) >= 0.7


def test_a_clip_whose_frames_have_the_same_mistake_is_found() -> None:
    """By image they would speak for each other."""
    features, labels, _ = swapped(np.random.default_rng(0), 120, 0)
    features, labels = np.concatenate([features, np.repeat(features[:1], 80, axis=0)]), np.append(labels, [0] * 80)
    labels[120:] = (labels[0] + 1) % 3
    own = [str(i) for i in range(200)]
    by_group = margin(out_of_fold(features, labels, [*own[:120], *["clip"] * 80], 3), labels)[120:]
    by_image = margin(out_of_fold(features, labels, own, 3), labels)[120:]
    assert by_group.min() > 0.5 > by_image.max()


def test_a_group_is_in_one_fold_and_folds_are_about_as_large() -> None:
    groups = ["a"] * 30 + ["b"] * 30 + [f"c{i}" for i in range(40)]
    folds = folds_of(groups)
    assert all(len(set(folds[np.array(groups) == g])) == 1 for g in set(groups))
    assert sorted(np.bincount(folds)) == [13, 13, 14, 30, 30]
    assert set(folds_of(["a", "b", "b"])) == {0, 1}


def test_a_label_that_no_other_group_has_cannot_be_judged() -> None:
    features, labels, _ = swapped(np.random.default_rng(1), 60, 0)
    labels[:4] = 3
    said = out_of_fold(features, labels, ["one"] * 4 + [str(i) for i in range(56)], 4)
    assert margin(said, labels)[:4].tolist() == [0] * 4
    assert margin(out_of_fold(features[:9], labels[:9], ["one"] * 9, 4), labels[:9]).tolist() == [0] * 9


def test_boxes_are_moved_and_back() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.5, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (20, 2))], axis=1)
    to = moved(boxes, rng.uniform(-0.5, 0.5, (20, 4)))
    assert np.allclose(moved(boxes, moves(boxes, to)), to)
    assert np.allclose(np.diag(overlap(boxes, boxes)), 1)
    half = np.array([[0, 0, 0.5, 1.0]])
    assert (overlap(half, np.array([[0, 0, 1, 1.0]])).item(), inside(half, np.array([[0, 0, 1, 1.0]])).item()) == (
        0.5,
        1,
    )
    assert overlap(half, NONE).shape == (1, 0)


SIDE, CELLS = 12, 4  # of a map, and of one of its images' things at least


def scene(rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Maps as of a backbone that sees two kinds of things, one to three of them, and where they are."""
    maps = rng.normal(0, 0.3, (10, SIDE, SIDE)).astype(np.float32)
    boxes: list[list[int]] = []
    for _ in range(int(rng.integers(1, 4))):
        w, h = rng.integers(CELLS, CELLS + 2, 2)
        x, y = rng.integers(0, SIDE - w + 1), rng.integers(0, SIDE - h + 1)
        if all(x >= b[2] or b[0] >= x + w or y >= b[3] or b[1] >= y + h for b in boxes):
            boxes.append([x, y, x + w, y + h])
    labels = rng.integers(2, size=len(boxes))
    for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
        maps[label * 2, y0:y1, x0:x1] += 2
        maps[label * 2 + 1, y0 : y0 + 2, x0:x1] += 1
    return [maps], np.array(boxes) / SIDE, labels


@pytest.fixture(scope="module")
def planted() -> tuple[list[Suspect], list[tuple[str, str, object]], int]:
    """The ranking over 220 images in which 5 % of the objects are swapped, 5 % shifted and 5 % without a box; what is
    wrong, as (kind, id, object or box); and how many objects there are.
    """
    rng = np.random.default_rng(0)
    dataset = Dataset("set", ["cow", "goat"])
    images, samples, wrong = [], [], []
    for n in range(220):
        maps, boxes, labels = scene(rng)
        kinds = rng.choice(["", "swapped", "shifted", "dropped"], len(boxes), p=[0.85, 0.05, 0.05, 0.05])
        kept = kinds != "dropped"
        wrong += [("dropped", str(n), box) for box in boxes[~kept]]
        boxes, labels, kinds = boxes[kept], labels[kept].copy(), kinds[kept]
        labels[kinds == "swapped"] ^= 1
        by = np.zeros((len(boxes), 4))
        by[kinds == "shifted", 0] = rng.choice([-0.4, 0.4], (kinds == "shifted").sum())
        boxes = moved(boxes, by)
        wrong += [(str(kind), str(n), i) for i, kind in enumerate(kinds) if kind]
        objects = [
            Object(dataset.labels[label], (x0, y0, x1 - x0, y1 - y0))
            for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True)
        ]
        samples.append(Sample(str(n), f"{n}.jpg", 64, 64, objects=objects))
        images.append(Boxed(maps, boxes, labels, NONE))
    judged = judge(images, [s.id for s in samples], 2)
    frames = dict.fromkeys([s.id for s in samples], Frame(1, 1, 0, 0))
    count = sum(len(s.objects) for s in samples)
    return suspects_of(samples, dataset, images, judged, frames), wrong, count


def found_in(rows: list[Suspect], wrong: list[tuple[str, str, object]]) -> float:
    """Which share of what is wrong `rows` point at: a box that lies elsewhere may as well be said to show nothing."""
    objects = {(row.id, row.object) for row in rows if row.object is not None}
    missing = [what for what in wrong if what[0] == "dropped"]
    hits = sum(what[1:] in objects for what in wrong if what[0] != "dropped")
    return (hits + sum(any(is_of(row, *what) for row in rows) for what in missing)) / len(wrong)


def is_of(row: Suspect, kind: str, name: str, box: object) -> bool:
    if (row.kind, row.id) != (kind, name) or row.box is None:
        return False
    x, y, w, h = row.box
    return bool(overlap(np.array([[x, y, x + w, y + h]]), np.array([box])).item() >= 0.4)


@pytest.mark.parametrize("kind", ["swapped", "shifted", "dropped"])
def test_planted_mistakes_are_in_the_first_rows(planted, kind: str) -> None:
    rows, wrong, count = planted
    assert len(rows) <= 2 * count
    asked = [what for what in wrong if what[0] == kind]
    assert len(asked) >= 8
    assert found_in(rows[: round(FIRST * len(rows))], asked) >= 0.7


def test_the_first_rows_are_mistakes(planted) -> None:
    """About one in six labels is wrong: as many rows have most of it, which no threshold has chosen."""
    rows, wrong, _ = planted
    first = rows[: len(wrong)]
    assert found_in(first, wrong) >= 0.6
    assert {row.kind for row in first} >= {"swapped", "shifted", "dropped"}


def test_an_object_is_listed_once_by_what_stands_out_most() -> None:
    rows = [Suspect(str(i), 0, 0.1 + i / 1000, kind) for i in range(20) for kind in KINDS[:2]]
    rows += [Suspect("5", 1, 0.9, "swapped"), Suspect("5", 1, 0.2, "shifted"), Suspect("6", None, 0.5, "dropped")]
    found = ranked(rows)
    assert len(found) == 22
    assert (found[0].id, found[0].object, found[0].kind) == ("5", 1, "swapped")
    assert ranked([]) == []


def test_crowds_are_not_judged_nor_taken_for_missing() -> None:
    rng = np.random.default_rng(7)
    images, samples = [], []
    for n in range(40):
        maps, boxes, labels = scene(rng)
        crowd = n % 2 == 0
        images.append(Boxed(maps, NONE if crowd else boxes, labels[: 0 if crowd else None], boxes if crowd else NONE))
        objects = [Object("cow", (a, b, c - a, d - b), crowd=crowd) for a, b, c, d in boxes]
        samples.append(Sample(str(n), f"{n}.jpg", 64, 64, objects=objects))
    judged = judge(images, [s.id for s in samples], 2)
    frames = dict.fromkeys([s.id for s in samples], Frame(1, 1, 0, 0))
    rows = suspects_of(samples, Dataset("set", ["cow", "goat"]), images, judged, frames)
    of_crowds = [row for row in rows if int(row.id) % 2 == 0]
    assert all(row.kind == "dropped" for row in of_crowds)
    assert max((row.score for row in of_crowds), default=0) < 0.5


def few(rng: np.random.Generator, there: tuple[int, ...]) -> list[Boxed]:
    """Six images of which those `there` have boxes."""
    images = []
    for n in range(6):
        maps, boxes, labels = scene(rng)
        kept = slice(None if n in there else 0)
        images.append(Boxed(maps, boxes[kept], labels[kept], NONE))
    return images


def test_boxes_of_two_images_of_many_are_judged_by_each_other() -> None:
    groups = [str(i) for i in range(6)]
    assert folds_of(groups)[1] == folds_of(groups)[3], "a head that has seen neither has seen no box"
    images = few(np.random.default_rng(0), (1, 3))
    judged = judge(images, groups, 2)
    assert [len(j.said) for j in judged] == [len(image.boxes) for image in images]


def test_a_box_whose_label_no_other_group_has_is_not_called_wrong() -> None:
    images = few(np.random.default_rng(0), (0, 1, 2, 3))
    images[0].labels[:] = 2
    said = judge(images, [str(i) for i in range(6)], 3)[0].said
    assert said.tolist() == [[0, 0, 1, 0]] * len(images[0].boxes)


def photo(place: Path, rng: np.random.Generator, things: list[tuple[str, tuple[float, float, float, float]]]) -> None:
    image = Image.fromarray(rng.integers(90, 120, (64, 64, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(image)
    for label, (x, y, w, h) in things:
        frame = (64 * x, 64 * y, 64 * (x + w), 64 * (y + h))
        if label == "cow":
            pen.rectangle(frame, fill=(250, 240, 230))
        else:
            pen.ellipse(frame, fill=(20, 10, 120))
    place.parent.mkdir(parents=True, exist_ok=True)
    image.save(place)


def project(folder: Path, task: str) -> None:
    """An ingested dataset of 40 images, a thing each; of image 3 the label is wrong."""
    rng = np.random.default_rng(0)
    samples: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
    for n in range(40):
        label, other = (("cow", "goat"), ("goat", "cow"))[n % 2]
        box = (*rng.uniform(0.1, 0.4, 2).tolist(), 0.5, 0.4)
        split = "train" if n < 30 else "val" if n < 35 else "test"
        photo(folder / f"data/ingested/mine/{split}/{n}.png", rng, [(label, box)])
        said = other if n == 3 else label
        s = Sample(f"id{n}", f"{n}.png", 64, 64, split)
        if task == "classify":
            s.label = said
        else:
            s.objects = [Object(said, box, [Landmark(0.5, 0.5)])]
        samples[split].append(s)
    write_dataset(
        folder / "data/ingested/mine", Dataset("mine", ["cow", "goat"], ["nose"] if task != "classify" else [])
    )
    for split, rows in samples.items():
        write_samples(folder / f"data/ingested/mine/{split}", rows)
    form = "folder" if task == "classify" else "coco"
    model = f"model: {{backbone: mobilenetv2_050, pretrained: {WEIGHTS}, size: 64}}"
    text = f"datasets: {{mine: {{format: {form}, path: data/mine, labels: data/mine}}}}\n"
    write_text(folder / "params.yaml", f"{text}runs: {{mine: {{dataset: mine, task: {task}, {model}}}}}\n")


@pytest.mark.parametrize("task", ["classify", "localize"])
def test_the_command(
    tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project(tmp_path, task)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True)
        main(["mistakes", "mine", "--sheet", "sheet.jpg"])
    said, bars = capsys.readouterr()
    assert "read features: 100%" in bars and ("judge: 100%" in bars) == (task != "classify")
    assert said.startswith("mine: ") and bars.endswith("sheet.jpg: the first ones, drawn\n")
    assert ("A row is an image with its label" if task == "classify" else "A row is an object, or a place") in said
    assert "in reports/mistakes/mine.csv, the likeliest mistake first" in said
    with Image.open("sheet.jpg") as sheet:
        assert sheet.size[0] > 1200
    with Path("reports/mistakes/mine.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "object", "score", "kind", "given", "likelier", "box"]
    assert {row["kind"] for row in rows} <= set(KINDS)
    main(["mistakes", "mine", "--json"])
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [row["id"] for row in rows]
    main(["mistakes", "mine", "--ids", "3"])
    images = list(dict.fromkeys(row["id"] for row in rows))
    assert capsys.readouterr().out.split() == images[:3]
    seen = read_mistakes(Path("reports/mistakes/mine.csv"))
    assert sorted(seen, key=lambda i: seen[i]["mistake_rank"]) == images, "FiftyOne shows them in this order"
    first = next(row for row in rows if row["kind"] == "swapped")
    if task == "classify":
        assert len(rows) == 40
        assert (first["id"], first["object"], first["given"], first["likelier"]) == ("id3", "", "cow", "goat")
    for wrong, message in (
        (["mien"], "no dataset 'mien' in params.yaml; did you mean 'mine'?"),
        (["mine", "--run", "mien"], "no run 'mien' in params.yaml; did you mean 'mine'?"),
        (["mine", "--sheet", "sheet.jpg"], "--sheet sheet.jpg: is there already"),
    ):
        with pytest.raises(SystemExit):
            main(["mistakes", *wrong])
        assert message in capsys.readouterr().err


def test_too_few_labels_to_learn_from_is_said(tmp_path: Path) -> None:
    from pipeline.config.params import read_params

    project(tmp_path, "localize")
    run, dataset = read_params(tmp_path / "params.yaml").run("mine"), Dataset("mine", ["cow"])
    samples = [Sample(str(i), f"{i}.jpg", 8, 8, group="one", objects=[Object("cow", (0, 0, 1, 1))]) for i in range(9)]
    with pytest.raises(
        InputError, match=r"^dataset 'mine': 9 objects in 1 groups; expected 8 at least, and two groups"
    ):
        judged_boxes("mine", run, dataset, tmp_path, samples, tmp_path)
    crowd = Sample("9", "9.jpg", 8, 8, group="two", objects=[Object("cow", (0, 0, 1, 1), crowd=True)])
    with pytest.raises(InputError, match="9 objects in 1 groups"):
        judged_boxes("mine", run, dataset, tmp_path, [*samples, crowd], tmp_path)


def test_words_for_a_person() -> None:
    rows = image_suspects(
        Dataset("set", ["cow", "goat"]), [Sample("a\n", "a.jpg", 8, 8, label="cow")], np.array([[0.2, 0.8]])
    )
    assert mistakes_text("set", rows, Path("x.csv")).splitlines()[2] == r"  a\n: cow: rather goat (0.80)"
    many = mistakes_text("set", rows * 50, Path("x.csv")).splitlines()
    assert (len(many), many[-1]) == (23, "  and 30 more in x.csv")
    assert len(mistakes_text("set", rows * 20, Path("x.csv")).splitlines()) == 22
