"""Tables of papers and lectures on MobileNets, our count beside their figures: `pocketlens cost --table seeds`."""

from dataclasses import asdict, dataclass
from typing import Any

HALF = 2  # bytes of an activation in the table of activations


@dataclass(frozen=True, slots=True)
class Printed:
    """A row as it was printed: `macs` and `params` in millions; `net` is a name of `paper_nets.net_of`, "" where it is
    not built here; `counts` is how the table counts parameters, a field of `paper_nets.Counted`; `score` in its own
    words, which are no count; `why` our figure is another one.
    """

    name: str
    net: str
    size: int
    macs: float | None
    params: float | None
    counts: str = "folded"
    score: str = ""
    why: str = ""


DETECTORS = [
    Printed("SSD300", "ssd300", 300, 35_200, 36.1, score="23.2 mAP",
            why="the table prints SSD512's parameters; for both nets it has 0.8 B multiply-adds that no layer has"),
    Printed("SSD512", "ssd512", 512, 99_500, 36.1, score="26.8 mAP", why="see SSD300"),
    Printed("YOLOv2", "yolov2", 416, 17_500, 50.7, score="21.6 mAP",
            why="multiply-adds of the paper's net, but parameters of the file for 20 labels, the next row"),
    Printed("YOLOv2, its file for 20 labels", "yolov2_squeezed", 416, None, 50.7,
            why="64 instead of 512 channels come from the finer map"),
    Printed("MNet V1 + SSDLite", "mobilenetv1_ssdlite", 320, 1_300, 5.1, score="22.2 mAP"),
    Printed("MNet V2 + SSDLite", "mobilenetv2_ssdlite", 320, 800, 4.3, score="22.1 mAP"),
]  # fmt: skip
CLASSIFIERS = [
    Printed("1.0 MobileNet-224", "mobilenetv1_100", 224, 569, 4.2, score="70.6 %"),
    Printed("0.75 MobileNet-224", "mobilenetv1_075", 224, 325, 2.6, score="68.4 %"),
    Printed("0.5 MobileNet-224", "mobilenetv1_050", 224, 149, 1.3, score="63.7 %"),
    Printed("0.25 MobileNet-224", "mobilenetv1_025", 224, 41, 0.5, score="50.6 %"),
    Printed("1.0 MobileNet-192", "mobilenetv1_100", 192, 418, 4.2, score="69.1 %"),
    Printed("1.0 MobileNet-160", "mobilenetv1_100", 160, 290, 4.2, score="67.2 %"),
    Printed("1.0 MobileNet-128", "mobilenetv1_100", 128, 186, 4.2, score="64.4 %"),
    Printed("Conv MobileNet", "mobilenetv1_100_conv", 224, 4_866, 29.3, score="71.7 %"),
    Printed("GoogLeNet", "googlenet", 224, 1_550, 6.8, score="69.8 %",
            why="torchvision's has 3x3 filters for 5x5: 0.38 M parameters and 84 M multiply-adds less"),
    Printed("VGG 16", "vgg16", 224, 15_300, 138, score="71.5 %",
            why="the table leaves the three linear layers out of the multiply-adds"),
    Printed("MobileNet V1", "mobilenetv1_100", 224, 569, 4.24, "trained", "70.9 %"),
    Printed("MobileNet V2", "mobilenetv2_100", 224, 300, 3.47, "weights", "71.8 %"),
]  # fmt: skip
TOP1 = [
    Printed("Xception", "legacy_xception", 299, None, 22.91, "kept", "0.790, 0.945"),
    Printed("VGG16", "vgg16", 224, None, 138.35, "trained", "0.715, 0.901"),
    Printed("MobileNetV1 (alpha=1, rho=1)", "mobilenetv1_100", 224, None, 4.20, "weights", "0.709, 0.899"),
    Printed("MobileNetV1 (alpha=0.75, rho=0.85)", "mobilenetv1_075", 192, None, 2.59, "trained", "0.672, 0.873"),
    Printed("MobileNetV1 (alpha=0.25, rho=0.57)", "mobilenetv1_025", 128, None, 0.47, "trained", "0.415, 0.663"),
    Printed("MobileNetV2 (alpha=1.4, rho=1)", "mobilenetv2_140", 224, None, 6.06, "weights", "0.750, 0.925"),
    Printed("MobileNetV2 (alpha=1, rho=1)", "mobilenetv2_100", 224, None, 3.47, "weights", "0.718, 0.910"),
    Printed("MobileNetV2 (alpha=0.35, rho=0.43)", "mobilenetv2_035", 96, None, 1.66, "weights", "0.455, 0.704"),
]  # fmt: skip
TABLES = {
    "Detectors of 80 labels (Sandler et al. 2018, table 5)": DETECTORS,
    "Classifiers (Howard et al. 2017, tables 4, 6, 7 and 8; the authors' pages for the last two)": CLASSIFIERS,
    "Top-1 and top-5 (Keras' and the authors' pages)": TOP1,
}

