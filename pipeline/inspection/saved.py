"""The saved views: matches on fields that we compute, so that their contents follow the data. None is of patches, which
would keep a hidden dataset alive.
"""

from typing import Any

VIEWS = {
    "mistakes": "a wrong label, a missed object or one of nothing",
    "wrong label": "the label of the image, or of an object at the right place, is wrong",
    "false positives": "an object of nothing",
    "missed": "an object that is not found",
    "confused with": "which label is taken for which is in confused_with, to filter by",
    "localization only": "right labels at the right places, with boxes that fit badly",
    "int8 and float differ": "a file that ships answers otherwise than the trained net; the largest gap first",
    "near-duplicates across splits": "the same picture, or nearly, is in another split",
    "most uncertain": "the least certain first",
    "suspected label mistakes": "the most suspicious first",
    "with problems": "the ledger has a row about the image or its objects",
    "refused": "left out of the dataset; why is in problems",
}


def save_views(fo: Any, dataset: Any, uncertain: int = 0) -> list[str]:
    """Save those of `VIEWS` whose fields the dataset has; returns their names. "most uncertain" has so many images."""
    at = fo.ViewField
    found = {
        "mistakes": _any(at, dataset),
        "wrong label": at("wrong_label") == True,  # noqa: E712
        "false positives": at("false_positives") > 0,
        "missed": at("missed") > 0,
        "confused with": at("confused_with").length() > 0,
        "localization only": at("localization_only") == True,  # noqa: E712
        "int8 and float differ": at("differs") == True,  # noqa: E712
        "near-duplicates across splits": at("near_duplicates").length() > 0,
        "most uncertain": at("uncertainty_rank") <= uncertain,
        "suspected label mistakes": at("mistake_rank") > 0,
        "with problems": at("problems").length() > 0,
        "refused": at("refused") == True,  # noqa: E712
    }
    fields = {
        "mistakes": "wrong_label",
        "int8 and float differ": "differs",
        "near-duplicates across splits": "near_duplicates",
        "most uncertain": "uncertainty_rank",
        "suspected label mistakes": "mistake_rank",
        "with problems": "problems",
    }
    order = {
        "most uncertain": ("uncertainty_rank", False),
        "suspected label mistakes": ("mistake_rank", False),
        "int8 and float differ": ("gap", True),
    }
    saved = []
    for name, condition in found.items():
        if dataset.has_field(fields.get(name, name.replace(" ", "_"))):
            view = dataset.match(condition)
            if name in order:
                view = view.sort_by(order[name][0], reverse=order[name][1])
            dataset.save_view(name, view, description=VIEWS[name])
            saved.append(name)
    return saved


def _any(at: Any, dataset: Any) -> Any:
    wrong = at("wrong_label") == True  # noqa: E712
    return wrong | (at("missed") > 0) | (at("false_positives") > 0) if dataset.has_field("missed") else wrong
