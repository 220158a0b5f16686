"""What has rotted is named with its cure, also where time and size are what they were; and the cure cures."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from finished_project import commit, dvc, write_dvc, write_project

from pipeline.cli import main
from pipeline.core.files import new_folder
from pipeline.tracking.doctor import Broken, examine
from pipeline.tracking.dvc_state import stale_files

RUN = "herd"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "project"
    write_project(root, {RUN: "detect"})
    write_dvc(root, {RUN: "detect"})
    dvc(root, "init", "--no-scm", "--quiet")
    commit(root)
    (root / "params.yaml").write_text("runs: {}\n")
    assert examine(root) == []
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "project")


def rot(path: Path) -> None:
    """Flip a bit; time and size stay."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cached(project: Path, part: str) -> Path:
    """The file of DVC's cache that holds these words."""
    cache = project / ".dvc/cache/files/md5"
    [path] = [p for p in cache.glob("??/*") if part.encode() in p.read_bytes() and p.suffix != ".dir"]
    return path


def follow(project: Path, broken: Broken) -> None:
    """Do what the cure says."""
    for command in re.findall("`(.+?)`", broken.cure):
        line = re.sub("^dvc ", f"{sys.executable} -m dvc ", command)
        subprocess.run(["sh", "-c", line], cwd=project, check=True, env={**os.environ, "DVC_NO_ANALYTICS": "1"})


def test_what_the_chain_made_comes_back(project: Path) -> None:
    rot(project / f"exports/{RUN}/{RUN}.onnx")
    [broken] = examine(project)
    assert (broken.path, broken.found) == (f"exports/{RUN}", f"other bytes than export@{RUN} made: {RUN}.onnx")
    follow(project, broken)
    assert examine(project) == []


def test_a_file_of_the_cache_is_taken_from_the_project(project: Path) -> None:
    rot(path := cached(project, f"the weights of {RUN}"))
    [broken] = examine(project)
    assert broken.path == str(path.relative_to(project))
    assert broken.found == f"not what its name says: its bytes have rotted (exports/{RUN})"
    follow(project, broken)
    assert examine(project) == []
    assert path.is_file()


def test_where_both_have_rotted_the_stage_makes_it(project: Path) -> None:
    rot(project / f"exports/{RUN}/{RUN}.onnx")
    rot(cached(project, f"the weights of {RUN}"))
    (project / f"data/ingested/{RUN}/dataset.json").unlink()
    again = f"`dvc repro --force --single-item export@{RUN}`"
    by_path = {broken.path: broken for broken in examine(project)}
    assert by_path.pop(f"exports/{RUN}").cure == f"{again} makes it anew"
    assert by_path.pop(f"data/ingested/{RUN}").found == f"other bytes than ingest@{RUN} made: dataset.json"
    [broken] = by_path.values()
    assert broken.cure == f"`rm -f {broken.path}`, then `dvc fetch`, or {again}"


def test_without_a_list_in_the_cache_the_folder_is_named(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    assert examine(project) == []
    rot(project / f"exports/{RUN}/{RUN}.onnx")
    shutil.rmtree(project / f"data/ingested/{RUN}")
    assert [(broken.path, broken.found) for broken in examine(project)] == [
        (f"data/ingested/{RUN}", f"missing; ingest@{RUN} made it"),
        (f"exports/{RUN}", f"other files than export@{RUN} made"),
    ]


def test_a_rotten_run_is_not_tracked(project: Path) -> None:
    """DVC, which looks at times and sizes, has nothing against it."""
    assert stale_files(project, [RUN])[RUN] == []
    rot(project / f"exports/{RUN}/{RUN}.onnx")
    assert stale_files(project, [RUN])[RUN] == [f"exports/{RUN} has rotted: `pocketlens doctor` says what to do"]


def test_texts_databases_checkpoints_and_what_killed_runs_left(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "params.yaml").write_bytes(b"runs: \xff\n")
    (project / ".features").mkdir()
    (project / ".features/0.sqlite").write_bytes(b"no database" * 100)
    with closing(sqlite3.connect(project / "mlflow.db")) as opened:
        opened.execute("CREATE TABLE runs (name TEXT)")
        opened.executemany("INSERT INTO runs VALUES (?)", [("cow" * 500,)] * 20)
        opened.commit()
    with (project / "mlflow.db").open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096)
    (project / f".resume/{RUN}/0").mkdir(parents=True)
    (project / f".resume/{RUN}/0/last.ckpt").write_bytes(b"cut")
    (project / "models/.actions.unfinished").mkdir()
    with new_folder(project / "models/pose"):  # by a process that goes on
        found = {broken.path: broken for broken in examine(project)}
        monkeypatch.chdir(project)
        with pytest.raises(SystemExit):
            main(["doctor"])
    assert found.keys() == {
        *("params.yaml", "mlflow.db", ".features/0.sqlite", f".resume/{RUN}/0/last.ckpt", "models/.actions.unfinished")
    }
    assert found["params.yaml"].found == "not UTF-8 text (byte 6 is 0xff)"
    assert "`pocketlens track`" in found["mlflow.db"].cure
    said = capsys.readouterr().out
    assert said.endswith("\n5 broken\n")
    assert ".features/0.sqlite: file is not a database; delete it: it is computed anew\n" in said


def test_a_lock_that_was_cut_is_said_with_what_brings_it_back(project: Path) -> None:
    (project / "dvc.lock").write_bytes((project / "dvc.lock").read_bytes()[:500])
    [broken] = examine(project)
    assert (broken.path, "`pocketlens repro`" in broken.cure) == ("dvc.lock", True)


def test_a_project_that_is_whole_is_said_to_be(
    template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(template)
    main(["doctor"])
    assert capsys.readouterr().out == "all files are what was written\n"
