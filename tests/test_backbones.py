"""The backbones that people start from: each builds, learns a step and ships, at the smallest size that it takes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.spec import ModelSpec
from pipeline.models.nets import Classifier, Deployed, build
from pipeline.runtimes.targets import TARGETS, open_runtime

BACKBONES = {
    "resnet50": 32,
    "resnext50_32x4d": 32,
    "vgg16": 32,
    "densenet121": 32,
    "inception_v3": 96,
    "inception_resnet_v2": 96,
    "legacy_xception": 96,
    "xception41": 32,
    "nasnetalarge": 96,
    "mobilenetv1_100": 32,
    "mobilenetv2_100": 32,
    "mobilenetv3_small_100": 32,
    "mobilenetv4_conv_small": 32,
    "efficientnet_b0": 32,
}
# large ones, and nets much like one of those that remain
MORE = (
    *("resnext50_32x4d", "densenet121", "inception_v3", "inception_resnet_v2", "legacy_xception", "xception41"),
    *("nasnetalarge", "efficientnet_b0", "mobilenetv4_conv_small", "mobilenetv1_100", "mobilenetv2_100", "resnet50"),
)
IN_INT8 = ("mobilenetv3_small_100", "mobilenetv4_conv_small")  # one that gates its channels, the youngest one


def classifier(backbone: str, size: int) -> tuple[Classifier, ModelSpec]:
    """VGG16 has the flatten head: its own has 120 million parameters."""
    torch.manual_seed(0)
    spec = ModelSpec(
        run="r", dataset="d", task="classify", labels=["cat", "dog", "fox"], landmarks=[], pairs=[], skeleton=[],
        backbone=backbone, head={"kind": "flatten" if backbone == "vgg16" else "pool", "dropout": 0.2}, size=size,
        resize="stretch", mean=[0.5] * 3, std=[0.5] * 3, predict={}, outputs=["logits"],
    )  # fmt: skip
    net = build(spec)
    assert isinstance(net, Classifier)
    return net, spec


def learn_a_step(net: Classifier, pictures: np.ndarray) -> None:
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    loss = net.train().loss(net(images), {"label": torch.tensor([0, 1, 2, 0])})
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    without = [name for name, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without, f"no use is made of {without}"
    changed = [name for name, p in net.named_parameters() if not torch.equal(p, before[name])]
    for module in net.modules():  # batch norms that have seen images, as after an epoch
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        net(images)
    assert {next(iter(before)), next(reversed(before))} <= set(changed)


@pytest.mark.parametrize(
    ("backbone", "size"),
    [pytest.param(*b, marks=[pytest.mark.exhaustive] if b[0] in MORE else []) for b in BACKBONES.items()],
)
def test_it_builds_learns_a_step_and_ships(backbone: str, size: int, tmp_path: Path) -> None:
    net, spec = classifier(backbone, size)
    pictures = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    learn_a_step(net, pictures)
    deployed = Deployed(net, spec)
    with torch.inference_mode():
        exact = deployed(torch.from_numpy(pictures))[0].numpy()
    assert exact.std() > 1e-3, "it says the same of everything"
    for target in ("onnx_float", *(["onnx_int8"] if backbone in IN_INT8 else [])):
        file, export = TARGETS[target].file, TARGETS[target].export
        export(deployed, [p[None] for p in pictures[:2]], tmp_path / file, spec.outputs)
        found = open_runtime(target, tmp_path / file).run(pictures)[0]
        if target == "onnx_float":
            # a deep net with random weights tells images apart by large numbers
            np.testing.assert_allclose(found, exact, rtol=0, atol=1e-3 * max(1, float(np.abs(exact).max())))
        else:
            assert (tmp_path / file).stat().st_size < 0.4 * (tmp_path / TARGETS["onnx_float"].file).stat().st_size
