"""`actions`: clips of three actions by people, in the layout of UCF101."""

import io
import math
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

from pipeline.core.files import write_text
from pipeline.core.parallel import each
from pipeline.datasets.synthetic import props
from pipeline.datasets.synthetic.canvas import SCALE, Canvas, finish, generator
from pipeline.datasets.synthetic.motions import MOTIONS
from pipeline.datasets.synthetic.params import ActionsParams
from pipeline.datasets.synthetic.people import Person, draw_person
from pipeline.datasets.synthetic.scenery import court_lines, indoors, outdoors
from pipeline.datasets.synthetic.solids import View, render

MARGIN = 1.5  # the place is that much wider than a frame, for the camera to follow
PLACES = {  # where people do it, as in UCF101 mostly at places of its own
    "Basketball": ("court", "court", "clay"),
    "JumpingJack": ("room",),
    "WalkingWithDog": ("grass", "meadow"),
}
ANYWHERE = ("court", "clay", "gym", "room", "grass", "meadow", "dry", "sand")
FACING = {"Basketball": (0.8, 0.6), "JumpingJack": (math.pi / 2, 0.35), "WalkingWithDog": (0.0, 0.3)}  # yaw, spread


def draw_actions(folder: Path, params: ActionsParams, seed: int) -> int:
    """Write `folder`/videos/<Class>/v_<Class>_gNN_cNN.avi and `folder`/ucfTrainTestlist; returns how many clips."""
    clips = [
        (name, group, clip)
        for name in sorted(MOTIONS)
        for group in range(1, params.groups + 1)
        for clip in range(1, params.clips + 1)
    ]
    for name in MOTIONS:
        (folder / "videos" / name).mkdir(parents=True)
    each(partial(_clip, folder, params, seed), clips, "draw actions")
    _write_lists(folder / "ucfTrainTestlist", clips, params.groups)
    return len(clips)


def clip_name(action: str, group: int, clip: int) -> str:
    return f"{action}/v_{action}_g{group:02d}_c{clip:02d}.avi"


def _write_lists(folder: Path, clips: list[tuple[str, int, int]], groups: int) -> None:
    """UCF101's three train and test lists: in each another quarter of the groups is for the test."""
    classes = sorted(MOTIONS)
    write_text(folder / "classInd.txt", "".join(f"{k} {name}\n" for k, name in enumerate(classes, 1)))
    quarter = min(math.ceil(groups / 4), groups - 1)  # one group alone is for training
    for number in (1, 2, 3):
        test = {((number - 1) * quarter + k) % groups + 1 for k in range(quarter)}
        rows = [(clip_name(*clip), classes.index(clip[0]) + 1, clip[1] in test) for clip in clips]
        train = "".join(f"{name} {k}\n" for name, k, is_test in rows if not is_test)
        write_text(folder / f"trainlist{number:02d}.txt", train)
        write_text(folder / f"testlist{number:02d}.txt", "".join(f"{name}\n" for name, _, is_test in rows if is_test))


def _clip(folder: Path, params: ActionsParams, seed: int, clip: tuple[str, int, int]) -> None:
    action, group, number = clip
    height, width = params.side, 2 * round(params.side * 2 / 3)
    rng = generator(seed, action, group)  # the person, the place and the light are the group's
    person = draw_person(rng)
    place = _place(rng, _kinds(action, group), round(width * MARGIN), height)
    rate = int(rng.integers(12, 26))
    rng = generator(seed, action, group, number)
    frames = _film(rng, action, person, place, params.frames, rate, width)
    (folder / "videos" / clip_name(action, group, number)).write_bytes(_avi(frames, rate))


def _kinds(action: str, group: int) -> tuple[str, ...]:
    """One group in ten is out of place, in each action another one and so one in each test list."""
    return ANYWHERE if (group + 3 * sorted(MOTIONS).index(action)) % 10 == 2 else PLACES[action]


def _place(rng: np.random.Generator, kinds: tuple[str, ...], width: int, height: int) -> Canvas:
    kind = kinds[rng.integers(len(kinds))]
    if kind in ("gym", "room"):
        canvas = indoors(rng, width, height)
    else:
        canvas = outdoors(rng, width, height, kind, rng.uniform(0.3, 0.5))
    floor = canvas.height - canvas.horizon
    if kind in ("gym", "court", "clay"):
        court_lines(canvas, rng)
        if rng.random() < 0.8:
            spot = rng.uniform(0.25, 0.75) * canvas.width, canvas.horizon + rng.uniform(0.1, 0.3) * floor
            canvas.paste(props.hoop(rng, canvas.height * rng.uniform(0.18, 0.25), canvas.light), *spot)
    elif kind != "room":
        for _ in range(int(rng.integers(1, 5))):
            thing = (props.tree, props.tree, props.bush, props.house, props.car)[rng.integers(5)]
            spot = rng.uniform(0, 1) * canvas.width, canvas.horizon + rng.uniform(0.05, 0.25) * floor
            canvas.paste(thing(rng, canvas.height * rng.uniform(0.13, 0.2), canvas.light), *spot)
    return canvas


def _film(
    rng: np.random.Generator, action: str, person: Person, place: Canvas, count: int, rate: int, width: int
) -> list[np.ndarray]:
    """`count` frames of one clip, the camera going along a little and shaking."""
    height = place.height // SCALE
    motion = MOTIONS[action](person, rng)
    scale = rng.uniform(0.62, 0.9) * place.height / 1.9
    middle, spread = FACING[action]
    yaw = middle + rng.normal(0, spread)
    yaw = math.pi - yaw if rng.random() < 0.5 else yaw
    view = View(yaw, rng.uniform(0.03, 0.15), scale)
    path = math.cos(yaw) * scale * np.array([motion(k / rate)[1] for k in range(count)])
    follow = rng.uniform(0.3, 0.8)  # how far the camera goes along
    foot = rng.uniform(0.9, 0.98) * place.height
    shake = np.cumsum(rng.normal(0, rng.uniform(0.2, 1.2), (count, 2)), axis=0) * min(1.0, 12 / count)
    room = place.width - SCALE * width
    centre = place.width / 2 + rng.normal(0, 0.08) * SCALE * width
    soft, grain = rng.uniform(0, 0.7), rng.uniform(1, 5)
    frames = []
    for k in range(count):
        figure, _ = motion(k / rate)
        gone = path[k] - path.mean()
        left = round(np.clip(room / 2 + follow * gone + shake[k, 0], 0, room))
        canvas = place.copy()
        canvas.paste(render(figure, view, place.light, 1), centre + gone, foot + shake[k, 1] / 2)
        frames.append(finish(canvas.image[:, left : left + SCALE * width], width, height, rng, soft, grain))
    return frames


def _avi(frames: list[np.ndarray], rate: int) -> bytes:
    """MPEG-4 in AVI, as UCF101 has it; bit-exact, so that the same frames give the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.flags |= Flags.bitexact
        context.codec_tag = "XVID"
        context.qmin, context.qmax = 2, 5
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
