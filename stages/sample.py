"""Draw the embedded data: clips, class folders and COCO sets, without any download."""

from pathlib import Path

from pipeline.config.params import Params
from pipeline.core.files import new_folder
from stages import run


def body(params: Params, _: str) -> str:
    from pipeline.datasets.synthetic.actions import draw_actions
    from pipeline.datasets.synthetic.coco import draw_herd, draw_pose
    from pipeline.datasets.synthetic.folders import draw_alpaca

    sample, root = params.sample, Path("data/sample")
    with new_folder(root / "actions") as folder:
        clips = draw_actions(folder, sample.actions, sample.seed)
    with new_folder(root / "alpaca") as folder:
        alpaca = draw_alpaca(folder, sample.alpaca, sample.seed)
    with new_folder(root / "herd") as folder:
        herd = draw_herd(folder, sample.herd, sample.seed)
    with new_folder(root / "pose") as folder:
        pose = draw_pose(folder, sample.pose, sample.seed)
    return f"drew {root}: actions {clips} clips; alpaca {alpaca}, herd {herd}, pose {pose} pictures"


if __name__ == "__main__":
    run(body)
