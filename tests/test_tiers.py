"""What `make test` leaves out, and how tests are given to workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from tiers import FOUND

# A test of each promise that `make test` runs: what a marker must never leave out.
PROMISES = {
    "the whole chain by DVC": "test_chain.py::test_every_stage_ran_once",
    "a training that is killed goes on": "test_chain.py::test_killed_training_goes_on_from_its_last_epoch",
    "training on other content begins anew": (
        "test_train.py::test_a_killed_run_goes_on_only_with_the_content_it_began_with[val-paint]"
    ),
    "killed training ends with the same weights": (
        "test_ranks.py::test_killed_after_each_epoch_gives_the_weights_of_an_unbroken_run[1]"
    ),
    "two processes train a classifier": "test_ranks.py::test_two_learn_what_one_learns[classify]",
    "two processes train a detector": "test_ranks.py::test_two_learn_what_one_learns[yolov3]",
    "a classifier ships": "test_stages.py::test_the_names_that_others_rely_on[alpaca]",
    "a localizer ships": "test_stages.py::test_the_names_that_others_rely_on[pose]",
    "a detector ships": "test_chain.py::test_the_names_that_others_rely_on[herd]",
    "real data": "test_chain.py::test_real_photos_and_clips_by_params_alone",
    "ONNX and ExecuTorch, float and int8": "test_verify.py::test_good_files_pass",
    "ONNX on phones": "test_targets.py::test_onnx_files_have_operators_and_shapes_for_phones[anchor_free]",
    "ONNX in old runtimes": (
        "test_targets.py::test_an_onnx_file_asks_for_no_newer_runtime_than_its_steps_do[onnx_int8-anchor_free]"
    ),
    "Core ML": "test_targets.py::test_core_ml_takes_a_picture_and_has_int8_weights",
    "quantization-aware training": "test_qat.py::test_a_net_that_rounding_hurts_learns_to_live_with_it",
    "backbones by their timm names": (
        "test_backbones.py::test_it_builds_learns_a_step_and_ships[mobilenetv3_small_100-32]"
    ),
    "clips of other makers": "test_predict.py::test_so_is_a_real_clip",
    "what a net costs is what is published": "test_cost.py::test_tables_4_6_and_7_of_the_mobilenet_paper",
    "a notebook": "test_chain.py::test_it_runs_on_a_finished_chain[default_runs]",
    "README in a bare shell": "test_bare_shell.py::test_the_commands_of_readme",
    "mongod and FiftyOne's App": "test_inspect.py::test_the_app_shows_pictures_truth_and_predictions",
    "what is tagged in the App": (
        "test_inspect_dataset.py::test_the_app_opens_on_a_dataset_and_what_is_tagged_there_is_a_layer"
    ),
    "MLflow's UI": "test_tracking.py::test_the_ui_shows_the_runs_and_compares_them",
    "the served model": "test_serving.py::test_mlflow_models_serve_answers_as_our_own_runtime",
    "the page in a browser": "test_web.py::test_a_detector_finds_what_our_runtime_finds[letterbox]",
    "the sample for Android": "test_samples.py::test_the_android_sample_resizes_and_decodes_as_we_do",
    "a run's report in a browser": "test_report.py::test_figures_are_those_of_the_files",
    "Label Studio's server": "test_label_studio_server.py::test_a_herd_goes_out_and_comes_back_with_no_change",
    "pycocotools": "test_coco_ap.py::test_precision_and_recall_are_those_of_pycocotools_to_the_last_digit",
    "models compared": "test_compare.py::test_a_model_is_a_dvc_experiment_and_an_mlflow_run",
    "what a label layer reruns": (
        "test_rerun.py::test_a_label_layer_reruns_ingest_and_what_comes_of_it_when_it_changes"
    ),
}
TESTS = """
import os
from pathlib import Path
import pytest

@pytest.fixture(scope="module")
def shared():
    with Path("made").open("a") as log:
        log.write(f"{__name__}\\n")

@pytest.mark.parametrize("number", range(8))
def test_it(shared, number):
    pass

@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(3))
def test_more(shared, number):
    pass
"""


@pytest.mark.parametrize("promise", PROMISES)
def test_no_promise_is_exhaustive_alone(request: pytest.FixtureRequest, promise: str) -> None:
    file, _, name = PROMISES[promise].partition("::")
    found = [(test, exhaustive) for path, test, exhaustive in request.config.stash[FOUND] if path == file]
    assert (ROOT / "tests" / file).is_file()
    if not found:
        pytest.skip(f"{file} is not among the files of this run")
    held = [test for test, exhaustive in found if name in (test, test.partition("[")[0]) and not exhaustive]
    assert held, f"{name} is not in {file}, or is exhaustive"


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two workers"])
def test_what_is_left_out_is_the_last_word_and_what_a_file_shares_is_made_once(
    workers: list[str], tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tiers",)\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    exhaustive\n    slow\n")
    files = ["test_a", "test_b", "test_c"]
    for name in files:
        (tmp_path / f"{name}.py").write_text(TESTS)
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}  # of the one that runs this
    environment |= {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", *workers, "-m", "not exhaustive"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, summary, last = done.stdout.splitlines()
    assert "24 passed" in summary
    assert last == "9 exhaustive tests were left out; `make test-all` runs all tests"
    assert sorted((tmp_path / "made").read_text().split()) == files
