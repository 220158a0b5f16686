"""Make weights/mobilenetv2_050.drawn.safetensors anew: python weights/make.py (about ten minutes on two cores)."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "params.yaml", folder)
        for stage in (["params"], ["sample"], ["ingest", "pose"], ["augment", "pose"], ["train", "pose"]):
            command = [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]]
            subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(HERE.parent)}, check=True)
        trained = load_file(Path(folder) / "models/pose/model.safetensors")
    body = {name.removeprefix("body."): t for name, t in trained.items() if name.startswith("body.")}
    half = {name: t.half() if t.is_floating_point() else t for name, t in body.items()}
    save_file(half, HERE / "mobilenetv2_050.drawn.safetensors")


if __name__ == "__main__":
    main()
