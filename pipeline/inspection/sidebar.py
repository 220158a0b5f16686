"""How the App opens on a dataset: what is drawn, in which colours, and what the sidebar lists in which order."""

from typing import Any

from pipeline.core.sample import Dataset
from pipeline.inspection.labels import TRUTH

COLOURS = {TRUTH: "#40ff60", "predictions": "#ff60e0"}  # those of the sheets
FILES = ("#ffb020", "#40b0ff", "#c080ff", "#ff5040", "#20d0c0", "#b0b0b0")  # of what ships, in its order
GROUPS = {
    "image": ("name", "file", "group", "clip", "frame", "label", "problems", "refused"),
    "mistakes": ("wrong_label", "confused_with", "missed", "false_positives", "localization_only", "eval"),
    "float and files": ("differs", "gap"),
    "what to look at": (
        *("uncertainty", "uncertainty_rank", "mistake_score", "mistake_kind", "mistake_rank"),
        *("near_duplicates", "uniqueness", "map"),
    ),
}


def set_up(fo: Any, view: Any, info: Dataset, files: list[str]) -> None:
    """Truth, predictions and what `files` predict in their colours, landmarks named and joined."""
    colours = COLOURS | dict(zip(files, FILES * len(files), strict=False))
    for field in [*colours]:
        if view.has_field(f"{field}_landmarks"):
            colours[f"{field}_landmarks"] = colours[field]
    view.skeletons = {
        field: fo.KeypointSkeleton(labels=info.landmarks, edges=[list(pair) for pair in info.skeleton])
        for field in colours
        if field.endswith("_landmarks")
    }
    colours = {field: colour for field, colour in colours.items() if view.has_field(field)}
    config = view.app_config
    config.color_scheme = fo.ColorScheme(
        color_by="field", fields=[{"path": field, "fieldColor": colour} for field, colour in colours.items()]
    )
    shown = [field for field in colours if field.removesuffix("_landmarks") not in files]
    config.active_fields = fo.ActiveFields(paths=shown, exclude=False)
    config.sidebar_groups = _groups(fo, view, list(colours))


def _groups(fo: Any, view: Any, labels: list[str]) -> list[Any]:
    group = fo.SidebarGroupDocument
    usual = fo.DatasetAppConfig.default_sidebar_groups(view)
    paths = [path for own in usual for path in own.paths]
    tags = [own for own in usual if own.name == "tags"]
    found = [*tags, group(name="labels", paths=[p for p in labels if p in paths])]
    for name, fields in GROUPS.items():
        own = [p for p in paths if p in fields or (name == "float and files" and p.endswith("_gap"))]
        if own:
            found.append(group(name=name, paths=sorted(own, key=lambda p: fields.index(p) if p in fields else 99)))
    listed = {path for own in found for path in own.paths or ()}
    rest = [p for p in paths if p not in listed and not p.startswith("metadata")]
    metadata = [p for p in paths if p.startswith("metadata")]
    return [
        *found,
        group(name="metadata", paths=metadata, expanded=False),
        group(name="other", paths=rest, expanded=False),
    ]
