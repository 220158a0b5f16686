"""Files of few bytes that stand for much, or of which a reader would end the process: each is refused by name, soon and
in little memory. Bombs of labels are in test_bad_labels.py, archives in test_unpack.py.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.files import read_figures
from pipeline.core.yaml_text import yaml_value

MEMORY, SECONDS = 4 << 30, 30  # of address space, in which the interpreter and its libraries have 2; of the processor
TENTHS = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 6))
ALIASES = f"  a0: &a0 [ha, ha, ha, ha]\n{TENTHS}"
READS = """
import sys
from pathlib import Path
from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.layer import read_layer
from pipeline.core.resolved import Resolved
from pipeline.core.sample import read_samples
from pipeline.core.spec import read_spec
from pipeline.datasets.formats import FORMATS
from pipeline.tracking.dvc_state import read_lock
folder = Path(sys.argv[1])
readers = {
    "params.yaml": read_params, "resolved.yaml": Resolved, "dvc.lock": lambda file: read_lock(file.parent),
    "data.yaml": lambda file: FORMATS["yolo"].read(file.parent, file.parent, FORMATS["yolo"].Options()),
    "metrics.json": read_json, "model.json": read_spec, "round1.jsonl": read_layer,
    "metadata.jsonl": lambda file: read_samples(file.parent),
}
for file in sorted(folder.rglob("*.*")):
    if file.name in readers:
        try:
            readers[file.name](file)
            print(file.name, "was read")
        except InputError as error:
            print(file.name, len(str(error)), str(error).replace(str(file.parent), ""))
"""


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def test_what_is_nested_a_hundred_thousand_deep_ends_no_process(tmp_path: Path) -> None:
    """In one process for all: a reader that is ended by the system says nothing of the others."""
    lists, maps = "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000
    names = ("params.yaml", "resolved.yaml", "dvc.lock", "data.yaml")
    for kind, text in (("lists", lists), ("maps", maps), ("blocks", "- " * 100_000 + "1")):
        (tmp_path / kind).mkdir()
        for name in (*names, *(() if kind == "blocks" else ("metrics.json", "model.json", "round1.jsonl"))):
            (tmp_path / kind / name).write_text(f"datasets: {text}" if name in names and kind != "blocks" else text)
        (tmp_path / kind / "a.jpg").touch()
    (tmp_path / "lists/metadata.jsonl").write_text(maps)
    done = subprocess.run(
        [sys.executable, "-c", READS, str(tmp_path)], preexec_fn=limited, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    said = done.stdout.splitlines()
    assert len(said) == 19 and not [line for line in said if line.endswith("was read")]
    assert all(int(line.split()[1]) < 400 for line in said), "an error is a line, not the bomb"


@pytest.mark.parametrize("key", ["datasets", "runs", "sample", "machine", "track", "compare"])
def test_aliases_in_a_known_key_are_a_short_error(key: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"{key}:\n{ALIASES}")
    with pytest.raises(InputError) as said:
        read_params(tmp_path / "params.yaml")
    assert len(str(said.value)) < 4000


def test_a_long_value_is_cut_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"machine: {{workers: {'9' * 4000}x}}\ntrack: [{'ha, ' * 4000}]\n")
    with pytest.raises(InputError) as said:
        read_params(tmp_path / "params.yaml")
    assert len(str(said.value)) < 1000


def test_a_cell_that_is_longer_than_csv_takes_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(f"epoch,loss\n0,{'9' * 200_000}\n")
    with pytest.raises(InputError, match=r"history\.csv: expected a number in each cell"):
        read_figures(tmp_path / "history.csv")


MERGED = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 8))


@pytest.mark.parametrize("inner", ["{x: 1}", "{x: 1, <<: {y: 2}}"])
def test_aliases_that_are_merged_are_refused_before_they_are(inner: str) -> None:
    with pytest.raises(InputError, match=r"data\.yaml: more than 1000000 values"):
        yaml_value(f"a0: &a0 {inner}\n{MERGED}", "data.yaml")


def test_few_merged_keys_are_read() -> None:
    text = "a: &a {x: 1}\nb: {<<: [*a, *a], y: 2}\nc: *a\n"
    assert yaml_value(text, "data.yaml")["b"] == {"x": 1, "y": 2}


def test_aliases_are_no_deeper_than_brackets() -> None:
    chain = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 120))
    with pytest.raises(InputError, match="more than 100 levels"):
        yaml_value(chain, "data.yaml")
    yaml_value("".join(chain.splitlines(keepends=True)[:90]), "data.yaml")
