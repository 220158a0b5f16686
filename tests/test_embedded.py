"""The embedded data: the same bytes each time, and open to the tools that read the real formats."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pipeline.datasets.synthetic.actions import draw_actions
from pipeline.datasets.synthetic.animals import LANDMARKS, animal_figure, draw_animal, draw_stance
from pipeline.datasets.synthetic.canvas import generator
from pipeline.datasets.synthetic.coco import draw_herd, draw_pose
from pipeline.datasets.synthetic.folders import draw_alpaca
from pipeline.datasets.synthetic.params import ActionsParams, ImagesParams
from pipeline.datasets.synthetic.solids import Light, View, render
from pipeline.datasets.synthetic.species import SPECIES

ACTIONS = ActionsParams(groups=4, clips=1, frames=5, side=48)
PICTURES = ImagesParams(images=24, side=96)
SETS: dict[str, tuple[Callable[..., int], ActionsParams | ImagesParams]] = {
    "actions": (draw_actions, ACTIONS),
    "alpaca": (draw_alpaca, PICTURES),
    "herd": (draw_herd, PICTURES),
    "pose": (draw_pose, PICTURES),
}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four sets, drawn with seed 7."""
    root = tmp_path_factory.mktemp("sample")
    for name, (draw, params) in SETS.items():
        (root / name).mkdir()
        draw(root / name, params, 7)
    return root


@pytest.mark.parametrize("name", SETS)
def test_same_seed_same_bytes_and_another_seed_others(name: str, drawn: Path, tmp_path: Path) -> None:
    draw, params = SETS[name]
    for seed in (7, 8):
        (tmp_path / str(seed)).mkdir()
        draw(tmp_path / str(seed), params, seed)
    first, again, other = digests(drawn / name), digests(tmp_path / "7"), digests(tmp_path / "8")
    assert first == again
    media = [path for path in first if path.endswith((".jpg", ".avi"))]
    assert media
    assert all(first[path] != other[path] for path in media if path in other)


@pytest.mark.parametrize("name", ["alpaca", "herd", "pose"])
def test_a_picture_does_not_depend_on_how_many_are_drawn(name: str, drawn: Path, tmp_path: Path) -> None:
    SETS[name][0](tmp_path, ImagesParams(images=10, side=96), 7)
    few, many = digests(tmp_path), digests(drawn / name)
    pictures = [path for path in few if path.endswith(".jpg")]
    assert len(pictures) == 10
    assert all(few[path] == many[path] for path in pictures)


def test_clips_decode_with_the_asked_frames(drawn: Path) -> None:
    clips = sorted((drawn / "actions" / "videos").glob("*/*.avi"))
    assert len(clips) == 3 * ACTIONS.groups * ACTIONS.clips
    for path in clips:
        assert re.fullmatch(rf"v_{path.parent.name}_g\d\d_c\d\d\.avi", path.name)
        with av.open(str(path)) as clip:
            frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
            assert 12 <= float(clip.streams.video[0].average_rate) <= 25
        assert len(frames) == ACTIONS.frames
        assert frames[0].shape == (48, 64, 3)
        assert np.abs(frames[0].astype(int) - frames[-1]).max() > 30  # something moves


def test_lists_name_the_clips_with_whole_groups_on_one_side(drawn: Path) -> None:
    root = drawn / "actions"
    clips = {str(p.relative_to(root / "videos")) for p in root.glob("videos/*/*.avi")}
    classes = dict(reversed(line.split()) for line in (root / "ucfTrainTestlist/classInd.txt").read_text().splitlines())
    assert classes == {"Basketball": "1", "JumpingJack": "2", "WalkingWithDog": "3"}
    seen = []
    for number in ("01", "02", "03"):
        train = [row.split() for row in (root / f"ucfTrainTestlist/trainlist{number}.txt").read_text().splitlines()]
        test = (root / f"ucfTrainTestlist/testlist{number}.txt").read_text().splitlines()
        assert all(classes[name.split("/")[0]] == index for name, index in train)
        assert sorted([*(name for name, _ in train), *test]) == sorted(clips)
        groups = [{re.search(r"_g(\d\d)_", name)[1] for name in side} for side in ([n for n, _ in train], test)]  # type: ignore[index]
        assert not groups[0] & groups[1]
        assert len(groups[1]) == 1  # a quarter of four
        seen.append(groups[1])
    assert len(set(map(frozenset, seen))) == 3


