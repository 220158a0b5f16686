"""The nets of published tables, on torch's meta device: shapes without numbers, so that they are counted in no time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import googlenet, mobilenet_v2, vgg16
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG, SSDHead
from torchvision.models.detection.ssdlite import SSDLiteHead

from pipeline.models.backbones import classifier, read_pretrained

KINDS = 80 + 1  # COCO's labels, and the background
DEEPER = (512, 256, 256, 128)  # channels of SSDLite's maps beyond the backbone's
LITE_BOXES = [3, 6, 6, 6, 6, 6]  # default boxes of a cell: TensorFlow's SSDLite has half of them on the finest map


@dataclass(frozen=True, slots=True)
class Counted:
    """`macs` of one image, and the parameters as tables count them: `weights` alone; `folded` with one bias for each
    batch norm; `trained` with the norms' scale and shift; `kept` with their statistics too.
    """

    macs: int
    weights: int
    folded: int
    trained: int
    kept: int


def net_of(name: str) -> nn.Module:
    """The net `name` on the meta device: one of `BUILT`, else a classifier of 1000 labels on that backbone."""
    random = None if name in BUILT else read_pretrained(name, False)
    with torch.device("meta"):
        return (BUILT[name]() if random is None else classifier(name, random, num_classes=1000)).eval()


def counted(net: nn.Module, size: int) -> Counted:
    """What a net on the meta device costs for one image of `size` x `size` pixels."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 3, size, size, device="meta"))
    trained = sum(p.numel() for p in net.parameters())
    norms = sum(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    weights = sum(layer.weight.numel() for layer in layers)
    return Counted(counter.get_total_flops() // 2, weights, trained - norms, trained, trained + 2 * norms)


def largest_maps(net: nn.Module, size: int) -> dict[int, int]:
    """The most channels between two blocks of a net by the side of the map, which is 1 after pooling.

    `net` is on the meta device, and has stages of blocks in `blocks`; a MobileNet's first convolution is no block.
    """
    found: dict[int, int] = {}

    def seen(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        side = output.shape[-1] if output.dim() == 4 else 1
        found[side] = max(found.get(side, 0), output.shape[1])

    blocks = [block for stage in net.get_submodule("blocks").children() for block in stage.children()]
    handles = [m.register_forward_hook(seen) for m in (*blocks, net.get_submodule("global_pool"))]
    with torch.no_grad():
        net(torch.empty(1, 3, size, size, device="meta"))
    for handle in handles:
        handle.remove()
    return found


class _Detector(nn.Module):
    """Steps one after the other, and a head on the map that each gives."""

    def __init__(self, steps: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.steps, self.head = nn.ModuleList(steps), head

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = []
        for step in self.steps:
            images = step(images)
            maps.append(images)
        found: dict[str, Tensor] = self.head(maps)
        return found


class _Ssd(nn.Module):
    """torchvision's SSD without its resize and its suppression, which have no layers."""

    def __init__(self, highres: bool) -> None:
        super().__init__()
        self.maps = SSDFeatureExtractorVGG(vgg16().features, highres)
        last = [256] if highres else []
        boxes = [4, 6, 6, 6, *[6 for _ in last], 4, 4]
        self.head = SSDHead([512, 1024, 512, 256, 256, 256, *last], boxes, KINDS)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.head(list(self.maps(images).values()))
        return found


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


def _ssdlite(steps: list[nn.Module], widths: list[int]) -> nn.Module:
    for channels in DEEPER:
        before, half = ([*widths, *DEEPER][len(steps) - 1]), channels // 2
        steps.append(nn.Sequential(_conv(before, half, 1), _conv(half, half, 3, 2, half), _conv(half, channels, 1)))
    return _Detector(steps, SSDLiteHead([*widths, *DEEPER], LITE_BOXES, KINDS, nn.BatchNorm2d))


def _ssdlite_v1() -> nn.Module:
    body = classifier("mobilenetv1_100", read_pretrained("mobilenetv1_100", False))
    conv, norm, blocks = (body.get_submodule(name) for name in ("conv_stem", "bn1", "blocks"))
    *fine, coarse = blocks.children()
    return _ssdlite([nn.Sequential(conv, norm, *fine), coarse], [512, 1024])


def _ssdlite_v2() -> nn.Module:
    """Its finer map is that of the first block of stride 32 where it is widest, before the stride."""
    body = mobilenet_v2().features
    widened, *narrowed = body[14].conv
    return _ssdlite([nn.Sequential(*body[:14], widened), nn.Sequential(*narrowed, *body[15:])], [576, 1280])


class _Yolov2(nn.Module):
    """Darknet-19 with YOLOv2's last layers (Redmon and Farhadi, YOLO9000, 2016): 5 anchors for `labels`.

    The map of stride 16 comes along with four pixels in a row: of all its 512 channels, as the paper says, or of the 64
    that a convolution makes of them in the files that were published.
    """

    def __init__(self, labels: int, squeezed: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3)]
        for wide, repeats in ((64, 0), (128, 1), (256, 1), (512, 2)):
            layers += [nn.MaxPool2d(2), _conv(wide // 2, wide, 3)]
            layers += [m for _ in range(repeats) for m in (_conv(wide, wide // 2, 1), _conv(wide // 2, wide, 3))]
        self.fine = nn.Sequential(*layers)
        coarse = [_conv(512, 1024, 3), *(m for _ in range(2) for m in (_conv(1024, 512, 1), _conv(512, 1024, 3)))]
        self.coarse = nn.Sequential(nn.MaxPool2d(2), *coarse, _conv(1024, 1024, 3), _conv(1024, 1024, 3))
        self.along = nn.Sequential(_conv(512, 64, 1) if squeezed else nn.Identity(), nn.PixelUnshuffle(2))
        self.joined = _conv(1024 + 4 * (64 if squeezed else 512), 1024, 3)
        self.last = nn.Conv2d(1024, 5 * (5 + labels), 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.fine(images)
        found: Tensor = self.last(self.joined(torch.cat([self.along(fine), self.coarse(fine)], dim=1)))
        return found


class _Shuffled(nn.Module):
    """A unit of ShuffleNet. One with a stride keeps its input beside what it makes, pooled."""

    def __init__(self, inputs: int, outputs: int, groups: int, first: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 2, 1) if inputs != outputs else None
        narrow, made = outputs // 4, outputs - (inputs if self.pool else 0)
        deep = nn.Conv2d(narrow, narrow, 3, 2 if self.pool else 1, 1, groups=narrow, bias=False)
        self.steps = nn.Sequential(
            *(nn.Conv2d(inputs, narrow, 1, groups=first, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()),
            *(nn.ChannelShuffle(groups), deep, nn.BatchNorm2d(narrow)),
            *(nn.Conv2d(narrow, made, 1, groups=groups, bias=False), nn.BatchNorm2d(made)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        found = self.steps(maps)
        return torch.relu(maps + found if self.pool is None else torch.cat([self.pool(maps), found], dim=1))


class _ShuffleNet(nn.Module):
    """ShuffleNet of twice the width with three groups (Zhang et al. 2017, table 1)."""

    def __init__(self) -> None:
        super().__init__()
        before, groups = 48, 3
        stem = nn.Sequential(nn.Conv2d(3, before, 3, 2, 1, bias=False), nn.BatchNorm2d(before), nn.ReLU())
        stages = [nn.Sequential(stem, nn.MaxPool2d(3, 2, 1))]
        for outputs, units in ((480, 4), (960, 8), (1920, 4)):
            # the first convolution has too few channels for groups
            first = _Shuffled(before, outputs, groups, groups if len(stages) > 1 else 1)
            stages.append(
                nn.Sequential(first, *(_Shuffled(outputs, outputs, groups, groups) for _ in range(units - 1)))
            )
            before = outputs
        self.blocks = nn.Sequential(*stages)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(before, 1000)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.classifier(self.global_pool(self.blocks(images)))
        return found


BUILT: dict[str, Callable[[], nn.Module]] = {
    "ssd300": lambda: _Ssd(highres=False),
    "ssd512": lambda: _Ssd(highres=True),
    "yolov2": lambda: _Yolov2(80, squeezed=False),
    "yolov2_squeezed": lambda: _Yolov2(20, squeezed=True),
    "mobilenetv1_ssdlite": _ssdlite_v1,
    "mobilenetv2_ssdlite": _ssdlite_v2,
    "shufflenet_2x_g3": _ShuffleNet,
    "googlenet": lambda: googlenet(weights=None, aux_logits=False, init_weights=False),
}
