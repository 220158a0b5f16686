"""Small charts for the reports: the same bytes for the same numbers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Bbox

from pipeline.core.files import new_file

DPI = 100
AREA = 12  # of a dot in square typographic points, per megabyte
AROUND = (
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (0.7, 0.7),
    (-0.7, 0.7),
    (0.7, -0.7),
    (-0.7, -0.7),
)  # places of a name
LEFT_OUT = ("x", "+", "s", "^", "v")  # marks, one for each reason
FURTHER = 8  # how many lines away
LONG, SHORT = 40, 14  # letters of a label: of more the middle is left out; of so many three stand side by side
MANY = 12  # labels from which names and numbers would overlap


def plot_history(
    rows: Sequence[Mapping[str, float]],
    path: Path,
    run: str,
    measured: str,
    trained: Mapping[str, Any],
    frozen: int = 0,
) -> None:
    """Losses and the val metric, which is called `measured`, over the epochs of `run`; `rows` as in history.csv.
    `trained`, as in model.json, says which epoch was kept; in the first `frozen` epochs the head alone was trained.
    """
    figure = Figure(figsize=(9, 3.6))
    losses, metric = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for key, name in (("train_loss", "train"), ("val_loss", "val")):
        losses.plot(epochs, [row[key] for row in rows], marker=".", label=name)
    metric.plot(epochs, [row["val_metric"] for row in rows], marker=".", color="C2", label="val")
    for axes, name in ((losses, "loss"), (metric, measured)):
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
        axes.legend()
    metric.set_ylim(0, 1.02)
    title = run
    if "best_epoch" in trained:
        planned = f" of {trained['planned_epochs']}" if "planned_epochs" in trained else ""
        title += f": epoch {trained['best_epoch']} is kept, {trained['epochs']}{planned} trained"
        for axes in (losses, metric):
            axes.axvline(trained["best_epoch"], color="0.6", linestyle=":")
    if frozen and epochs and epochs[-1] < frozen:
        title += ", all by the head alone"
    elif frozen:
        for axes in (losses, metric):
            _mark_frozen(axes, frozen - 0.5)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _mark_frozen(axes: Any, end: float) -> None:
    """A thin line where the epochs of the head alone end; the words stand above, where no curve is."""
    axes.axvline(end, color="0.4", linewidth=0.8)
    for text, side in (("head alone ", "right"), (" fine-tuned", "left")):
        axes.text(end, 1.01, text, transform=axes.get_xaxis_transform(), ha=side, va="bottom", fontsize=7, color="0.4")


def plot_budget(
    considered: Mapping[str, Sequence[tuple[float, float]]],
    fitting: Sequence[tuple[float, float]],
    left_out: Mapping[str, Sequence[tuple[float, float]]],
    limit: float | None,
    path: Path,
) -> None:
    """Published top-1 in per cent against multiply-adds, points (multiply-adds, top-1): a line per backbone over its
    resolutions, rings around those that are listed, the best that fit, a mark on the others by why they are
    `left_out`, and a line at the `limit` of multiply-adds where there is one.
    """
    figure = Figure(figsize=(8, 5))
    axes = figure.subplots()
    for backbone, points in considered.items():
        style = "-" if backbone.startswith("mobilenetv2") else "--"
        line = sorted((macs / 1e6, top1) for macs, top1 in points)
        axes.plot(*zip(*line, strict=True), style, marker=".", label=backbone)
    marks = [("listed", fitting, {"marker": "o", "s": 120, "facecolors": "none", "edgecolors": "black"})]
    for (why, own), mark in zip(left_out.items(), LEFT_OUT, strict=False):
        marks.append((f"left out: {why}", own, {"marker": mark, "s": 24, "color": "black", "linewidths": 1}))
    for name, own, how in marks:
        axes.scatter([m / 1e6 for m, _ in own], [top1 for _, top1 in own], **how, zorder=3, label=name)  # type: ignore[arg-type]
    if limit is not None:
        axes.axvline(limit / 1e6, color="0.3", linewidth=1, label=f"budget: {limit / 1e6:g} million multiply-adds")
    axes.set(xscale="log", xlabel="million multiply-adds", ylabel="published ImageNet top-1, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)  # beside: points lie anywhere
    _save(figure, path)


class Dot(NamedTuple):
    """A model to compare: its figure, its multiply-adds (None: not known), the bytes of its file."""

    name: str
    figure: float
    macs: int | None
    file_bytes: int


def plot_compared(models: Sequence[Dot], metric: str, path: Path) -> None:
    """`metric` against multiply-adds, a dot's area is the file's size; a line where no multiply-adds are known."""
    figure = Figure(figsize=(9, 5.5))
    axes = figure.subplots()
    axes.set(xscale="log", xlabel="million multiply-adds (dot: size of the int8 file)", ylabel=f"{metric} on test")
    axes.margins(0.2, 0.2)
    for dot in models:
        if dot.macs is None:
            axes.axhline(dot.figure, linestyle="--", linewidth=1, color="0.5")
            axes.annotate(dot.name, (0.01, dot.figure), xycoords=("axes fraction", "data"), va="bottom", color="0.3")
    drawn = [(dot, dot.macs / 1e6) for dot in models if dot.macs is not None]
    if drawn:
        points = [(millions, dot.figure) for dot, millions in drawn]
        areas = [AREA * dot.file_bytes / 1e6 for dot, _ in drawn]
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, areas, alpha=0.5, edgecolors="black")
        _name_points(figure, [dot.name for dot, _ in drawn], points, [(area / math.pi) ** 0.5 for area in areas])
    _save(figure, path)


def _name_points(figure: Figure, names: list[str], points: list[tuple[float, float]], radii: list[float]) -> None:
    """Write each name beside its dot (radius in typographic points) where it covers no other name and no dot."""
    FigureCanvasAgg(figure)
    figure.canvas.draw()  # positions in pixels are defined only after drawing
    axes, scale = figure.axes[0], figure.dpi / 72
    centres = axes.transData.transform(points)
    dots = [Bbox([c - r * scale, c + r * scale]) for c, r in zip(centres, radii, strict=True)]
    taken = [*dots, *(text.get_window_extent() for text in axes.texts)]
    for name, point, radius in zip(names, points, radii, strict=True):
        for step in range(8 * FURTHER):  # around the dot, then the same a line further away
            x, y = AROUND[step % 8]
            away = radius + 3 + 12 * (step // 8)
            across = "left" if x > 0 else "right" if x < 0 else "center"
            along = "bottom" if y > 0 else "top" if y < 0 else "center"
            place: dict[str, Any] = {"xytext": (x * away, y * away), "textcoords": "offset points"}
            note = axes.annotate(name, point, **place, ha=across, va=along, fontsize=8)
            box = note.get_window_extent()
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if step == 8 * FURTHER - 1 or (inside and not any(box.overlaps(other) for other in taken)):
                if step >= 8:
                    axes.annotate(
                        "", point, **place, arrowprops={"arrowstyle": "-", "linewidth": 0.5, "shrinkB": radius}
                    )
                taken.append(box)
                break
            note.remove()


def plot_noise(names: Sequence[str], sqnr_db: Sequence[float], limit: float, apart: int, path: Path) -> None:
    """Signal to quantization noise of the layers from the input on, a line at `limit` dB, and a mark at the layer where
    float and int8 part, the one of index `apart`.
    """
    figure = Figure(figsize=(max(5.0, min(14.0, 2 + 0.14 * len(names))), 4.2))
    axes = figure.subplots()
    axes.plot(range(len(names)), sqnr_db, marker=".")
    axes.axhline(limit, linestyle="--", linewidth=1, color="0.5")
    axes.set_ylabel("signal to quantization noise, dB")
    axes.set_xlabel("layers from the input on")
    left = apart < len(names) / 2
    axes.plot([apart], [sqnr_db[apart]], marker="o", color="C3")
    axes.annotate(
        f"{names[apart]}: {sqnr_db[apart]:.1f} dB",
        (apart, sqnr_db[apart]),
        xytext=(24 if left else -24, 60),  # clear of the line of the layers after it
        textcoords="offset points",
        ha="left" if left else "right",
        color="C3",
        arrowprops={"arrowstyle": "-", "color": "C3"},
    )
    _save(figure, path)


def plot_confusion(table: Mapping[tuple[str, str], int], rows: list[str], columns: list[str], path: Path) -> None:
    """Heat map of (actual, predicted) -> count: each row is coloured by its shares, the numbers are counts."""
    side = 1.6 + 0.55 * max(len(rows), len(columns))
    figure = Figure(figsize=(min(side + 1.2, 14), min(side, 12.8)))
    axes = figure.subplots()
    counts = [[table.get((actual, predicted), 0) for predicted in columns] for actual in rows]
    shares = [[n / max(1, sum(row)) for n in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if max(len(rows), len(columns)) <= 2 * MANY:
        for y, row in enumerate(counts):
            for x, n in enumerate(row):
                colour = "white" if shares[y][x] > 0.55 else "black"
                axes.text(x, y, str(n), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), map(_verbatim, columns), rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), map(_verbatim, rows))
    axes.set(xlabel="predicted", ylabel="actual")
    _save(figure, path)


def plot_precision_recall(curves: Mapping[str, Sequence[float]], recalls: Sequence[float], path: Path) -> None:
    """Precision over recall at IoU 0.5, a line per label; their names lie below, as a curve may reach any corner."""
    figure = Figure(figsize=(5.2, 4.2))
    axes = figure.subplots()
    for label, precision in curves.items():
        axes.plot(recalls, precision, label=_verbatim(label))
    axes.set(xlabel="recall", ylabel="precision at IoU 0.5", xlim=(0, 1.02), ylim=(0, 1.02))
    if 0 < len(curves) <= MANY:
        short = max(map(len, curves)) <= SHORT
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3 if short else 1)
    _save(figure, path)


def plot_reliability(rows: Sequence[tuple[float, float, int, float, float]], path: Path) -> None:
    """How right answers are over their score, beside the line where both are equal, and how many there are. `rows`:
    from, to, answers, mean score, share that is right.
    """
    figure = Figure(figsize=(5.2, 5.2))
    right, many = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    left, widths = [row[0] for row in rows], [row[1] - row[0] for row in rows]
    right.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color="0.5", label="score = share that is right")
    right.bar(left, [row[4] for row in rows], widths, align="edge", alpha=0.3)
    right.plot([row[3] for row in rows], [row[4] for row in rows], marker="o", label="answers")
    right.set(ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    # above: within, a curve may be anywhere
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    many.bar(left, [row[2] for row in rows], widths, align="edge", color="0.5")
    if not rows:
        right.text(0.51, 0.51, "no answers", ha="center", va="center", backgroundcolor="white")
    many.set(xlabel="score", ylabel="answers")
    _save(figure, path)


def _verbatim(label: str) -> str:
    """What is shown as `label`: between dollars matplotlib reads formulas, and a legend leaves out what begins with _.
    The middle of a long one is left out.
    """
    short = label if len(label) <= LONG else f"{label[: LONG // 2]}…{label[-LONG // 2 :]}"
    return (" " if label.startswith("_") else "") + short.replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    """As PNG, or SVG where `path` ends so, without the date and the program that made it."""
    form = path.suffix.removeprefix(".")
    unsaid = {"png": ("Software",), "svg": ("Creator", "Date", "Format", "Type")}[form]
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure)
    with new_file(path) as place:
        figure.savefig(place, format=form, dpi=DPI, bbox_inches="tight", metadata=dict.fromkeys(unsaid))
