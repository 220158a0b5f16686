"""Policies on a dataset's own images: what a draw did is told, drawn and written where a person looks."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter
from test_augment_offline import ingested

from pipeline import cli
from pipeline.augment.draws import Column, draws_sheet
from pipeline.augment.policies import POLICIES, augmenter
from pipeline.augment.policies.labels import MARKERS
from pipeline.augment.policies.notes import movement, noted
from pipeline.augment.policies.policy import Points
from pipeline.augment.policies.warps import about_middle, moved_points, turn
from pipeline.augment.preview import preview
from pipeline.augment.steps import Steps
from pipeline.commands import common, data
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Sample, write_samples

RUN = "runs: {herd: {dataset: herd, task: detect, train: {online: {policy: photo_zoom}}}}"
PARAMS = "datasets: {herd: {path: data/own, labels: data/own.json, format: coco}}\n"
PIXELS = np.repeat(np.linspace(0, 255, 96, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)


@pytest.mark.parametrize("policy", POLICIES)
def test_notes_change_no_draw_and_tell_whether_there_was_a_change(policy: str) -> None:
    augment = augmenter(policy)
    for seed in range(12):
        plain = augment(PIXELS, [], seed)[0]
        with noted() as notes:
            same = augment(PIXELS, [], seed)[0]
        assert np.array_equal(plain, same)
        assert notes or np.array_equal(plain, PIXELS)
    with noted() as after:
        pass
    augment(PIXELS, [], 0)
    assert not after, "nothing is noted once nobody asks"


SHEARED = np.array([[1, np.tan(np.radians(10))], [0, 1]])


@pytest.mark.parametrize(
    ("linear", "shift", "said"),
    [
        (np.eye(2), (0, 0), ""),
        (np.diag([-1, 1]), (0, 0), "mirrored"),
        (np.diag([1, -1]), (0, 0), "flipped top to bottom"),
        (-np.eye(2), (0, 0), "turned 180°"),
        (turn(np.radians(-30)) @ np.diag([1, -1]), (0, 0), "flipped top to bottom, turned 30° counterclockwise"),
        (turn(np.radians(12)), (0, 0), "turned 12° clockwise"),
        (turn(np.radians(-90)) @ np.diag([-1, 1]), (0, 0), "mirrored, turned 90° counterclockwise"),
        (np.eye(2) / 2, (0, 0), "shrunk to 50%"),
        (np.eye(2) * 1.3, (0, 0), "enlarged to 130%"),
        (np.diag([0.9, 1.1]), (0, 0), "90% as wide, 110% as high"),
        (np.diag([1.2, 1]), (0, 0), "120% as wide"),
        (np.eye(2), (0.1, -0.05), "shifted 10% right and 5% up"),
        (np.eye(2), (-0.1, 0.002), "shifted 10% left"),
        (SHEARED, (0, 0), "slanted 10°, 102% as high"),
        (SHEARED @ np.diag([-1, 1]), (0, 0), "mirrored, slanted 10°, 102% as high"),
    ],
)
def test_a_movement_is_told_by_where_the_corners_went(linear: Points, shift: tuple[float, float], said: str) -> None:
    size = np.array([200, 100])
    corners = moved_points(MARKERS * size, about_middle(linear, size, np.array(shift) * size)) / size
    assert movement(corners, (200, 100)) == said


def test_a_warp_that_pulls_the_corners_apart_is_told() -> None:
    corners = MARKERS + np.array([(0.05, 0), (-0.05, 0), (0, 0), (0, 0)])
    assert movement(corners, (200, 100)) == "95% as wide, pulled out of shape"


def test_numbers_of_a_written_policy_are_those_that_were_drawn() -> None:
    augment = augmenter([{"transform": "RandomGamma", "gamma_limit": [150, 150], "p": 1.0}])
    with noted() as notes:
        augment(PIXELS, [], 0)
    assert notes == ["RandomGamma gamma 1.5"]


def test_a_tile_is_what_the_policy_makes_with_its_labels() -> None:
    sample, augment = Sample("a", "a.jpg", 96, 64), augmenter([{"transform": "InvertImg", "p": 1.0}])
    sheet = draws_sheet([(PIXELS, sample)], Dataset("d", ["cow"]), [Column(augment, 1, "inverted")], 0, told=True)
    original, inverted = (np.asarray(sheet.crop((x, 16, x + 240, 166)).convert("L"), dtype=float) for x in (6, 252))
    assert original[100, 20] < 40 and original[100, 220] > 215
    assert inverted[100, 20] > 215 and inverted[100, 220] < 40


def test_preview_shows_as_many_images_as_are_asked_for(tmp_path: Path) -> None:
    source = ingested(tmp_path / "in", images=6)  # five with objects
    sizes = []
    for images, policies in ((3, ["photo"]), (9, ["photo"]), (3, ["none", "photo"])):
        path = tmp_path / "sheet.jpg"
        assert preview(source, policies, images, 0, path) == min(images, 5)
        sizes.append(Image.open(path).size)
    assert sizes[0][0] == sizes[1][0] > sizes[2][0], "three draws of one policy, one of each of two"
    assert sizes[1][1] > 1.5 * sizes[0][1]
    first = path.read_bytes()
    preview(source, ["none", "photo"], 3, 0, path)
    assert path.read_bytes() == first
    preview(source, ["none", "photo"], 3, 1, path)
    assert path.read_bytes() != first


def test_where_a_policy_does_nothing_each_image_is_shown_once(tmp_path: Path) -> None:
    source, path = ingested(tmp_path / "in", images=6), tmp_path / "sheet.jpg"
    assert preview(source, ["none"], 3, 0, path) == 3
    once = Image.open(path).size
    preview(source, ["photo"], 1, 0, path)
    assert once[0] < Image.open(path).width, "three images beside each other, no draw"


def test_preview_shows_what_the_datasets_own_steps_make(tmp_path: Path) -> None:
    source, path = ingested(tmp_path / "in", labelled=False), tmp_path / "sheet.jpg"
    sheets = []
    for steps in ([], ["gray"], [{"step": "clahe", "train_only": True}, "gray"]):
        preview(source, ["none", "photo"], 1, 0, path, TypeAdapter(Steps).validate_python(steps))
        sheets.append(np.asarray(Image.open(path), dtype=int))
    tile = sheets[1].shape[1] - sheets[0].shape[1]
    middle = (slice(60, 100), slice(tile + tile // 2 - 20, tile + tile // 2 + 20))
    coloured = [np.ptp(sheet[middle], axis=2).max() > 20 for sheet in sheets]
    assert tile > 200 and coloured == [True, False, False]
    assert np.abs(sheets[1][middle] - sheets[2][middle]).mean() > 3, "the step of training alone is shown too"


def test_preview_refuses_what_it_cannot_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ingested(tmp_path / "in")
    monkeypatch.setitem(POLICIES, "pixels", POLICIES["photo"]._replace(tasks=("classify",)))
    with pytest.raises(InputError, match="images with objects; policy 'pixels' moves no boxes"):
        preview(source, ["pixels"], 2, 0, tmp_path / "a.jpg")
    with pytest.raises(InputError, match="did you mean 'photo_zoom'"):
        preview(source, ["photo_zom"], 2, 0, tmp_path / "a.jpg")
    write_samples(source / "train", [])
    with pytest.raises(InputError, match="no images; expected at least one to show"):
        preview(source, ["photo"], 2, 0, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS + RUN, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("params", "words", "said"),
    [
        (PARAMS + RUN, "--preview", "photo_zoom, that of run herd in training"),
        (
            PARAMS.replace("coco", "coco, augment: {policy: photo, copies: 1}") + RUN,
            "--preview",
            "photo, that of dataset herd",
        ),
        (PARAMS + RUN, "--preview --policy alpaca_lab -n 1", "alpaca_lab"),
        (PARAMS + RUN, "--compare photo,alpaca_lab --seed 3", "photo, alpaca_lab"),
    ],
)
def test_command_says_what_it_shows_and_where(
    home: Path, capsys: pytest.CaptureFixture[str], params: str, words: str, said: str
) -> None:
    ingested(Path("data/ingested/herd"))
    (home / "params.yaml").write_text(params, encoding="utf-8")
    cli.main(["augment", "herd", *words.split()])
    images, sheet = 1 if "-n" in words else 3, f"reports/preview/herd{'.compare' if '--compare' in words else ''}.jpg"
    assert capsys.readouterr().out == f"{sheet}: {images} images by {said}\n"
    assert Image.open(sheet).format == "JPEG"
    assert [file.as_posix() for file in Path("reports/preview").iterdir()] == [sheet]


def test_a_comparison_and_a_preview_leave_each_other_as_they_are(home: Path) -> None:
    ingested(Path("data/ingested/herd"))
    previewed, compared = Path("reports/preview/herd.jpg"), Path("reports/preview/herd.compare.jpg")
    cli.main(["augment", "herd", "--preview"])
    before = previewed.read_bytes()
    cli.main(["augment", "herd", "--compare", "photo,alpaca_lab"])
    assert previewed.read_bytes() == before
    before = compared.read_bytes()
    cli.main(["augment", "herd", "--preview", "--seed", "3"])
    assert compared.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("herd --preview", "data/ingested/herd: not here; `dvc repro ingest@herd` makes it"),
        ("herd --compare photo,none --policy photo", "--policy photo: with --compare the policies are photo, none"),
        ("hert --preview", "did you mean 'herd'"),
    ],
)
def test_command_says_what_is_to_be_done_first(
    home: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["augment", *words.split()])
    assert message in capsys.readouterr().err
    assert not (home / "reports").exists()


@pytest.mark.parametrize(("display", "person", "opened"), [(":0", True, 1), ("", True, 0), (":0", False, 0)])
def test_a_sheet_is_opened_before_a_person_with_a_display(
    home: Path, monkeypatch: pytest.MonkeyPatch, display: str, person: bool, opened: int
) -> None:
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    monkeypatch.setattr(common.sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: person, raising=False)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    ingested(Path("data/ingested/herd"))
    words = {"dataset": "herd", "policy": "none", "compare": None, "images": 1, "seed": 0}
    data.augment(argparse.Namespace(**words))
    assert seen == [(home / "reports/preview/herd.jpg").as_uri()] * opened
