"""`make audit` asks all of the three, whatever one of them says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

FAULTS = "echo 'Found 2 known vulnerabilities in 1 package'; exit 1"
NPM_FAULTS = "echo '3 high severity vulnerabilities'; exit 1"
NO_NETWORK = "echo 'cannot reach the vulnerability service' >&2; exit 1"


@pytest.mark.parametrize(
    ("licences", "packages", "page", "code", "said"),
    [
        ("exit 0", "exit 0", "exit 0", 0, ["pip-audit: no fault is known", "npm audit: no fault is known"]),
        ("exit 0", NO_NETWORK, NO_NETWORK, 0, ["pip-audit: not asked", "npm audit: not asked"]),
        ("exit 0", FAULTS, "exit 0", 2, ["Found 2 known", "npm audit: no fault is known"]),
        ("exit 0", "exit 0", NPM_FAULTS, 2, ["pip-audit: no fault is known", "3 high severity"]),
        ("exit 1", NO_NETWORK, "exit 0", 2, ["pip-audit: not asked", "npm audit: no fault is known"]),
    ],
)
def test_all_are_asked(licences: str, packages: str, page: str, code: int, said: list[str], tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("no make")
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    for name, script in (("python", licences), ("uv", packages), ("npm", page)):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    command = ["make", "--no-print-directory", "-o", "setup", "audit", f"VENV={tmp_path}/venv", f"NPM={programs}/npm"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert [word for word in said if word not in done.stdout] == []
