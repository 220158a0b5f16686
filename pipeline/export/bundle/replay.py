"""Prove this folder where the app will run: images through the resize and the model files, against golden answers.

    pip install numpy pillow onnxruntime      # executorch for the .pte files, ai-edge-litert for the .tflite one
    python replay.py [folder]

Needs nothing else. Leaves out, and names, Core ML's file and those whose runtime is not installed. Exits with 1 where a
image or an answer is not as it should be, or nothing could be run.
"""

import hashlib
import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

LEVELS = 2  # of 255: how far a resize may be from the golden input


def canvas(image: Image.Image, contract: dict[str, Any]) -> np.ndarray:
    """An image as the model takes it, by the words of preprocess.json: uint8 RGB [1, S, S, 3]."""
    size, rule = contract["input"]["shape"][1], contract["resize"]
    image = ImageOps.exif_transpose(image).convert("RGB")
    width, height = image.size
    if rule == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    elif rule == "stretch":
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    else:
        ratio = size / max(width, height)
        inner = max(1, round(width * ratio)), max(1, round(height * ratio))
        whole = Image.new("RGB", (size, size), tuple(contract["fill"]))
        place = (size - inner[0]) // 2, (size - inner[1]) // 2
        whole.paste(image.resize(inner, Image.Resampling.BILINEAR), place)
        image = whole
    return steps(np.asarray(image), contract["preprocess"])[None]


def steps(pixels: np.ndarray, asked: list[dict[str, Any]]) -> np.ndarray:
    """The canvas, uint8 RGB [S, S, 3], after the steps of preprocess.json."""
    size = len(pixels)

    def around(reach: int) -> list[list[np.ndarray]]:
        """By row and column of a square of pixels: its pixel, for all squares at once."""
        padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge").astype(np.int64)
        span = range(2 * reach + 1)
        return [[padded[y : y + size, x : x + size] for x in span] for y in span]

    for step in asked:
        if step["step"] == "gray":
            luma = (pixels @ np.array([19595, 38470, 7471]) + 32768) >> 16
            pixels = np.stack([luma] * 3, axis=-1).astype(np.uint8)
        elif step["step"] == "gaussian":
            weights = {3: (1, 2, 1), 5: (1, 4, 6, 4, 1)}[step["side"]]
            rows, total = around(len(weights) // 2), sum(weights) ** 2
            sums = np.full(pixels.shape, total // 2)
            for y, x in np.ndindex(len(weights), len(weights)):
                sums += weights[y] * weights[x] * rows[y][x]
            pixels = (sums // total).astype(np.uint8)
        elif step["step"] == "median":
            pixels = np.median([pixel for row in around(1) for pixel in row], axis=0).astype(np.uint8)
        else:
            raise ValueError(f"preprocess.json: step {step['step']!r}; this script knows gray, gaussian and median")
    return pixels


def onnx(file: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would tell its makers of this machine
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})


def executorch(file: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(file.read_bytes())
    method = program.load_method("forward")

    def run(image: np.ndarray) -> list[np.ndarray]:
        assert program is not None  # kept: a method does not keep its program alive
        return [o.numpy().copy() for o in method.execute([torch.from_numpy(image.copy())])]

    return run


def litert(file: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()

    def run(image: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]

    return run


# by the `replay` of export.json: the package that it needs, and what opens a file
RUNNERS = {
    "onnx": ("onnxruntime", onnx),
    "executorch": ("executorch", executorch),
    "litert": ("ai_edge_litert", litert),
}


def check_resize(folder: Path, contract: dict[str, Any], golden: dict[str, Any], inputs: np.ndarray) -> list[str]:
    wrong = []
    for name, expected in zip(golden["images"], inputs, strict=True):
        with Image.open(folder / "golden" / name) as image:
            found = canvas(image, contract)[0]
        if found.shape != expected.shape:
            wrong.append(f"golden/{name}: {found.shape} after the resize, the golden input is {expected.shape}")
            continue
        off = int(np.abs(found.astype(int) - expected).max())
        if off > LEVELS:
            found_off = f"up to {off} of 255 from the golden input after resize and steps"
            wrong.append(f"golden/{name}: {found_off}, expected {LEVELS}")
    return wrong


def check_file(folder: Path, target: str, row: dict[str, Any], outputs: list[str], tolerance: float) -> list[str]:
    """What is wrong with the file of `target` (its `row` of export.json): its bytes, or its answers."""
    name = row["file"]
    file = folder / name
    if not file.exists():
        return [f"{name}: not there"]
    if hashlib.sha256(file.read_bytes()).hexdigest() != row["sha256"]:
        return [f"{name}: not the file that the golden answers are of (its sha256 differs)"]
    run = RUNNERS[row["replay"]][1](file)
    wrong = []
    with np.load(folder / "golden" / "golden.npz") as golden, np.load(folder / "golden" / f"{target}.npz") as expected:
        found = [np.concatenate(part) for part in zip(*(run(image[None]) for image in golden["image"]), strict=True)]
        for output, values in zip(outputs, found, strict=True):
            wanted = expected[output]
            off = float(np.abs(values - wanted).max() / max(1.0, float(np.abs(wanted).max())))
            if not off <= tolerance:
                wrong.append(f"{name}: output {output} is {off:.3g} of its range off, expected {tolerance}")
    return wrong


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    try:
        return replay(folder)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"WRONG {folder}: a file of the contract is missing, cut short or of another run: {error!r}")
        return 1


def replay(folder: Path) -> int:
    contract = json.loads((folder / "preprocess.json").read_text())
    golden = json.loads((folder / "golden" / "golden.json").read_text())
    with np.load(folder / "golden" / golden["arrays"]) as arrays:
        inputs = arrays["image"]
    wrong = check_resize(folder, contract, golden, inputs)
    if not wrong:
        print(f"{len(inputs)} images: the resize gives the golden inputs")
    ran = 0
    for target, row in json.loads((folder / "export.json").read_text())["targets"].items():
        if "not_run" in row:
            print(f"{row['file']}: left out, {row['not_run']}")
            continue
        if row["replay"] is None:
            print(f"{row['file']}: left out, this script has no way to run it")
            continue
        package = RUNNERS[row["replay"]][0]
        if importlib.util.find_spec(package) is None:
            print(f"{row['file']}: left out, {package} is not installed")
            continue
        found = check_file(folder, target, row, contract["outputs"], golden["tolerances"][target])
        ran += 1
        wrong += found
        if not found:
            print(f"{row['file']}: answers as it should")
    for line in wrong:
        print(f"WRONG {line}")
    if not ran:
        print(f"nothing was run: install one of {', '.join(sorted(package for package, _ in RUNNERS.values()))}")
    return 1 if wrong or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
