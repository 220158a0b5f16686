"""Features of a frozen backbone: what the net itself would say, computed once, kept for every head."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.sample import Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.models.nets import Net, build
from pipeline.training import features, maps
from pipeline.training.devices import launch
from pipeline.training.features import Features
from pipeline.training.loading import ImageDataset

HEADS: dict[str, dict[str, Any]] = {
    "pool": {"kind": "pool", "dropout": 0.2},
    "flatten": {"kind": "flatten", "dropout": 0.2},
    "localize": {"channels": 16, "dropout": 0.1},
    "detect": {"kind": "anchor_free", "strides": [8, 16, 32], "neck": 16, "channels": 16},
}


def spec(head: str, backbone: str = "mobilenetv3_small_050", size: int = 64) -> ModelSpec:
    return ModelSpec(
        run="r", dataset="d", task="classify" if head in ("pool", "flatten") else head, labels=["cat", "dog"],
        landmarks=[], pairs=[], skeleton=[], backbone=backbone, head=HEADS[head], size=size, resize="letterbox",
        mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4],
        predict={"score": 0.3, "nms": "hard", "nms_iou": 0.6, "max_objects": 10},
    )  # fmt: skip


def pictures(folder: Path, made: ModelSpec, count: int = 5) -> ImageDataset:
    samples = []
    folder.mkdir(exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (50, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        objects = [Object("dog", (0.25, 0.25, 0.5, 0.5))]
        samples.append(Sample(f"s{i}", f"{i}.png", 70, 50, label=["cat", "dog"][i % 2], objects=objects))
    return ImageDataset(folder, samples, made)


def net_of(made: ModelSpec, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    net = build(made).eval()
    for module in net.modules():  # statistics as of a net that has seen images
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize("head", HEADS)
def test_head_and_features_together_are_the_net(head: str, tmp_path: Path) -> None:
    made = spec(head)
    net, seen = net_of(made), pictures(tmp_path / "p", made)
    found = Features(seen, net, tmp_path / "f", launch("fp32"))
    mean, std = torch.tensor(made.mean).view(3, 1, 1), torch.tensor(made.std).view(3, 1, 1)
    for i in range(len(seen)):
        maps, (_, sample, _, objects) = found[i]
        image = torch.from_numpy(seen[i][0].copy()).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            whole = net((image - mean) / std)
            parts = net.top([torch.from_numpy(m.copy()).float()[None] for m in maps])
        for a, b in zip(whole, parts, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)  # half precision on disk
        assert sample.id == f"s{i}"
        assert objects == seen[i][3]


def forbidden(*_: Any) -> None:
    raise AssertionError("computed again")


def test_a_second_run_and_another_head_compute_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = spec("pool")
    one = Features(pictures(tmp_path / "p", first), net_of(first), tmp_path / "f", launch("fp32"))
    kept = [one[i][0][0].copy() for i in range(5)]
    for head in ("pool", "flatten"):
        made = spec(head)
        net = net_of(made)
        net.load_state_dict({**net.state_dict(), **body_of(net_of(first))}, strict=False)
        compute = maps.maps_of
        calls: list[int] = []
        counted = lambda *given: calls.append(len(given[2])) or compute(*given)  # noqa: B023, E731
        for module in (maps, features):
            monkeypatch.setattr(module, "maps_of", counted)
        again = Features(pictures(tmp_path / "p", made), net, tmp_path / "f", launch("fp32"))
        assert calls == [1], "one blank image, for the maps' shapes"
        monkeypatch.undo()
        for i in range(5):
            np.testing.assert_array_equal(again[i][0][0], kept[i])
    assert len(list((tmp_path / "f").iterdir())) == 1


def body_of(net: Net) -> dict[str, torch.Tensor]:
    return {k: v for k, v in net.state_dict().items() if k.startswith("body.") and "classifier" not in k}


def test_other_weights_pictures_or_precision_are_other_features(tmp_path: Path) -> None:
    made = spec("pool")
    seen = pictures(tmp_path / "p", made)
    a = Features(seen, net_of(made), tmp_path / "f", launch("fp32"))[0][0][0]
    b = Features(seen, net_of(made, seed=1), tmp_path / "f", launch("fp32"))[0][0][0]
    Features(seen, net_of(made), tmp_path / "f", launch("bf16"))
    assert not np.array_equal(a, b)
    assert len(list((tmp_path / "f").glob("*.sqlite"))) == 3
    Image.new("RGB", (70, 50), (200, 10, 10)).save(tmp_path / "p/0.png")
    c = Features(ImageDataset(tmp_path / "p", seen.samples, made), net_of(made), tmp_path / "f", launch("fp32"))
    assert not np.array_equal(a, c[0][0][0])


def test_new_pictures_join_those_that_are_kept(tmp_path: Path) -> None:
    """What comes of an image is the same to the bit, however many others are computed with it."""
    made = spec("pool")
    net = net_of(made)
    Features(pictures(tmp_path / "p", made, 3), net, tmp_path / "f", launch("fp32"))
    grown = Features(pictures(tmp_path / "p", made, 7), net, tmp_path / "f", launch("fp32"))
    fresh = Features(pictures(tmp_path / "p", made, 7), net, tmp_path / "g", launch("fp32"))
    for i in range(7):
        np.testing.assert_array_equal(grown[i][0][0], fresh[i][0][0])
    with sqlite3.connect(next((tmp_path / "f").glob("*.sqlite"))) as database:
        assert database.execute("SELECT count(*) FROM features").fetchone() == (7,)


@pytest.mark.parametrize("change", ["eps", "padding", "dilation", "act"])
def test_a_setting_without_a_tensor_is_another_net(tmp_path: Path, change: str) -> None:
    """Its maps have the same shapes and the same weights made them."""
    made = spec("pool", "mobilenetv2_035")
    seen = pictures(tmp_path / "p", made, 1)
    a = Features(seen, net_of(made), tmp_path / "f", launch("fp32"))[0][0][0]
    net = net_of(made)
    body: Any = net.body
    if change == "eps":
        body.bn1.eps = 0.1
    elif change == "padding":
        body.conv_stem.padding_mode = "reflect"
        body.conv_stem._reversed_padding_repeated_twice = [1, 1, 1, 1]
    elif change == "dilation":
        body.blocks[0][0].conv_dw.dilation = body.blocks[0][0].conv_dw.padding = (2, 2)
    else:
        body.bn1.act = torch.nn.Hardswish()
    b = Features(seen, net, tmp_path / "f", launch("fp32"))[0][0][0]
    assert a.shape == b.shape
    assert not np.array_equal(a, b)
    assert len(list((tmp_path / "f").glob("*.sqlite"))) == 2


@pytest.mark.parametrize("how", ["no database", "cut", "other maps", "another bit"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, how: str) -> None:
    made = spec("pool")
    net, seen = net_of(made), pictures(tmp_path / "p", made)
    Features(seen, net, tmp_path / "f", launch("fp32"))
    (file,) = (tmp_path / "f").iterdir()
    if how == "another bit":
        with sqlite3.connect(file) as database:
            database.create_function("rot", 1, lambda maps: bytes([maps[0] ^ 1]) + maps[1:])
            database.execute("UPDATE features SET maps = rot(maps)")
    elif how == "other maps":
        with sqlite3.connect(file) as database:
            database.execute("UPDATE features SET maps = ?", (b"short",))
    else:
        file.write_bytes(b"no database" * 1000 if how == "no database" else file.read_bytes()[:5000])
    with pytest.raises(InputError, match=rf"{file.name}: .*; delete it: it is computed anew$"):
        Features(seen, net, tmp_path / "f", launch("fp32"))[0]
    file.unlink()
    assert Features(seen, net, tmp_path / "f", launch("fp32"))[0]


def test_damaged_maps_of_other_machines_are_computed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spec("pool")
    net, seen = net_of(made), pictures(tmp_path / "images", made)
    whole = Features(seen, net, tmp_path / "f", launch("fp32"))
    [file] = (tmp_path / "f").glob("*.sqlite")
    parts = tmp_path / "g" / f"{file.stem}.parts"
    parts.mkdir(parents=True)
    np.savez(parts / "flipped.npz", names=np.zeros((1, 32), np.uint8), maps=np.zeros((1, 99), np.float16))
    content = (parts / "flipped.npz").read_bytes()
    middle = len(content) // 2
    (parts / "flipped.npz").write_bytes(content[:middle] + b"\xff" + content[middle + 1 :])
    for name, rest in (("empty", b""), ("half", content[:middle]), ("other", b"no zip")):
        (parts / f"{name}.npz").write_bytes(rest)
    monkeypatch.setattr(features, "on_cluster", lambda: True)
    again = Features(seen, net, tmp_path / "g", launch("fp32"))
    for i in range(len(seen)):
        for a, b in zip(whole[i][0], again[i][0], strict=True):
            np.testing.assert_array_equal(a, b)
    assert not parts.exists()
