"""The one table of export targets: what each file is, what makes it, what runs it and what it is held against.

Nothing heavy is imported here: a place such as "pipeline.runtimes.on_onnx:OnnxRuntime" is imported once it is used. A
new target is a row of `TARGETS`; one that another runtime runs has an `Engine` of its own too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.core.lazy import load
from pipeline.core.markdown import table
from pipeline.core.params import nearest

if TYPE_CHECKING:
    from pipeline.runtimes.runtime import Runtime

TORCH = "torch"  # in place of a target: the trained net itself, as it lies in models/<run>


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs the files of one kind, and what else can be done with them; a place is "module:name".

    It has a `runtime`, or in its stead `not_run` and `inspect`. An int8 file that is run needs `operators`: `verify`
    holds it to have layers in int8.
    """

    name: str  # for people
    tag: str  # in the model card
    oldest: str = ""  # the oldest version that is known to run its files; "": no other than that of `package` here
    package: str = ""  # the distribution that `runtime` is of, where `oldest` is not stated
    runtime: str = ""  # place of a class that takes a path and a number of threads: see `runtime.Runtime`
    not_run: str = ""  # why no runtime here can run its files
    inspect: str = ""  # where it is not run: place of a function that says what a file says of itself
    packages: tuple[str, ...] = ()  # what a registered model needs to run it; without any it is not registered
    operators: str = ""  # place of a function from a file to its operators: see `verification.operators`
    layers: str = ""  # place of a function that compares its layers with a float ONNX file's
    memory: str = ""  # place of a function that loads a file, as it is measured: see `verification.memory`
    replay: str = ""  # which of the runners of the bundle's replay.py runs it

    @property
    def oldest_version(self) -> str | None:
        """The oldest version that is known to run its files, for those who got them; None where none is known.

        Raises PackageNotFoundError if it is that of `package`, which is not installed.
        """
        return self.oldest or (version(self.package) if self.package else None)


@dataclass(frozen=True, slots=True)
class Target:
    """A form in which a model ships."""

    file: str  # its name, in exports/<run>/
    engine: Engine
    exporter: str  # place of the function that writes it: see `export`
    int8: bool  # its layers are int8; it is held to `size_ratio`, and not to the float tolerance
    numbers: str  # for people
    held_against: str | None = None  # the float target whose size its own is compared with; None: the trained weights
    budgeted: bool = False  # its exporter takes `budget`: the share of its bytes for layers that stay float
    slow: int = 0  # exporters run side by side, those with the highest number first

    @property
    def export(self) -> Callable[..., dict[str, Any]]:
        """`export(deployed, calibration, path, output_names)` writes `path` and returns facts about it.

        `deployed` takes uint8 RGB [1, S, S, 3] and returns a tuple of float tensors, named by `output_names`;
        `calibration` holds such images, from train, at least one.
        """
        function: Callable[..., dict[str, Any]] = load(self.exporter)
        return function


PYTORCH = Engine(name="PyTorch", tag="pytorch", runtime="pipeline.runtimes.on_torch:TorchRuntime")
ONNX = Engine(
    name="ONNX Runtime",
    tag="onnx",
    oldest="1.15",  # the files are run in it by tests/test_targets.py; what they need is OPSET of export.targets.onnx
    runtime="pipeline.runtimes.on_onnx:OnnxRuntime",
    packages=("onnxruntime",),
    operators="pipeline.verification.operators:onnx_operators",
    layers="pipeline.verification.layer_noise:onnx_layers",
    memory="pipeline.verification.memory:onnx",
    replay="onnx",
)
EXECUTORCH = Engine(
    name="ExecuTorch, XNNPACK",
    tag="executorch",
    package="executorch",  # its policy promises nothing of a runtime that is older than what wrote the file
    runtime="pipeline.runtimes.on_executorch:ExecutorchRuntime",
    packages=("executorch", "torch"),
    operators="pipeline.verification.operators:executorch_operators",
    memory="pipeline.verification.memory:executorch",
    replay="executorch",
)
LITERT = Engine(
    name="LiteRT, XNNPACK",
    tag="litert",
    package="ai-edge-litert",
    runtime="pipeline.runtimes.on_litert:LitertRuntime",
    operators="pipeline.verification.operators:litert_operators",
    replay="litert",
)
COREML = Engine(
    name="Core ML",
    tag="coreml",
    oldest="iOS 16, macOS 13",  # what the exporter has the program made for
    not_run="not run: Core ML needs an Apple machine",
    inspect="pipeline.runtimes.on_coreml:inspect",
)

