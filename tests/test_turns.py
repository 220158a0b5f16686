"""Commands that take turns with a file."""

from pathlib import Path

import pytest

from pipeline.core.errors import InputError
from pipeline.core.turns import turn


@pytest.mark.parametrize("dvc", [True, False])
def test_one_command_at_a_time_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dvc: bool) -> None:
    """Whoever runs it: the lock is the project's, where DVC has its own, and has no name of a user."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delattr("os.getuid")  # as on Windows
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    if dvc:
        (project / ".dvc/config").touch()
    params = project / "params.yaml"
    with turn(params):
        with pytest.raises(InputError, match="another command is writing it"), turn(params, wait_s=0):
            pass
        with turn(project / "other.yaml", wait_s=0):
            pass
    locks = list(tmp_path.rglob("*.lock"))
    assert len(locks) == 2
    assert {lock.parent for lock in locks} == {project / ".dvc/tmp" if dvc else tmp_path}
    assert {lock.stat().st_mode & 0o777 for lock in locks} == {0o666}
