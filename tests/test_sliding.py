"""Sliding windows: one pass against cutting the windows out, where boxes land, and a detector made of a classifier."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import nn

from benchmarks.sliding_windows import one_by_one
from pipeline.augment.policies import augmenter
from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, read_samples, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import DATASETS
from pipeline.inference.convolutional import FullyConvolutional
from pipeline.inference.sliding import Slider, one_pass, place, slide, slide_run, slide_samples, usual_shapes
from pipeline.metrics.matching import iou
from pipeline.models.nets import build, load_model
from pipeline.ops.preprocess import FILL
from pipeline.training.loading import ImageDataset, train_loader

LABELS = ["disc", "square"]
SCALES = [1.25, 1.6, 2, 2.5, 3.2]


def spec(backbone: str, size: int, kind: str = "pool", labels: tuple[str, ...] = ("a", "b", "background")) -> ModelSpec:
    return ModelSpec(
        run="r", dataset="crops", task="classify", labels=list(labels), landmarks=[], pairs=[], skeleton=[],
        backbone=backbone, head={"kind": kind, "dropout": 0.3}, size=size, resize="letterbox",
        mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4], predict={"score": 0.5, "nms_iou": 0.3, "max_objects": 20},
        outputs=["logits"],
    )  # fmt: skip


def lively(made: ModelSpec) -> Any:
    """A random net whose logits differ from window to window: statistics of random images, large last layers."""
    torch.manual_seed(0)
    net: Any = build(made)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    with torch.no_grad():
        net.train()(torch.randn(16, 3, made.size, made.size))
    return net.eval()


# --- one pass


@pytest.mark.parametrize("kind", ["pool", "flatten"])
@pytest.mark.parametrize(
    ("backbone", "size", "stride"),
    [
        ("mobilenetv1_025_short_valid", 64, 16),
        ("mobilenetv1_025_short_valid", 96, 16),
        ("mobilenetv1_025_shallow_valid", 160, 32),
        ("mobilenetv1_025_shallow_valid", 192, 32),
    ],
)
@pytest.mark.parametrize(("high", "wide"), [(0, 0), (3, 41), (70, 129)])
def test_one_pass_gives_what_cut_out_windows_give(
    backbone: str, size: int, stride: int, kind: str, high: int, wide: int
) -> None:
    net = lively(spec(backbone, size, kind))
    sliding = FullyConvolutional(net, size)
    assert sliding.stride == stride
    pictures = torch.randn(2, 3, size + high, size + wide)
    with torch.inference_mode():
        (found,) = sliding(pictures)
        assert found.shape == (2, 3, high // stride + 1, wide // stride + 1)
        wanted = torch.empty_like(found)
        for row in range(found.shape[2]):
            for column in range(found.shape[3]):
                y, x = row * stride, column * stride
                wanted[:, :, row, column] = net(pictures[:, :, y : y + size, x : x + size])[0]
    assert wanted.std() > 0.05
    assert (found - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["pool", "flatten"])
@pytest.mark.parametrize("backbone", ["mobilenetv1_025_shallow", "mobilenetv2_035", "resnet18"])
def test_with_padding_a_picture_of_one_window_is_the_same(backbone: str, kind: str) -> None:
    net = lively(spec(backbone, 128, kind))
    sliding = FullyConvolutional(net, 128)
    with torch.inference_mode():
        picture = torch.randn(1, 3, 128, 128)
        torch.testing.assert_close(sliding(picture)[0][..., 0, 0], net(picture)[0], rtol=0, atol=1e-4)
        assert sliding(torch.randn(1, 3, 200, 300))[0].shape == (1, 3, 3, 6)


@pytest.mark.parametrize(
    ("backbone", "named"),
    [
        ("mobilenetv3_small_050", "SqueezeExcite"),
        ("efficientnet_b0", "SqueezeExcite"),
        ("vgg11", "ConvMlp"),
        ("skresnet18", "SelectiveKernel"),
        ("tf_mobilenetv3_small_minimal_100", "Conv2dSame"),
    ],
)
def test_what_does_not_slide_is_refused(backbone: str, named: str) -> None:
    net: Any = build(spec(backbone, 64))
    with pytest.raises(InputError, match=f"{named}.*: layers that do not slide; expected a MobileNetV1"):
        FullyConvolutional(net, 64)


def test_a_picture_smaller_than_a_window_is_refused() -> None:
    net: Any = build(spec("mobilenetv1_025_short_valid", 64))
    with pytest.raises(ValueError, match=r"image of \(63, 80\) pixels; expected 64 or more"):
        FullyConvolutional(net, 64)(torch.zeros(1, 3, 63, 80))


# --- from windows to boxes


def slider(size: int, stride: int, score: Any, shapes: Any = None, labels: tuple[str, ...] = ("a", "nil")) -> Slider:
    """A slider whose windows are judged by `score`: uint8 window -> logits."""

    def windows(canvas: Any) -> Any:
        rows, columns = ((side - size) // stride + 1 for side in canvas.shape[:2])
        cut = lambda y, x: canvas[y * stride : y * stride + size, x * stride : x * stride + size]  # noqa: E731
        found = [[score(cut(y, x)) for x in range(columns)] for y in range(rows)]
        return np.array(found, dtype=np.float32).transpose(2, 0, 1)

    whole = np.tile([0.0, 0.0, 1.0, 1.0], (len(labels), 1))
    made = spec("none", size, labels=labels)
    return Slider(made, windows, stride, labels[-1], whole if shapes is None else np.array(shapes))


@settings(max_examples=60)
@given(
    width=st.integers(1, 300), height=st.integers(1, 300), scale=st.floats(0.2, 5), stride=st.sampled_from([8, 16, 32])
)
def test_windows_cover_the_whole_picture(width: int, height: int, scale: float, stride: int) -> None:
    canvas, (left, top, w, h) = place(Image.new("RGB", (width, height), (255, 0, 0)), scale, 64, stride)
    assert abs(max(w, h) - scale * 64) <= 0.5
    assert abs(w * height - h * width) <= 0.5 * (width + height) or 1 in (w, h)
    for length, start, side in ((canvas.shape[1], left, w), (canvas.shape[0], top, h)):
        assert length >= 64
        assert (length - 64) % stride == 0
        assert 0 <= start <= start + side <= length
        assert length == 64 or 2 * stride <= length - side < 3 * stride
    picture = np.zeros(canvas.shape[:2], dtype=bool)
    picture[top : top + h, left : left + w] = True
    assert (canvas[picture] == (255, 0, 0)).all()
    assert (canvas[~picture] == FILL).all()


@settings(max_examples=25)
@given(x=st.integers(0, 150), y=st.integers(0, 90), side=st.integers(30, 48))
def test_the_best_box_is_where_the_object_is(x: int, y: int, side: int) -> None:
    image = Image.new("RGB", (200, 140), (20, 20, 20))
    ImageDraw.Draw(image).rectangle((x, y, x + side - 1, y + side - 1), fill=(250, 250, 250))
    likeness = np.full((32, 32, 3), 20.0)
    likeness[4:28, 4:28] = 250
    inner = [4 / 32, 4 / 32, 24 / 32, 24 / 32]
    template = lambda window: [8 - np.abs(window - likeness).mean() / 8, 0]  # noqa: E731
    sliding = slider(32, 4, template, [inner, inner])
    best = slide(sliding, image, [3.2, 3.7, 4.3, 5], 0.1)[0]
    where = Object("a", (x / 200, y / 140, min(side, 200 - x) / 200, min(side, 140 - y) / 140))
    assert iou([best], [where])[0, 0] > 0.65


def test_a_windows_box_is_its_shape_on_the_picture() -> None:
    image = Image.new("RGB", (80, 64))
    image.paste((255, 255, 255), (32, 16, 64, 48))  # exactly one window of 32 at scale 2.5
    sliding = slider(32, 16, lambda w: [5.0 if w.min() == 255 else -5.0, 0], [[0.25, 0.125, 0.5, 0.75], [0, 0, 1, 1]])
    (found,) = slide(sliding, image, [2.5], 0.5)
    assert found.label == "a"
    assert found.box == pytest.approx(((32 + 8) / 80, (16 + 4) / 64, 16 / 80, 24 / 64))
    assert found.score == pytest.approx(1 / (1 + np.exp(-5)), abs=1e-6)
    # the same at twice the scale: the square is as large as two windows, and none of them is all
    assert len(slide(sliding, image, [2.5, 5], 0.5)) > 1


def test_boxes_of_one_label_that_overlap_are_one_and_the_background_is_none() -> None:
    image = Image.new("RGB", (64, 64))
    two = slider(32, 8, lambda w: [3.0, 2.9, 0], labels=("a", "b", "nil"))
    found = slide(two, image, [2], 0.1)
    assert {o.label for o in found} == {"a", "b"}
    assert [o.score for o in found] == sorted((o.score or 0 for o in found), reverse=True)
    for label in ("a", "b"):
        boxes = [o for o in found if o.label == label]
        assert (np.triu(iou(boxes, boxes), 1) <= 0.3 + 1e-9).all()
        assert len(boxes) >= 4
    assert slide(two, image, [2], 0.6) == []
    assert slide(slider(32, 8, lambda w: [0.0, 9.0]), image, [1, 2], 0.05) == []
    few = replace(two, spec=replace(two.spec, predict={**two.spec.predict, "max_objects": 3}))
    assert slide(few, image, [2], 0.1) == found[:3]


def test_boxes_do_not_leave_the_picture() -> None:
    found = slide(slider(32, 8, lambda w: [3.0, 0]), Image.new("RGB", (90, 21)), [0.4, 1, 1.7], 0.1)
    assert found
    for o in found:
        x, y, w, h = o.box
        assert min(x, y) >= 0
        assert max(x + w, y + h) <= 1 + 1e-9
        assert min(w, h) > 0


def test_usual_shapes_are_the_medians_of_the_crops() -> None:
    boxes = [(0.1, 0.2, 0.8, 0.6), (0.1, 0.3, 0.8, 0.4), (0.1, 0.25, 0.8, 0.5)]
    crops = [Sample(str(i), "", 10, 10, label="cow", objects=[Object("cow", b)]) for i, b in enumerate(boxes)]
    shapes = usual_shapes([*crops, Sample("x", "", 10, 10, label="background")], ["cow", "background"])
    np.testing.assert_allclose(shapes, [[0.1, 0.25, 0.8, 0.5], [0, 0, 1, 1]])


# --- a classifier that has become a detector


def draw_dataset(data: Path) -> None:
    """Images of 128 x 96 with bright discs and squares, some on both, among dim noise; as `ingest` writes them."""
    draw = np.random.default_rng(0)
    counts = {"train": 40, "val": 6, "test": 16}
    for split, count in counts.items():
        (data / "shapes" / split).mkdir(parents=True)
        samples = []
        for i in range(count):
            image = Image.fromarray(draw.integers(0, 90, (96, 128, 3), dtype=np.uint8))
            objects = []
            for half in draw.permutation(2)[: draw.integers(1, 3)]:
                side = int(draw.integers(30, 54))
                x, y = int(draw.integers(64 - side)) + 64 * int(half) if side < 64 else 0, int(draw.integers(96 - side))
                label = LABELS[int(draw.integers(2))]
                pen = ImageDraw.Draw(image)
                shape = pen.ellipse if label == "disc" else pen.rectangle
                shape((x, y, x + side - 1, y + side - 1), fill=tuple(int(v) for v in draw.integers(150, 255, 3)))
                objects.append(Object(label, (x / 128, y / 96, side / 128, side / 96)))
            image.save(data / "shapes" / split / f"{split}-{i}.jpg", quality=95)
            samples.append(Sample(f"{split}-{i}", f"{split}-{i}.jpg", 128, 96, split, objects=objects))
        write_samples(data / "shapes" / split, samples)
    write_dataset(data / "shapes", Dataset("shapes", LABELS, counts=counts))


def fit(made: ModelSpec, folder: Path, epochs: int) -> Any:
    torch.manual_seed(0)
    net: Any = build(made)
    # shifted and scaled, as windows are that lie beside an object's middle
    pictures = ImageDataset(
        folder, read_samples(folder), made, augmenter("photo_geometry", Dataset("crops", made.labels))
    )
    loader: Any = train_loader(pictures, 32, 0, 0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (made.mean, made.std))
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * len(loader))
    net.train()
    for epoch in range(epochs):
        loader.batch_sampler.begin(epoch)
        for pixels, target, _ in loader:
            loss = net.loss(net((pixels.permute(0, 3, 1, 2) / 255 - mean) / std), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ingested data/ingested/{shapes,crops} and a trained models/r."""
    root = tmp_path_factory.mktemp("sliding")
    data = root / "data/ingested"
    draw_dataset(data)
    shapes = str(data / "shapes")
    block = {
        "format": "crops", "path": shapes, "labels": shapes, "max_side": 96, "refuse_over": 0.1,
        "options": {"margin": 0.1, "min_side": 20, "backgrounds": 8, "max_iou": 0.5, "seed": 0},
        "splits": {"val": 0.1, "test": 0.1, "seed": 0},
    }  # fmt: skip
    ingest("crops", DATASETS["crops"].model_validate(block), data / "crops", root / "reports")
    made = spec("mobilenetv1_025_short_valid", 96, "flatten", (*LABELS, "background"))
    net = fit(made, data / "crops/train", 10)
    (root / "models/r").mkdir(parents=True)
    save_file(net.state_dict(), root / "models/r/model.safetensors")
    write_spec(root / "models/r/model.json", made)
    return root


