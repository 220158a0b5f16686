"""The data that comes with the project: drawn by code, seeded, in the formats that real data comes in."""

from pipeline.datasets.synthetic.actions import draw_actions
from pipeline.datasets.synthetic.coco import draw_herd, draw_pose
from pipeline.datasets.synthetic.folders import draw_alpaca

__all__ = ["draw_actions", "draw_alpaca", "draw_herd", "draw_pose"]
