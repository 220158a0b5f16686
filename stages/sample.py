"""python -m stages.sample: synthetic clips, class folders and COCO sets, without any download -> data/sample/."""

from pathlib import Path

from pipeline.core.files import new_folder
from pipeline.core.resolved import Resolved
from pipeline.datasets.synthetic.params import SampleParams
from stages import run


def sample(_: str) -> str:
    params = Resolved().block(SampleParams, "sample")
    from pipeline.datasets.synthetic.actions import draw_actions
    from pipeline.datasets.synthetic.coco import draw_herd, draw_pose
    from pipeline.datasets.synthetic.folders import draw_alpaca

    root = Path("data/sample")
    with new_folder(root / "actions") as folder:
        clips = draw_actions(folder, params.actions, params.seed)
    with new_folder(root / "alpaca") as folder:
        alpaca = draw_alpaca(folder, params.alpaca, params.seed)
    with new_folder(root / "herd") as folder:
        herd = draw_herd(folder, params.herd, params.seed)
    with new_folder(root / "pose") as folder:
        pose = draw_pose(folder, params.pose, params.seed)
    return f"drew {root}: actions {clips} clips; alpaca {alpaca}, herd {herd}, pose {pose} images"


if __name__ == "__main__":
    run(sample)
