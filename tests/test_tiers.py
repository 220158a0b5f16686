"""What `make test` leaves out, and how tests are given to workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from tiers import FOUND

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


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two workers"])
def test_what_is_left_out_is_the_last_word_and_what_a_file_shares_is_made_once(
    workers: list[str], tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tiers",)\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    exhaustive\n    slow\n")
    files = ["test_a", "test_b", "test_c"]
    for name in files:
        (tmp_path / f"{name}.py").write_text(TESTS)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", *workers, "-m", "not exhaustive"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, summary, last = done.stdout.splitlines()
    assert "24 passed" in summary
    assert last == "9 exhaustive tests were left out; `make test-all` runs all tests"
    assert sorted((tmp_path / "made").read_text().split()) == files