# in the order of the docs and reports; of those that can be registered the first engine is served
TARGETS: dict[str, Target] = {
    "onnx_float": Target(
        file="model.onnx",
        engine=ONNX,
        exporter="pipeline.export.targets.onnx:export_float",
        int8=False,
        numbers="float32",
    ),
    "onnx_int8": Target(
        file="model.int8.onnx",
        engine=ONNX,
        exporter="pipeline.export.targets.onnx:export_int8",
        int8=True,
        numbers="static int8",
        held_against="onnx_float",
        budgeted=True,
        slow=1,
    ),
    "executorch_float": Target(
        file="model.pte",
        engine=EXECUTORCH,
        exporter="pipeline.export.targets.executorch:export_float",
        int8=False,
        numbers="float32",
        slow=3,
    ),
    "executorch_int8": Target(
        file="model.int8.pte",
        engine=EXECUTORCH,
        exporter="pipeline.export.targets.executorch:export_int8",
        int8=True,
        numbers="static int8",
        held_against="executorch_float",
        budgeted=True,
        slow=4,
    ),
    "litert": Target(
        file="model.int8.tflite",
        engine=LITERT,
        exporter="pipeline.export.targets.litert:export_int8",
        int8=True,
        numbers="static int8",
        slow=5,
    ),
    "coreml": Target(
        file="model.mlpackage",
        engine=COREML,
        exporter="pipeline.export.targets.coreml:export_int8",
        int8=True,
        numbers="int8 weights, float16 between",
        slow=2,
    ),
}


def check_targets(targets: Mapping[str, Target]) -> None:
    """Raises ValueError for rows that cannot stand side by side: two of one file, one held against no known one."""
    files = [row.file for row in targets.values()]
    for name, row in targets.items():
        if files.count(row.file) > 1:
            raise ValueError(f"target {name}: {row.file} is the file of another one too")
        if row.held_against is not None and row.held_against not in targets:
            raise ValueError(f"target {name}: held_against: no target {row.held_against!r}")


check_targets(TARGETS)


def target_row(name: str) -> Target:
    """The row of target `name`. Raises InputError naming the nearest one if there is none."""
    if name not in TARGETS:
        raise InputError(f"no export target {name!r}{nearest(name, TARGETS)}")
    return TARGETS[name]


def open_runtime(target: str, path: Path, threads: int | None = None) -> "Runtime":
    """`path`: the model's folder for "torch", an exported file for the other targets.

    `threads` of None is one thread, but for ExecuTorch the machine's cores, and for "torch" as many as torch has.

    Raises InputError naming `path` if it is missing, cut short or of another kind, and what is missing if its runtime
    is not installed or cannot be.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    try:
        engine = PYTORCH if target == TORCH else target_row(target).engine
        if engine.not_run:
            raise InputError(f"{path}: {engine.not_run}")
        runtime: Runtime = load(engine.runtime)(path, threads)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {not_installed(error)}") from None
    return runtime


def not_installed(error: ModuleNotFoundError) -> str:
    """What to say, and to do, about a package that is not there."""
    return f"the package of {error.name} is not installed; `make setup` installs all that is needed"


def targets_table() -> str:
    """The targets as a Markdown table, for the docs."""
    rows = [
        (
            f"`{name}`",
            f"`{row.file}`",
            row.numbers,
            f"`{row.held_against}`" if row.held_against else "the trained weights" if row.int8 else "–",
            row.engine.not_run or row.engine.name,
            row.engine.oldest or "the one here" if row.engine.oldest or row.engine.package else "–",
        )
        for name, row in TARGETS.items()
    ]
    head = ("target", "file", "numbers", "size held against", "run here by", "oldest version known to run it")
    return table(head, rows)