@pytest.mark.parametrize("groups", [1, 2])
def test_few_groups_leave_something_to_train_on(groups: int, tmp_path: Path) -> None:
    draw_actions(tmp_path, ActionsParams(groups=groups, clips=1, frames=2, side=33), 0)
    lists = tmp_path / "ucfTrainTestlist"
    assert len((lists / "trainlist01.txt").read_text().splitlines()) == 3
    assert len((lists / "testlist01.txt").read_text().splitlines()) == 3 * (groups - 1)


def test_class_folders_hold_both_classes(drawn: Path) -> None:
    counts = {p.name: len(list(p.glob("*.jpg"))) for p in (drawn / "alpaca").iterdir()}
    assert set(counts) == {"alpaca", "not alpaca"}
    assert sum(counts.values()) == PICTURES.images
    assert 0.5 < counts["alpaca"] / PICTURES.images < 0.7
    for path in (drawn / "alpaca").glob("*/*.jpg"):
        with Image.open(path) as image:
            assert max(image.size) == PICTURES.side


@pytest.mark.parametrize("name", ["herd", "pose"])
def test_coco_sets_open_with_pycocotools(name: str, drawn: Path) -> None:
    files, empty = [], 0
    for split in ("train", "val", "test"):
        coco = COCO(str(drawn / name / "annotations" / f"{split}.json"))
        assert coco.getImgIds()
        assert {c["name"] for c in coco.cats.values()} == {"alpaca", "sheep", "dog"}
        for image in coco.imgs.values():
            files.append(image["file_name"])
            with Image.open(drawn / name / "images" / image["file_name"]) as drawing:
                assert drawing.size == (image["width"], image["height"])
            animals = coco.imgToAnns[image["id"]]
            empty += not animals
            assert len(animals) <= (5 if name == "herd" else 1)
            for animal in animals:
                check_annotation(animal, image["width"], image["height"])
    assert sorted(files) == sorted(p.name for p in (drawn / name / "images").iterdir())
    assert 0 < empty < len(files) / 2


def check_annotation(animal: dict, width: int, height: int) -> None:
    x, y, w, h = animal["bbox"]
    assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
    assert h >= 24 / 256 * PICTURES.side - 1
    assert 0.1 * w * h < animal["area"] <= w * h
    points = np.array(animal["keypoints"]).reshape(-1, 3)
    assert len(points) == len(LANDMARKS)
    assert animal["num_keypoints"] == (points[:, 2] > 0).sum()
    assert set(points[:, 2]) <= {0, 1, 2}
    assert not points[points[:, 2] == 0].any()
    labelled = points[points[:, 2] > 0, :2]
    assert ((labelled >= [x - 2, y - 2]) & (labelled <= [x + w + 2, y + h + 2])).all()


def test_landmarks_have_both_sides_and_a_skeleton(drawn: Path) -> None:
    coco = COCO(str(drawn / "herd" / "annotations" / "train.json"))
    names = {name.removeprefix("left_") for name in LANDMARKS if name.startswith("left_")}
    assert names == {name.removeprefix("right_") for name in LANDMARKS if name.startswith("right_")}
    for category in coco.cats.values():
        assert category["keypoints"] == list(LANDMARKS)
        assert all(1 <= k <= len(LANDMARKS) for bone in category["skeleton"] for k in bone)


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize(("yaw", "near", "far"), [(0.0, "right", "left"), (np.pi, "left", "right")])
def test_the_near_side_is_the_one_that_faces_the_viewer(species: str, yaw: float, near: str, far: str) -> None:
    """An animal that faces right shows its right side; the far eye is hidden by the head."""
    rng = generator(0, species)
    animal, stance = draw_animal(species, rng), type(draw_stance(rng, species))()
    sprite = render(animal_figure(animal, stance), View(yaw, 0.1, 100), Light((0, 0.8, 0.6), 0.6, (1, 1, 1)))
    assert sprite.points[f"{near}_eye"][2]
    assert not sprite.points[f"{far}_eye"][2]
    assert sprite.points[f"{near}_front_hoof"][1] > sprite.points[f"{far}_front_hoof"][1]  # nearer is lower
    assert (sprite.points["nose"][0] > sprite.points["tail"][0]) == (yaw == 0)
