"""dvc.lock that a kill cuts while DVC writes it: the last whole one comes back."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from finished_project import RUNS, commit, dvc, write_dvc, write_project
from zc.lockfile import LockFile

from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.lock_copy import COPY, ENTRY, MARK, drop_cut_rwlock, is_cut, keep_lock, repro_runs
from pipeline.tracking.dvc_state import read_lock
from stages import run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """As DVC writes it."""
    root = tmp_path_factory.mktemp("written")
    write_project(root, RUNS)
    write_dvc(root, RUNS)
    dvc(root, "init", "--no-scm", "--quiet")
    commit(root)
    return (root / "dvc.lock").read_bytes()


@pytest.fixture
def project(written: bytes, tmp_path: Path) -> Path:
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_bytes(written)
    assert keep_lock(tmp_path) == ""
    return tmp_path


def without_last(written: bytes) -> bytes:
    return written[: list(ENTRY.finditer(written))[-1].start()]


@pytest.mark.parametrize("middle", [b"train@herd", b"verify@pose", b"ingest@actions"])
def test_every_cut_is_noticed(written: bytes, middle: bytes) -> None:
    """Of a file in which DVC replaced the entry of a stage: all of its hashes are others."""
    entry = written[written.index(b"  " + middle + b":\n") :]
    ends = [found.start() for found in ENTRY.finditer(entry)][1:2] or [len(entry)]
    changed = re.sub(rb"md5: \w{6}", b"md5: 000000", entry[: ends[0]])
    anew = written.replace(entry[: ends[0]], changed)
    assert anew != written
    assert not is_cut(anew, written)
    assert [size for size in range(len(anew)) if not is_cut(anew[:size], written)] == []


def test_a_cut_of_a_stage_that_is_new_costs_that_stage_alone(written: bytes) -> None:
    before = without_last(written)
    for size in range(len(before), len(written)):
        if not is_cut(written[:size], before):
            found = yaml.load(written[:size], yaml.CSafeLoader)["stages"]
            assert list(found) == [name.decode() for name in ENTRY.findall(written)][: len(found)]
            assert all(found.values())
    assert [size for size in range(len(before)) if not is_cut(written[:size], before)] == []


@pytest.mark.parametrize("cut", [lambda lock: b"", lambda lock: lock[: len(lock) // 2], without_last])
def test_a_lock_that_was_cut_comes_back(project: Path, written: bytes, cut: Callable[[bytes], bytes]) -> None:
    (project / "dvc.lock").write_bytes(cut(written))
    said = keep_lock(project, killed=True)
    stages = f"{len(RUNS) * 6} stages in place of {len(ENTRY.findall(cut(written)))}"
    assert said == f"{project}/dvc.lock: cut while it was written; the last whole one is back, with {stages}"
    assert (project / "dvc.lock").read_bytes() == written
    assert keep_lock(project) == ""
    assert (project / COPY).read_bytes() == written


def without_last_out(written: bytes) -> bytes:
    return written[: written.rindex(b"    - path:")]


@pytest.mark.parametrize("shorter", [without_last, without_last_out])
def test_a_lock_that_is_shorter_is_whole_where_no_repro_was_killed(
    project: Path, written: bytes, shorter: Callable[[bytes], bytes]
) -> None:
    """As of a new dvc.yaml, whose last stage has fewer outs."""
    (project / "dvc.lock").write_bytes(shorter(written))
    assert keep_lock(project) == ""
    assert (project / "dvc.lock").read_bytes() == (project / COPY).read_bytes() == shorter(written)


@pytest.mark.parametrize(
    "line", [b"    outs:\n", b"    - path: reports/verify/pose/verify.json\n", b"      hash: md5\n"]
)
def test_a_lock_that_ends_inside_an_entry_was_cut(written: bytes, line: bytes) -> None:
    assert is_cut(written[: written.rindex(line) + len(line)])
    assert not is_cut(written)


def test_where_the_lock_was_removed_none_comes_back(project: Path, written: bytes) -> None:
    (project / "dvc.lock").unlink()
    assert keep_lock(project) == ""
    (project / "dvc.lock").write_bytes(without_last(written))
    assert keep_lock(project, killed=True) == ""
    assert (project / "dvc.lock").read_bytes() == without_last(written)


def test_only_a_repro_that_did_not_come_to_its_end_was_killed(project: Path) -> None:
    with repro_runs(project) as killed, repro_runs(project) as killed_too:
        assert (killed, killed_too) == (False, False)  # the first one still runs
        assert (project / MARK).is_file()
    assert not (project / MARK).exists()
    with pytest.raises(KeyboardInterrupt), repro_runs(project):
        raise KeyboardInterrupt
    with repro_runs(project) as killed:
        assert killed
    assert not (project / MARK).exists()


@pytest.mark.parametrize("place", [".dvc/config", ".dvc/config.local", "of_user/config", "of_machine/config"])
def test_where_dvc_locks_by_hard_links_nothing_is_done(
    project: Path, written: bytes, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(project / "of_user"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(project / "of_machine"))
    (project / place).parent.mkdir(exist_ok=True)
    (project / place).write_text("[core]\n    hardlink_lock = true\n")
    (project / "dvc.lock").write_bytes(written[:1000])
    (project / ".dvc/tmp/rwlock").write_bytes(b"cut")
    assert keep_lock(project) == drop_cut_rwlock(project) == ""
    assert (project / "dvc.lock").read_bytes() == written[:1000]


def test_dvc_itself_is_not_imported(project: Path, written: bytes) -> None:
    """At the beginning of each stage: its import takes longer than some of them."""
    (project / "dvc.lock").write_bytes(written)
    asked = "import sys; from pathlib import Path; from pipeline.core.lock_copy import keep_lock; keep_lock(Path()); "
    command = [sys.executable, "-c", f"{asked}print([name for name in sys.modules if name.startswith('dvc')])"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, check=True)
    assert done.stdout == b"[]\n"
    assert (project / COPY).read_bytes() == written


def test_nothing_is_done_while_dvc_writes_it(project: Path, written: bytes) -> None:
    held = LockFile(str(project / ".dvc/tmp/lock"))  # as DVC has it
    (project / "dvc.lock").write_bytes(written[:1000])
    assert keep_lock(project) == ""
    assert (project / "dvc.lock").read_bytes() == written[:1000]
    held.close()
    assert "is back" in keep_lock(project)


def test_a_lock_that_git_has_is_whole(project: Path, written: bytes) -> None:
    """As of a commit with fewer runs."""
    (project / "dvc.lock").write_bytes(without_last(written))
    for command in (["init", "--quiet"], ["add", "dvc.lock"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    assert keep_lock(project) == ""
    assert (project / "dvc.lock").read_bytes() == (project / COPY).read_bytes() == without_last(written)


def test_a_lock_of_other_stages_is_kept(project: Path, written: bytes) -> None:
    first, second = list(ENTRY.finditer(written))[:2]
    other = written[: first.start()] + written[second.start() :]
    (project / "dvc.lock").write_bytes(other)
    assert keep_lock(project) == ""
    assert (project / COPY).read_bytes() == other


def test_stages_and_repro_bring_it_back_and_what_reads_it_says_how(
    project: Path, written: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setattr("pipeline.config.repro.repro", lambda *_: None)
    for bring_back in (lambda: run(lambda name: "made"), lambda: main(["repro"])):
        (project / "dvc.lock").write_bytes(written[: len(written) // 2])
        with pytest.raises(InputError, match=r"dvc\.lock: cut while it was written; `pocketlens repro` puts"):
            read_lock(project)
        bring_back()
        assert "the last whole one is back" in capsys.readouterr().err
        assert (project / "dvc.lock").read_bytes() == written
        assert len(read_lock(project)) == len(RUNS) * 6
        keep_lock(project)


@pytest.mark.parametrize("content", [b"", b'{"read": {"a": [{"pid"'])
def test_a_list_of_dvc_that_was_cut_is_removed(project: Path, content: bytes) -> None:
    """DVC itself stops at it."""
    path = project / ".dvc/tmp/rwlock"
    path.write_bytes(content)
    held = LockFile(str(project / ".dvc/tmp/rwlock.lock"))  # as DVC has it while it writes
    assert drop_cut_rwlock(project) == ""
    held.close()
    assert drop_cut_rwlock(project) == f"{path}: cut while DVC wrote it, and removed: nobody has these files now"
    path.write_bytes(b'{"read": {}, "write": {}}')
    assert drop_cut_rwlock(project) == ""
    assert path.is_file()
