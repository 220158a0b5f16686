"""A machine on which ingest cannot go on: a full disk, files and folders without leave. One line names the file and
what to do; the older data stays, nothing half is left, and the source is as it was.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from label_sets import SETS, Row, write_files
from source import unchanged
from test_bad_images import scene
from test_bad_labels import block
from test_ingest import hashes

from pipeline.datasets.ingest.ingest import ingest

PROGRAM = """
import resource, sys
from pathlib import Path
from test_bad_labels import block
from pipeline.core import parallel
from pipeline.core.boundary import exit_code
from pipeline.datasets.ingest.ingest import ingest

form, source, out, jobs, most = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
parallel.cpu_count = lambda: jobs
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
sys.exit(exit_code(lambda: ingest("set", block(form, source), out / "data" / "set", out / "reports" / "set")))
"""


def run(
    form: str, source: Path, out: Path, jobs: int = 1, most: int = 0, before: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Exit code and last line."""
    command = [*before, sys.executable, "-c", PROGRAM, form, str(source), str(out), str(jobs), str(most)]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.splitlines()[-1]


def fill(root: Path, form: str = "coco", count: int = 12) -> Path:
    rows = [Row(f"cam/{i}.jpg", (300, 200), [(30.0, 20.0, 180.0, 120.0)]) for i in range(count)]
    (root / "cam").mkdir(parents=True)
    for i, row in enumerate(rows):
        scene(i, row.size).save(root / row.name, quality=95)
    write_files(root, SETS[form](rows))
    return root


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_is_one_line_and_the_old_data_stays(tmp_path: Path, jobs: int) -> None:
    """Here a file may not be longer than so many bytes."""
    root, out = fill(tmp_path / "herd"), tmp_path / "out"
    ingest("set", block("coco", root), out / "data" / "set", out / "reports" / "set")
    before = hashes(out)
    with unchanged(root):
        code, said = run("coco", root, out, jobs, 800)
    assert code == 1
    assert said.startswith(f"error: {out}/data/set")
    assert "unfinished" not in said
    assert "File too large; make room on the disk" in said
    assert hashes(out) == before
    assert {path.name for place in ("data", "reports") for path in (out / place).iterdir()} == {"set"}


READ = """
import sys
from pathlib import Path
from pipeline.core.boundary import known
from pipeline.datasets.formats import FORMATS
for form in Path(sys.argv[1]).iterdir():
    try:
        FORMATS[form.name].read(form, form, FORMATS[form.name].Options())
    except OSError as error:
        print(known(error))
"""


def test_a_folder_that_cannot_be_read_is_named_in_every_format(tmp_path: Path, bound: tuple[str, ...]) -> None:
    """Its images are not to be left out without a word."""
    for form in (*SETS, "folder"):
        root = fill(tmp_path / form, "coco" if form == "folder" else form, 2)
        (root / "cow").mkdir()
        scene(1).save(root / "cow" / "1.jpg")
        (root / "cam").chmod(0)
    command = [*bound, sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    for form in (*SETS, "folder"):
        (tmp_path / form / "cam").chmod(0o755)
    said = {
        f"{tmp_path / form}/cam: Permission denied; make it and its folder readable and writable"
        for form in (*SETS, "folder")
    }
    assert set(done.stdout.splitlines()) == said, done.stderr


def test_an_image_that_cannot_be_read_is_a_row_and_a_label_file_an_error(
    tmp_path: Path, bound: tuple[str, ...]
) -> None:
    root, out = fill(tmp_path / "herd"), tmp_path / "out"
    (root / "cam" / "3.jpg").chmod(0)
    with unchanged(root):
        assert run("coco", root, out, before=bound)[0] == 0
    assert (
        "cam/3.jpg,,unreadable,[Errno 13] Permission denied: '3.jpg',refused"
        in (out / "reports" / "set" / "ledger.csv").read_text()
    )
    (root / "labels" / "herd.json").chmod(0)
    code, said = run("coco", root, out, before=bound)
    assert (code, said.split(";")[0]) == (1, f"error: {root}/labels/herd.json: Permission denied")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path, bound: tuple[str, ...]) -> None:
    root, out = fill(tmp_path / "herd"), tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "data").chmod(0o555)
    code, said = run("coco", root, out, before=bound)
    assert (code, said) == (
        1,
        f"error: {out}/data/set: Permission denied; make it and its folder readable and writable",
    )
