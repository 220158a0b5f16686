"""What has rotted is named with its cure, also where time and size are what they were; and the cure cures."""

import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from finished_project import commit, dvc, write_dvc, write_project

from pipeline.cli import main
from pipeline.core.files import new_folder
from pipeline.tracking.doctor import Broken, examine
from pipeline.tracking.dvc_state import stale_files

RUN = "herd"
LOST = "not all of it is in DVC's cache"


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
    assert by_path.pop(f"exports/{RUN}").cure == "with that of its file in DVC's cache, below"
    assert by_path.pop(f"data/ingested/{RUN}").found == f"other bytes than ingest@{RUN} made: dataset.json"
    [broken] = by_path.values()
    assert broken.cure == f"`rm -f {broken.path}`, then {again} makes both anew"


def test_without_a_list_in_the_cache_the_folder_is_named(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    assert examine(project) == []
    rot(project / f"exports/{RUN}/{RUN}.onnx")
    shutil.rmtree(project / f"data/ingested/{RUN}")
    assert [(broken.path, broken.found) for broken in examine(project)] == [
        (f"data/ingested/{RUN}", f"missing; ingest@{RUN} made it; {LOST}"),
        (f"exports/{RUN}", f"other files than export@{RUN} made; {LOST}"),
    ]


def test_what_the_cache_has_lost_too_is_named_and_made_anew(project: Path) -> None:
    rot(project / f"exports/{RUN}/{RUN}.onnx")
    lost = cached(project, f"the weights of {RUN}")
    content = lost.read_bytes()
    lost.unlink()
    [broken] = examine(project)
    assert broken.found == f"other bytes than export@{RUN} made: {RUN}.onnx; {LOST}"
    assert broken.cure == f"`dvc repro --force --single-item export@{RUN}` makes it anew"
    lost.write_bytes(content)
    [broken] = examine(project)
    assert LOST not in broken.found


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


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A project without DVC."""
    for folder in ("models", "exports"):
        (tmp_path / folder).mkdir()
    return tmp_path


def write_lock(project: Path, stage: str, path: str) -> None:
    entry = {"cmd": "true", "outs": [{"path": path, "md5": "0" * 32, "size": 1}]}
    (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {stage: entry}}))


@pytest.mark.parametrize("name", [".a $(touch pwned).unfinished", ".a'; touch pwned; '.unfinished"])
def test_what_a_killed_run_has_left_is_quoted(bare: Path, name: str) -> None:
    (bare / "models" / name).mkdir()
    [broken] = examine(bare)
    follow(bare, broken)
    assert examine(bare) == []
    assert not (bare / "pwned").exists()


def test_a_stage_of_a_foreign_lock_is_quoted(bare: Path) -> None:
    write_lock(bare, "train@herd; touch pwned", "models/herd")
    [broken] = examine(bare)
    assert broken.cure == "`dvc repro --force --single-item 'train@herd; touch pwned'` makes it anew"


@pytest.mark.parametrize("name", ["a`touch pwned`", "-rf", "a\nrm x"])
def test_a_name_that_no_line_can_hold_gets_no_command(bare: Path, name: str) -> None:
    write_lock(bare, name, "models/herd")
    [broken] = examine(bare)
    assert "`" not in broken.cure


@pytest.mark.parametrize(
    "path",
    ["../../../home/ann", "/home/ann", ".", "models/../../ann", "", "link/../ann", ".git/hooks", "params.yaml", "data"],
)
def test_an_out_that_leaves_the_project_gets_no_command(bare: Path, path: str) -> None:
    write_lock(bare, "train@herd", path)
    [broken] = examine(bare)
    assert (broken.path, broken.cure) == (path, "take it out of dvc.lock")


def test_nothing_is_to_be_removed_where_a_link_leads_out(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is a user's larger disk, or somebody else's trap."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "exports"
    (project / "exports").rename(elsewhere)
    (project / "exports").symlink_to(elsewhere)
    assert examine(project) == []
    rot(project / f"exports/{RUN}/{RUN}.onnx")
    [broken] = examine(project)
    assert broken.path == f"exports/{RUN}"
    assert broken.cure.startswith("a link leads to it, out of the project: see where to, then `dvc repro --force")


@pytest.mark.parametrize("out", [5, {"md5": 5, "path": "models"}, {"md5": "0" * 32}])
def test_a_lock_of_another_form_is_named(bare: Path, out: object) -> None:
    (bare / "dvc.lock").write_text(yaml.safe_dump({"stages": {"train@herd": {"outs": [out]}}}))
    assert [broken.path for broken in examine(bare)] == ["dvc.lock"]


def test_a_folder_in_place_of_the_lock_is_named(bare: Path) -> None:
    (bare / "dvc.lock").mkdir()
    [broken] = examine(bare)
    assert broken.found.endswith("dvc.lock: a folder; expected the file that DVC writes: remove it")


def test_pipes_are_not_waited_for(bare: Path) -> None:
    (bare / ".features").mkdir()
    (bare / "splits").mkdir()
    names = [".features/a.sqlite", "splits/a.csv", "models/.a.unfinished"]
    for name in names:
        os.mkfifo(bare / name)
    assert [broken.path for broken in examine(bare)] == names


def write_file(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize(
    ("name", "make", "found"),
    [
        ("mlflow.db", Path.mkdir, "a folder; expected a file"),
        ("mlflow.db", os.mkfifo, "a pipe, a device or a socket; expected a file"),
        ("params.yaml", Path.mkdir, "a folder; expected a file"),
        ("resolved.yaml", os.mkfifo, "a pipe, a device or a socket; expected a file"),
        ("splits", write_file, "a file; expected a folder"),
        (".features", write_file, "a file; expected a folder"),
        (".dvc/cache", write_file, "a file; expected a folder"),
        (".dvc/cache/files", write_file, "a file; expected a folder"),
        ("weights", lambda path: path.symlink_to("/nowhere"), "a link to what is not there; expected a folder"),
        ("data", lambda path: path.symlink_to(path), "a link to what is not there; expected a folder"),
        ("models/herd", write_file, "a file; expected a folder"),
        (".dvc/config", lambda path: path.write_text("[["), "DVC does not read it: "),
        (".dvc/config", Path.mkdir, "DVC does not read it: "),
    ],
)
def test_what_has_the_name_of_a_file_or_folder_and_is_none_is_named(
    bare: Path, name: str, make: Callable[[Path], object], found: str
) -> None:
    (bare / name).parent.mkdir(parents=True, exist_ok=True)
    if name.startswith(".dvc/cache"):
        (bare / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    make(bare / name)
    [broken] = examine(bare)
    assert broken.path == name
    assert broken.found.startswith(found)
    assert broken.cure


@pytest.mark.parametrize("name", ["data/cows.zip", "data/raw.dvc", "models/teacher.pth", "reports/budget.png"])
def test_files_of_the_user_beside_the_chains_folders_are_no_fault(bare: Path, name: str) -> None:
    (bare / name).parent.mkdir(exist_ok=True)
    write_file(bare / name)
    assert list(examine(bare)) == []


def test_what_may_not_be_read_or_goes_meanwhile_does_not_end_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = project / ".dvc/cache/files/md5"
    foreign, gone, rotten = sorted(path for path in cache.glob("??/*") if path.suffix != ".dir")[:3]
    rot(rotten)

    def md5(path: Path) -> str:
        if path in (foreign, gone):
            raise PermissionError(13, "Permission denied") if path == foreign else FileNotFoundError(2, "gone")
        return hashlib.md5(path.read_bytes()).hexdigest()

    monkeypatch.setattr("pipeline.tracking.doctor._md5", md5)
    found = {broken.path: broken for broken in examine(project)}
    assert found.keys() == {str(path.relative_to(project)) for path in (foreign, rotten)}
    assert found[str(foreign.relative_to(project))].found == "not examined: Permission denied"


def test_a_database_that_is_written_is_not_called_damaged(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tracking.doctor.WAIT_S", 0)
    with closing(sqlite3.connect(bare / "mlflow.db", isolation_level=None)) as opened:
        opened.execute("CREATE TABLE runs (name TEXT)")
        opened.execute("BEGIN EXCLUSIVE")
        [broken] = examine(bare)
        assert (broken.found, broken.cure) == (
            "not examined: another process writes it",
            "ask again when that has ended",
        )
        opened.execute("ROLLBACK")
        opened.execute("PRAGMA journal_mode = WAL")
    (bare / "mlflow.db-wal").mkdir()  # where SQLite needs a file
    [broken] = examine(bare)
    assert broken.found == "not examined: unable to open database file"


def test_a_project_that_is_whole_is_said_to_be(
    template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(template)
    main(["doctor"])
    assert capsys.readouterr().out == "all files are what was written\n"


def test_where_nothing_is_made_yet_nothing_is_called_whole(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bare)
    for lock in (None, "schema: '2.0'\nstages: {}\n"):
        if lock:
            (bare / "dvc.lock").write_text(lock)
        main(["doctor"])
        assert capsys.readouterr().out == "nothing is made yet here; `pocketlens repro` runs the chain\n"
