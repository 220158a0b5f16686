"""From the graph's outputs to objects in the image's frame."""

import numpy as np
import pytest

from pipeline.core.errors import InputError
from pipeline.core.spec import ModelSpec
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import Frame

WHOLE = Frame(1, 1, 0, 0)


def spec(task: str, outputs: list[str], landmarks: int = 0, strides: tuple[int, ...] = ()) -> ModelSpec:
    return ModelSpec(
        run="r",
        dataset="d",
        task=task,
        labels=["cat", "dog"],
        landmarks=[f"p{i}" for i in range(landmarks)],
        pairs=[],
        skeleton=[],
        backbone="mobilenetv2_050",
        head={},
        size=64,
        resize="letterbox",
        mean=[0, 0, 0],
        std=[1, 1, 1],
        predict={"score": 0.5, "nms": "hard", "nms_iou": 0.5, "max_objects": 10},
        outputs=outputs,
        strides=list(strides),
        boxes="distances" if task == "detect" else "",
    )


def test_classify() -> None:
    label, scores, objects = decode([np.array([0.0, 1.0], np.float32)], spec("classify", ["logits"]), WHOLE)
    assert label == "dog"
    assert scores == pytest.approx({"cat": 0.268941, "dog": 0.731059})
    assert objects == []


@pytest.mark.parametrize(("logit", "count"), [(2.0, 1), (-2.0, 0)])
def test_localize_says_nothing_where_p_c_is_low(logit: float, count: int) -> None:
    outputs = [[logit], [0.25, 0.25, 0.5, 0.5], [3.0, 0.0], [0.5, 0.5, 0.75, 0.25]]
    names = ["presence", "box", "classes", "landmarks"]
    arrays = [np.array(o, np.float32) for o in outputs]
    # the image fills the canvas' upper half
    _, _, objects = decode(arrays, spec("localize", names, 2), Frame(1, 0.5, 0, 0))
    assert len(objects) == count
    for o in objects:
        assert o.label == "cat"
        assert o.box == pytest.approx((0.25, 0.5, 0.5, 0.5))  # clipped at the lower edge
        assert [(p.x, p.y) for p in o.landmarks] == [(0.5, 1.0), (0.75, 0.5)]


def test_detect_one_cell() -> None:
    scores = np.full((2, 2, 2), -9.0, np.float32)
    boxes, points = np.zeros((4, 2, 2), np.float32), np.zeros((3, 2, 2), np.float32)
    scores[1, 0, 1] = 3
    boxes[:, 0, 1] = [0.5, 0.25, 0.25, 0.5]
    points[:, 0, 1] = [0.25, -0.25, 5]
    names = ["scores_32", "boxes_32", "landmarks_32"]
    _, _, [o] = decode([scores, boxes, points], spec("detect", names, 1, (32,)), WHOLE)
    # the cell's centre is (48, 16) of 64 pixels
    assert o.label == "dog"
    assert o.score == pytest.approx(0.952574)
    assert o.box == pytest.approx((0.5, 0.125, 0.375, 0.375))
    assert (o.landmarks[0].x, o.landmarks[0].y) == pytest.approx((0.875, 0.125))


@pytest.mark.parametrize("boxes", ["", "corners"])
def test_a_form_of_boxes_that_is_unknown_or_missing_is_named(boxes: str) -> None:
    made = spec("detect", ["scores_32", "boxes_32"], strides=(32,))
    made.boxes = boxes
    arrays = [np.zeros((2, 2, 2), np.float32), np.zeros((4, 2, 2), np.float32)]
    with pytest.raises(
        InputError, match=rf"model.json of run 'r': boxes '{boxes}'; expected one of distances, anchors"
    ):
        decode(arrays, made, WHOLE)


def test_detect_nothing_where_every_score_is_low() -> None:
    shapes = {"scores_32": 2, "boxes_32": 4, "landmarks_32": 9}
    arrays = [np.full((channels, 2, 2), -9, np.float32) for channels in shapes.values()]
    assert decode(arrays, spec("detect", list(shapes), 3, (32,)), WHOLE) == (None, None, [])


@pytest.mark.parametrize(("nms", "x", "point"), [("hard", 0.125, 0.875), ("vote", 0.1875, 0.8125)])
def test_two_cells_that_see_one_object_have_a_vote_each(nms: str, x: float, point: float) -> None:
    """Cells with their centres at x = 32 and 96 of 128: one says from 16 to 112, the other, by as much, from 32."""
    scores, points = np.full((2, 1, 2), -9.0, np.float32), np.zeros((3, 1, 2), np.float32)
    scores[0] = [[3.001, 3.0]]
    boxes = np.array([[[0.25, 1.0]], [[0.5, 0.5]], [[1.25, 0.25]], [[0.5, 0.5]]], np.float32)
    points[:2, 0] = [[1.25, 0.0], [0.0, 0.0]]
    made = spec("detect", ["scores_64", "boxes_64", "landmarks_64"], 1, (64,))
    made.size, made.predict["nms"] = 128, nms
    _, _, [o] = decode([scores, boxes, points], made, WHOLE)
    assert o.box == pytest.approx((x, 0, 0.875 - x, 0.5), abs=1e-3)
    assert o.score == pytest.approx(0.952619, abs=1e-5), "the best one's"
    assert (o.landmarks[0].x, o.landmarks[0].y) == pytest.approx((point, 0.25), abs=1e-3)
