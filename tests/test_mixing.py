"""Batches of a classifier that are mixed, images and labels alike: by the shares of the params, until the quiet end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import nn

from pipeline.core.sample import Dataset, Sample, write_dataset, write_samples
from pipeline.models.classifier import Classifier
from pipeline.training import loop
from pipeline.training.mixing import mixed
from pipeline.training.params import ClassifyRun
from pipeline.training.train import train_run

SHADES = torch.tensor([0, 100, 200])  # of the labels


def run(**online: Any) -> ClassifyRun:
    return ClassifyRun.model_validate({"dataset": "d", "task": "classify", "train": {"online": online}})


def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Images of one flat shade each, which says their label."""
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    shades = SHADES[labels].to(torch.uint8)[:, None, None, None]
    return shades.expand(6, 32, 32, 3).contiguous(), {"label": labels}


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_shared_out_as_the_pixels_are(kind: str) -> None:
    images, target = batch()
    kept = images.clone()
    before = torch.get_rng_state()
    seen, learned = mixed(images, target, run(**{kind: 1.0}), 3, seed=5)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(images, kept)
    shares = learned["label"]
    assert seen.shape == images.shape and shares.shape == (6, 3)
    assert torch.allclose(shares.sum(dim=1), torch.ones(6)) and ((shares > 0).sum(dim=1) == 2).any()
    # a flat shade each: what is seen on average is what the labels' shares say
    assert torch.allclose(seen.float().mean(dim=(1, 2, 3)), shares @ SHADES.float(), atol=0.01)
    assert (seen.unique().numel() > 3) == (kind == "mixup")
    again, _ = mixed(images, target, run(**{kind: 1.0}), 3, seed=5)
    other, _ = mixed(images, target, run(**{kind: 1.0}), 3, seed=6)
    assert torch.equal(seen, again) and not torch.equal(seen, other)


def test_the_shares_of_the_batches_are_those_of_the_params() -> None:
    images, target = batch()
    kinds = []
    for seed in range(120):
        seen, learned = mixed(images, target, run(mixup=0.3, cutmix=0.2), 3, seed)
        whole = not learned["label"].is_floating_point()
        assert not whole or seen is images
        kinds.append("none" if whole else "mixup" if seen.unique().numel() > 3 else "cutmix")
    # a blend by nearly 1, or a piece of no size, cannot be told from its neighbour
    assert 45 < kinds.count("none") < 75 and 24 < kinds.count("mixup") < 48 and 14 < kinds.count("cutmix") < 36


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 2.0, 1.0])])
def test_a_share_of_one_is_a_label(weight: torch.Tensor | None) -> None:
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), batch()[1]["label"]
    more = {} if weight is None else {"weight": weight}
    shares = nn.functional.one_hot(labels, 3).float()
    one, other = (Classifier.loss(nn.Module(), (logits,), {"label": v} | more) for v in (labels, shares))  # type: ignore[arg-type]
    assert torch.allclose(one, other)
    half = 0.5 * shares + 0.5 * shares.roll(1, 0)
    blended = Classifier.loss(nn.Module(), (logits,), {"label": half} | more)  # type: ignore[arg-type]
    assert torch.isfinite(blended) and not torch.allclose(blended, one)


def test_shares_of_more_than_all_batches_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"mixup 0\.7 and cutmix 0\.5: expected shares, 1 together at most"):
        run(mixup=0.7, cutmix=0.5)


def test_nothing_is_mixed_in_the_quiet_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, count in (("train", 8), ("val", 2)):
        (tmp_path / split).mkdir()
        rows = [Sample(f"{i}", f"{i}.png", 32, 32, label=["red", "blue"][i % 2]) for i in range(count)]
        for i, row in enumerate(rows):
            pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / row.file_name)
        write_samples(tmp_path / split, rows)
        write_dataset(tmp_path / split, Dataset("d", ["red", "blue"]))
    shared: dict[str, list[bool]] = {}
    loss = loop.finite_loss

    def watched(net: Any, outputs: Any, target: Any, items: Any, when: str) -> Any:
        shared.setdefault(when, []).append(target["label"].is_floating_point())
        return loss(net, outputs, target, items, when)

    monkeypatch.setattr(loop, "finite_loss", watched)
    knobs = {"epochs": 3, "batch_size": 4, "precision": "fp32", "patience": 3}
    knobs["online"] = {"policy": "none", "cutmix": 1.0, "quiet_epochs": 1}
    model = {"backbone": "mobilenetv2_035", "size": 32}
    block = {"dataset": "d", "task": "classify", "model": model, "train": knobs}
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    train_run("r", ClassifyRun.model_validate(block), *places, workers=0)
    assert shared == {"epoch 0": [True] * 2, "epoch 1": [True] * 2, "epoch 2": [False] * 2}
