"""The data that comes with the project: drawn by code, seeded, in the formats that real data comes in."""

from pipeline.embedded.actions import draw_actions
from pipeline.embedded.coco import draw_herd, draw_pose
from pipeline.embedded.folders import draw_alpaca

__all__ = ["draw_actions", "draw_alpaca", "draw_herd", "draw_pose"]
