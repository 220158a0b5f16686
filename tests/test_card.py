"""The model card: read back by Hugging Face's own library, and true to the files it tells of."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from heads import DETECTORS, with_head
from huggingface_hub import ModelCard
from shipped import COUNTS, LABELS, shipped, spec_of

from pipeline.core.errors import InputError
from pipeline.core.files import md5_of, read_json, write_json
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.core.spec import ModelSpec, read_spec
from pipeline.export.card.card import model_card
from pipeline.export.card.contract import preprocessing
from pipeline.export.card.limits import Evidence, limits, read_evidence


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped(tmp_path_factory)


@pytest.fixture
def reports(run: Path, tmp_path: Path) -> Path:
    """Those that the chain would have made of the small run."""
    shutil.copytree(run / "evaluated", tmp_path / "evaluate/shapes")
    summary = {
        "format": "folder", "seen": 157, "kept": 156, "refused": 1, "by_rule": {"truncated": 1}, "splits": COUNTS,
        "labels": {split: dict.fromkeys(LABELS, n // 3) for split, n in COUNTS.items()},
        "near_duplicate_pairs": 2, "leaks": {"groups": 0, "near_duplicates": 0},
    }  # fmt: skip
    write_json(tmp_path / "ingest/shapes/summary.json", summary)
    return tmp_path


def test_hugging_face_reads_the_metrics_of_the_card(run: Path, reports: Path) -> None:
    spec, facts = read_spec(run / "exports/model.json"), read_json(run / "exports/export.json")
    card = ModelCard(model_card(spec, facts, read_evidence(spec, run / "data", reports)))
    assert (card.data.license, card.data.library_name) == ("unknown", "onnx")
    assert (card.data.pipeline_tag, card.data.datasets) == ("image-classification", ["shapes"])
    assert {"onnx", "executorch", "int8"} <= set(card.data.tags)
    metrics = read_json(reports / "evaluate/shapes/metrics.json")
    told = {r.metric_name: r.metric_value for r in card.data.eval_results}
    assert told == {"accuracy": metrics["accuracy"], "F1, mean of the labels": metrics["macro_f1"]}
    result = card.data.eval_results[0]
    assert (result.dataset_name, result.dataset_split) == ("shapes", "test")
    assert result.dataset_revision == md5_of(run / "data")


def test_the_card_says_what_the_files_say(run: Path, reports: Path) -> None:
    spec, facts = read_spec(run / "exports/model.json"), read_json(run / "exports/export.json")
    text = model_card(spec, facts, read_evidence(spec, run / "data", reports))
    assert '157 images seen, 156 kept; 1 refused: {"truncated": 1}' in text
    assert "| circle | 32 | 4 | 16 |" in text
    assert "Fewer than 100 examples to learn from in train: circle (32), cross (32), square (32)." in text
    for row in facts["targets"].values():
        assert f"`{row['file']}`" in text
    assert md5_of(run / "models/shapes") in text
    assert facts["made_from"]["model.safetensors"] in text
    assert "tags.`pocketlens.run` = 'shapes'" in text


def test_nothing_in_the_bundle_names_a_place_of_this_machine(run: Path, reports: Path) -> None:
    spec, facts = read_spec(run / "exports/model.json"), read_json(run / "exports/export.json")
    evidence = read_evidence(spec, run / "data", reports)
    evidence.dataset.source["path"] = "/home/ann/photos/shapes"
    text = model_card(spec, facts, evidence)
    assert "From `shapes`, format folder" in text
    assert "/home/ann" not in text
    places = [str(place).encode() for place in (run, Path.home(), Path(__file__).parents[1])]
    files = [file for file in (run / "exports").rglob("*") if file.is_file()]
    assert run / "exports/sbom.json" in files
    assert [file for file in files if any(place in file.read_bytes() for place in places)] == []


def test_the_card_names_the_layers_of_labels(run: Path, reports: Path) -> None:
    spec, facts = read_spec(run / "exports/model.json"), read_json(run / "exports/export.json")
    evidence = read_evidence(spec, run / "data", reports)
    without = model_card(spec, facts, evidence)
    evidence.dataset.source["layers"] = {"round1": "ab12", "round2": "cd34"}
    said = "Labelled anew since, in this order: `round1` (sha256 ab12), `round2` (sha256 cd34).\n"
    assert model_card(spec, facts, evidence).replace(said, "") == without


def test_a_report_that_is_missing_is_named(run: Path, reports: Path) -> None:
    (reports / "ingest/shapes/summary.json").unlink()
    with pytest.raises(InputError, match=r"summary\.json: no such file"):
        read_evidence(read_spec(run / "exports/model.json"), run / "data", reports)


def test_without_reports_the_card_has_no_figures(run: Path) -> None:
    text = (run / "exports/README.md").read_text()
    assert "Not measured: exported outside of the chain." in text
    assert ModelCard(text).data.eval_results is None


def picture(name: str, *objects: Object) -> Sample:
    return Sample(name, f"{name}.jpg", 64, 64, "test", objects=list(objects))


def test_the_limits_name_weak_labels_and_the_sizes_that_are_missed() -> None:
    small, large = Object("cross", (0.1, 0.1, 0.1, 0.1)), Object("circle", (0.2, 0.2, 0.6, 0.6))
    evidence = Evidence(
        dataset=Dataset("shapes", LABELS, source={"path": "data/sample/shapes"}),
        summary={"labels": {"train": dict.fromkeys(LABELS, 500), "test": {"circle": 40, "cross": 40, "square": 3}}},
        metrics={"per_class": {"circle": {"AP": 0.9}, "cross": {"AP": 0.1}, "square": {"AP": None}}, "AP": 0.5},
        truth=[picture("a", small), picture("b", large), picture("c", large)],
        shown=[picture("a"), picture("b", replace(large, score=0.9)), picture("c")],
    )
    text = limits(spec_of("detect"), evidence)
    assert "drawn by code" in text
    assert "Lowest AP: cross 0.100." in text
    assert "Fewer than 30 examples to be judged from in test: square (3)." in text
    assert "| 4 to 8 | 1 | 0.00 |" in text
    assert "| 32 and more | 2 | 0.50 |" in text


def test_the_mistakes_of_a_classifier_are_told() -> None:
    confusion = {"labels": LABELS, "matrix": [[9, 1, 0], [0, 8, 0], [4, 0, 6]]}
    counts = {split: dict.fromkeys(LABELS, 500) for split in ("train", "test")}
    metrics = {"confusion": confusion, "per_class": {}}
    text = limits(spec_of("classify"), Evidence(Dataset("shapes", LABELS), {"labels": counts}, metrics, [], []))
    assert text == "- Most frequent mistakes on test: square taken for circle (4), circle taken for cross (1).\n"


def contracts() -> dict[str, ModelSpec]:
    detect = spec_of("detect")
    return {
        "classify": spec_of("classify"),
        "localize": spec_of("localize"),
        "hard": detect,
        "soft": replace(detect, predict={**detect.predict, "nms": "soft"}),
        "vote": replace(detect, predict={**detect.predict, "nms": "vote"}),
        **{kind: with_head(kind, detect) for kind in DETECTORS},
    }


@pytest.mark.parametrize("name", list(contracts()))
def test_the_contract_says_what_every_output_means(name: str) -> None:
    spec = contracts()[name]
    decode = preprocessing(spec)["decode"]
    assert list(decode["outputs"]) == spec.outputs
    words = " ".join(decode["steps"])
    if spec.task == "detect":
        assert f"probability of {spec.predict['score']:g} or more" in words
        assert {"soft": "soft-NMS", "vote": "weighted by score"}.get(spec.predict["nms"], "IoU above 0.6") in words
        assert f"the best {spec.predict['max_objects']} stay" in words
        assert decode["anchors"] == spec.head.get("anchors")
