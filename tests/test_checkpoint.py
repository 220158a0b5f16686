"""The file of a training's checkpoint."""

import tracemalloc
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import InputError
from pipeline.training.checkpoint import read_checkpoint, write_checkpoint


def test_a_checkpoint_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """But for its tensors, which torch keeps itself."""
    state = {"net": {str(i): torch.full((1 << 18,), float(i)) for i in range(16)}, "epoch": 3}
    write_checkpoint(tmp_path / "warm.ckpt", {"epoch": 0})
    read_checkpoint(tmp_path / "warm.ckpt")
    tracemalloc.start()
    try:
        write_checkpoint(tmp_path / "last.ckpt", state)
        found = read_checkpoint(tmp_path / "last.ckpt")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "last.ckpt").stat().st_size > 16 << 20
    assert most < 4 << 20
    assert found["epoch"] == 3
    assert all(torch.equal(found["net"][name], tensor) for name, tensor in state["net"].items())


@pytest.mark.parametrize("size", [0, 10, 32, 900])
def test_a_checkpoint_that_was_cut_is_damaged(tmp_path: Path, size: int) -> None:
    write_checkpoint(path := tmp_path / "last.ckpt", {"epoch": 3})
    assert path.stat().st_size > 900
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=f"damaged: its {size} bytes are not those that were written"):
        read_checkpoint(path)