# Sandler et al. 2018, table 3: channels and kilobytes of what is kept between blocks, by the side of the map
ACTIVATIONS: dict[str, dict[int, tuple[int, float]]] = {
    "mobilenetv1_100": {112: (64, 1600), 56: (128, 800), 28: (256, 400), 14: (512, 200), 7: (1024, 199), 1: (1024, 2)},
    "mobilenetv2_100": {112: (16, 400), 56: (32, 200), 28: (64, 100), 14: (160, 62), 7: (320, 32), 1: (1280, 2)},
    "shufflenet_2x_g3": {112: (32, 800), 56: (48, 300), 28: (400, 600), 14: (800, 310), 7: (1600, 156),
                             1: (1600, 3)},
}  # fmt: skip
COUNTED = (  # how a table counts parameters, its own way: `paper_nets.Counted`
    "weights: without biases and batch norms",
    "folded: with one bias for each batch norm",
    "trained: with the norms' scale and shift",
    "kept: with their statistics too",
)
ABOUT = {
    "mobilenetv1_100": "199 at 7x7 is a misprint: 1024 channels of 49 cells are 100 kB",
    "mobilenetv2_100": "from 56x56 to 14x14 the table takes a stage's output at the side of its input",
    "shufflenet_2x_g3": "32 should be 48, and 400, 800, 1600 are two groups' channels: three have 480, 960, 1920",
}


def tables() -> dict[str, list[dict[str, Any]]]:
    """Each table's rows with our count: `our_macs` and `our_params` in millions, or `our_channels` and `our_kb`. It
    takes some seconds.
    """
    from pipeline.experiments.paper_nets import counted, largest_maps, net_of

    made: dict[str, list[dict[str, Any]]] = {}
    for title, rows in TABLES.items():
        made[title] = []
        for row in rows:
            found = counted(net_of(row.net), row.size)
            ours = {"our_macs": found.macs / 1e6, "our_params": getattr(found, row.counts) / 1e6}
            made[title].append(asdict(row) | ours)
    kept: list[dict[str, Any]] = []
    for net, printed in ACTIVATIONS.items():
        maps = largest_maps(net_of(net), 224)
        for side, (channels, kilobytes) in printed.items():
            ours = {"our_channels": maps[side], "our_kb": maps[side] * side * side * HALF / 1e3}
            kept.append({"name": net, "side": side, "channels": channels, "kb": kilobytes, **ours, "why": ABOUT[net]})
    return made | {"Activations between blocks at 224 pixels, 16 bits each (Sandler et al. 2018, table 3)": kept}


def tables_text(found: dict[str, list[dict[str, Any]]]) -> str:
    """What `tables` gives, for a terminal: their figure, ours, and why they differ."""
    lines: list[str] = []
    for title, rows in found.items():
        if lines:
            lines.append("")
        lines += [title, *(_activation_lines(rows) if "side" in rows[0] else _cost_lines(rows))]
    return "\n".join([*lines, "", *(f"counted {words}" for words in COUNTED)])


def _cost_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"  {'':36} {'at':>4} {'M mult-adds':>11} {'ours':>9} {'M params':>8} {'ours':>8}  {'counted':8} score"]
    for row in rows:
        macs = f"{_shown(row['macs']):>11} {row['our_macs']:>9.1f}"
        params = f"{_shown(row['params']):>8} {row['our_params']:>8.2f}"
        said = f"  {row['name']:36} {row['size']:>4} {macs} {params}  {row['counts']:8} {row['score']}"
        lines += [said.rstrip(), *([f"      {row['why']}"] if row["why"] else [])]
    return lines


def _activation_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"  {'':24} {'map':>8} {'channels':>8} {'ours':>6} {'kB':>6} {'ours':>7}"]
    said = ""
    for row in rows:
        channels = f"{row['channels']:>8} {row['our_channels']:>6}"
        kilobytes = f"{row['kb']:>6g} {round(row['our_kb'], 1):>7g}"
        if row["name"] != said and row["why"]:
            lines.append(f"  {row['name']}: {row['why']}")
        said = row["name"]
        side = f"{row['side']}x{row['side']}"
        lines.append(f"  {said:24} {side:>8} {channels} {kilobytes}")
    return lines


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