def test_crops_of_a_picture_stay_in_its_split(project: Path) -> None:
    for split in SPLITS:
        crops = read_samples(project / "data/ingested/crops" / split)
        assert {str(s.group).partition("-")[0] for s in crops} == {split}
        assert {s.label for s in crops} == {*LABELS, "background"}
        assert all(s.width == s.height <= 96 for s in crops)


def test_a_slid_classifier_is_a_detector(project: Path) -> None:
    data, models = project / "data/ingested", project / "models"
    figures = slide_run("r", models, data, "shapes", "test", SCALES, "background")
    assert figures["n_images"] == 16
    assert figures["AP50"] > 0.6
    assert min(own["AP50"] for own in figures["per_class"].values()) > 0.5

    net: Any
    net, made = load_model(models / "r")
    ours, stride = one_pass(net, made)
    fast = Slider(made, ours, stride, "background", usual_shapes(read_samples(data / "crops/train"), made.labels))
    slow = replace(fast, windows=one_by_one(net, made, stride))
    pictures = read_samples(data / "shapes/test")[:4]
    for a, b in zip(*(slide_samples(s, data / "shapes/test", pictures, [1, 2.5]) for s in (fast, slow)), strict=True):
        assert len(a.objects) == len(b.objects) > 0
        for one, other in zip(a.objects, b.objects, strict=True):
            assert (one.label, one.box) == (other.label, other.box)
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_the_command(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(project)
    scales = ["--scales", "1.6,2,2.5"]
    main(["slide", "r", "shapes", "--split", "val", *scales, "--json", "--draw", "drawn"])
    figures = json.loads(capsys.readouterr().out)
    assert (figures["task"], figures["n_images"], figures["scales"]) == ("detect", 6, [1.6, 2, 2.5])
    assert figures["AP50"] > 0.5
    assert sorted(p.name for p in (project / "drawn").glob("[!.]*")) == [f"val-{i}.png" for i in range(6)]
    assert list((project / "drawn").glob(".*.unfinished")) == []
    labels = (project / "data/ingested/shapes/val/metadata.jsonl").read_bytes()
    made, read = "lies in data/ingested/, which the chain makes", r"holds .*val-\d\.jpg, which is read"
    for folder, why in {"data/ingested/shapes/val": made, "data/ingested/shapes": made, ".": read}.items():
        with pytest.raises(SystemExit):
            main(["slide", "r", "shapes", "--split", "val", *scales, "--draw", folder])
        assert re.search(f"--draw .*: {why}", capsys.readouterr().err)
    assert (project / "data/ingested/shapes/val/metadata.jsonl").read_bytes() == labels
    main(["slide", "r", "shapes", "--split", "val", "--scales", "2", "--draw", "drawn"])
    capsys.readouterr()
    assert len(list((project / "drawn").glob("[!.]*"))) == 6
    main(["slide", "r", "shapes", "--split", "val", *scales])
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"6 images: AP {figures['AP']:.4f}, AP50 {figures['AP50']:.4f}"
    assert [line.split(":")[0].split()[1] for line in rest] == LABELS


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"run": "q"}, "models/q: no such model; trained runs: r"),
        ({}, {"dataset": "q"}, "data/ingested/q/test/metadata.jsonl: no such file"),
        ({}, {"background": "nil"}, r"run 'r' has no label 'nil' for nothing; its labels are \['disc', 'square', 'bac"),
        (
            {"labels": ["disc", "cow", "background"]},
            {},
            r"knows \['cow', 'disc'\] .* 'shapes' has \['disc', 'square'\]",
        ),
        ({"task": "detect"}, {}, "run 'r' is trained to detect; expected a classifier"),
        ({}, {"scales": [1, 0]}, "--scales: found 0; expected above 0, up to 16"),
        ({}, {"scales": [float("nan")]}, "--scales: found nan"),
        ({}, {"scales": []}, "--scales: none"),
    ],
)
def test_what_is_wrong_is_named(
    project: Path, tmp_path: Path, change: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    write_spec(tmp_path / "models/r/model.json", replace(spec("x", 64, labels=(*LABELS, "background")), **change))
    given: dict[str, Any] = {"run": "r", "dataset": "shapes", "scales": [1], "background": "background", **arguments}
    with pytest.raises(InputError, match=message):
        slide_run(models=tmp_path / "models", data=project / "data/ingested", split="test", **given)
