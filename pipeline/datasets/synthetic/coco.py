"""`herd` and `pose`: animals with boxes and landmarks, as COCO keypoints JSON."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.files import write_text
from pipeline.core.parallel import each
from pipeline.datasets.synthetic.animals import LANDMARKS, SKELETON
from pipeline.datasets.synthetic.canvas import SCALE, finish, generator
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.datasets.synthetic.placing import (
    Scene,
    bush_or_fence,
    coco_annotation,
    draw_large,
    draw_shape,
    draw_spot,
    draw_sprite,
)
from pipeline.datasets.synthetic.scenery import PASTURES, outdoors

CLASSES = ("alpaca", "sheep", "dog")
# of every ten images 6, 2 and 2; the empty ones repeat every 17 and 13, so that each split gets some
SPLITS = ("train", "test", "train", "val", "train", "train", "test", "train", "train", "val")
HERD_EMPTY, POSE_EMPTY = (17, (3, 11)), (13, (4, 10))


def draw_herd(folder: Path, params: ImagesParams, seed: int) -> int:
    """Draw images of up to five animals into `folder`; returns how many images."""
    return _draw(folder, params, partial(_herd, folder, params.side, seed), "draw herd")


def draw_pose(folder: Path, params: ImagesParams, seed: int) -> int:
    """Draw images of one large animal or none into `folder`; returns how many images."""
    return _draw(folder, params, partial(_pose, folder, params.side, seed), "draw pose")


def _draw(folder: Path, params: ImagesParams, draw: Any, label: str) -> int:
    """Images to `folder`/images, one JSON per split to `folder`/annotations."""
    (folder / "images").mkdir()
    drawn = each(draw, range(params.images), label)
    for split in ("train", "val", "test"):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index, (image, animals) in enumerate(drawn):
            if SPLITS[index % len(SPLITS)] != split:
                continue
            images.append(image)
            for animal in animals:
                annotations.append({"id": len(annotations) + 1, "image_id": image["id"], **animal})
        text = json.dumps(_coco(images, annotations), separators=(",", ":"))
        write_text(folder / "annotations" / f"{split}.json", text + "\n")
    return len(drawn)


def _coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    skeleton = [[LANDMARKS.index(a) + 1, LANDMARKS.index(b) + 1] for a, b in SKELETON]
    categories = [
        {"id": k, "name": name, "supercategory": "animal", "keypoints": list(LANDMARKS), "skeleton": skeleton}
        for k, name in enumerate(CLASSES, 1)
    ]
    info = {"description": "Drawn by Pocketlens", "version": "1.0"}
    return {"info": info, "images": images, "categories": categories, "annotations": annotations}


def _herd(folder: Path, side: int, seed: int, index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = generator(seed, "herd", index)
    width, height = draw_shape(rng, side, ("landscape", "landscape", "landscape", "square", "wide"))
    scene = Scene(outdoors(rng, width, height, PASTURES[rng.integers(len(PASTURES))]))
    canvas = scene.canvas
    period, empty = HERD_EMPTY
    count = 0 if index % period in empty else int(rng.choice([1, 2, 3, 4, 5], p=[0.22, 0.28, 0.22, 0.16, 0.12]))
    nearest = rng.uniform(0.28, 0.42) * SCALE * side * 0.75  # pixels per metre at the lower edge
    depths = np.sort(rng.uniform(0.45, 0.97, count))
    for depth in depths:
        species = CLASSES[rng.choice(3, p=[0.42, 0.32, 0.26])]
        for _ in range(6):
            sprite = draw_sprite(rng, canvas, species, max(depth, 0.6) * nearest)
            y = canvas.horizon + depth * (canvas.height - canvas.horizon)
            if _tall_enough(sprite.mask, side) and scene.add(
                species, sprite, rng.uniform(0.02, 0.98) * canvas.width, y, inside=0.55, visible=0.45
            ):
                break
    if rng.random() < 0.35:
        bush_or_fence(rng, scene, nearest, visible=0.4)
    return _save(scene, folder, index, width, height, rng)


def _pose(folder: Path, side: int, seed: int, index: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = generator(seed, "pose", index)
    width, height = draw_shape(rng, side, ("landscape", "landscape", "square", "portrait"))
    scene = Scene(outdoors(rng, width, height, PASTURES[rng.integers(len(PASTURES))]))
    period, empty = POSE_EMPTY
    if index % period not in empty:
        species = CLASSES[rng.choice(3, p=[0.4, 0.3, 0.3])]
        sprite = draw_large(rng, scene.canvas, species, 0.45, 0.85)
        scene.add(species, sprite, *draw_spot(rng, scene.canvas, sprite, edge=0.1), inside=0, visible=0)
    if rng.random() < 0.35:
        bush_or_fence(rng, scene, 0.32 * scene.canvas.height, visible=0.5)
    return _save(scene, folder, index, width, height, rng)


def _save(
    scene: Scene, folder: Path, index: int, width: int, height: int, rng: np.random.Generator
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the JPEG; its COCO image and annotations without ids."""
    name = f"{index:06d}.jpg"
    pixels = finish(scene.canvas.image, width, height, rng, rng.uniform(0, 0.7), rng.uniform(1, 5))
    Image.fromarray(pixels).save(folder / "images" / name, quality=90)
    image = {"id": index + 1, "file_name": name, "width": width, "height": height}
    animals = [{"category_id": CLASSES.index(p.species) + 1, **coco_annotation(p, scene.canvas)} for p in scene.placed]
    return image, animals


def _tall_enough(mask: np.ndarray, side: int) -> bool:
    """At least 24 pixels in an image of 256, as a smaller animal has no legs to be seen."""
    return bool(np.ptp(np.flatnonzero(mask.any(1))) + 1 >= 24 / 256 * side * SCALE)
