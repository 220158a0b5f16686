"""Each augmentation policy as its library has it, called without this project: what it is measured against.

A call takes an image, boxes as corners in pixels and points in pixels, and gives back what became of them. It draws
from the library's own generators. torchvision's calls begin with a tensor, as its own reading of an image gives one.
"""

import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from pipeline.augment.policies import POLICIES
from pipeline.augment.policies.albumentations_policies import A
from pipeline.augment.policies.imgaug_policies import ia, iaa
from pipeline.augment.policies.policy import BORDER, Pixels
from pipeline.core.lazy import load

Corners = NDArray[np.float32]  # [N, 4] left, top, right, bottom in pixels
Spots = NDArray[np.float32]  # [N, 2] x, y in pixels
Bare = Callable[[Any, Corners | None, Spots | None], Any]


def library_of(policy: str) -> str:
    """The library that has what `policy` does."""
    module = POLICIES[policy].build.split(":")[0]
    return module.rsplit(".", 1)[1].removesuffix("_policies")


def bare(policy: str, size: int) -> Bare:
    """The library's own form of `policy`, for images of `size` pixels a side."""
    made: dict[str, Callable[[str, int], Bare]] = {"albumentations": _albumentations, "imgaug": _imgaug}
    return made.get(library_of(policy), _torchvision)(policy, size)


def _albumentations(policy: str, _size: int) -> Bare:
    built = load(POLICIES[policy].build)()
    moves = built.geometry.transform.transforms if built.geometry else []
    transforms = [*moves, *built.look.transform.transforms]
    plain = A.Compose(transforms)
    boxes_as = A.BboxParams("pascal_voc", label_fields=["labels"], min_visibility=0.3)
    with warnings.catch_warnings(action="ignore"):  # that nothing of `photo` moves them
        labelled = A.Compose(
            transforms, bbox_params=boxes_as, keypoint_params=A.KeypointParams("xy", remove_invisible=False)
        )

    def call(pixels: Pixels, boxes: Corners | None, points: Spots | None) -> Any:
        if boxes is None:
            return plain(image=pixels)
        return labelled(image=pixels, bboxes=boxes, labels=list(range(len(boxes))), keypoints=points)

    return call


def _imgaug(policy: str, _size: int) -> Bare:
    shift = {"x": (-0.08, 0.08), "y": (-0.08, 0.08)}
    scale = {"x": (0.85, 1.15), "y": (0.85, 1.15)}
    affine = iaa.Affine(scale=scale, translate_percent=shift, rotate=(-7, 7), shear=(-4, 4), cval=BORDER)
    moves = [iaa.Fliplr(0.5), iaa.Sometimes(0.7, affine)]
    if policy == "imgaug_ucf101_warped":
        moves += [
            iaa.Sometimes(0.5, iaa.PerspectiveTransform((0.01, 0.1), cval=BORDER)),
            iaa.Sometimes(0.5, iaa.PiecewiseAffine((0.01, 0.05), cval=BORDER)),
        ]
    transform = iaa.Sequential([*moves, load(POLICIES[policy].build)().look.augmenter])

    def call(pixels: Pixels, boxes: Corners | None, points: Spots | None) -> Any:
        if boxes is None:
            return transform(image=pixels)
        held = ia.BoundingBoxesOnImage.from_xyxy_array(boxes, pixels.shape)
        spots = ia.KeypointsOnImage.from_xy_array(points, pixels.shape)
        return transform(image=pixels, bounding_boxes=held, keypoints=spots)

    return call


def _torchvision(policy: str, size: int) -> Bare:
    transform = TORCHVISION[policy](size)

    def call(image: Tensor, boxes: Corners | None, points: Spots | None) -> Any:
        if boxes is None:
            return transform(tv_tensors.Image(image))
        side: Any = (size, size)
        held = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=side)
        spots = tv_tensors.KeyPoints(torch.from_numpy(points), canvas_size=side)
        return transform(tv_tensors.Image(image), held, spots)

    return call


def _alpaca_lab(_size: int) -> v2.Transform:
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(72, v2.InterpolationMode.BILINEAR, fill=BORDER)])


def _ucf101(size: int) -> v2.Transform:
    smooth, whole = v2.InterpolationMode.BILINEAR, (size, size)
    return v2.RandomChoice(
        [
            v2.RandomHorizontalFlip(1),
            v2.RandomVerticalFlip(1),
            v2.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), 10, smooth, BORDER),
            v2.RandomResizedCrop(whole, (0.5, 1), interpolation=smooth),
            v2.RandomPerspective(0.5, 1, smooth, BORDER),
            v2.Compose([v2.RandomRotation(90, smooth, True, fill=BORDER), v2.Resize(whole, smooth)]),
            v2.Grayscale(3),
            v2.ColorJitter(hue=0.5),
            v2.GaussianBlur(5, (0.1, 2.0)),
            v2.Lambda(_opened, tv_tensors.Image),
        ]
    )


def _opened(image: Tensor) -> Tensor:
    """What torchvision lacks, by OpenCV as ours."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(cv2.morphologyEx(pixels, cv2.MORPH_OPEN, disc)).permute(2, 0, 1)


TORCHVISION: dict[str, Callable[[int], v2.Transform]] = {
    "alpaca_lab": _alpaca_lab,
    "ucf101_torch": _ucf101,
    "randaugment": lambda _size: v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR, fill=BORDER),
    "trivialaugment": lambda _size: v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR, fill=BORDER),
}
ALONE = ("randaugment", "trivialaugment")  # torchvision's move no labels


def seeded(seed: int) -> None:
    """Start the generators that imgaug and torchvision draw from; albumentations' are each transform's own."""
    ia.seed(seed)
    torch.manual_seed(seed)
