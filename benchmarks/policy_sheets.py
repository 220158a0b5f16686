"""The pictures of docs/augmentation.md: what each policy makes of a synthetic image, with its labels.

    python -m benchmarks.policy_sheets [OUT]

OUT is docs/images where it is not given. The first tile is the image, the others are draws by the seeds 0 to 10.
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from pipeline.augment.policies import POLICIES, augmenter
from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Sample
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.synthetic.coco import draw_pose
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.viz.sheets import contact_sheet, draw

COLUMNS, TILE, DRAWN = 6, 150, 11


def main(out: Path) -> None:
    with TemporaryDirectory() as one:
        draw_pose(Path(one), ImagesParams(images=10, side=224), 7)
        coco = FORMATS["coco"]
        reading = coco.read(Path(one), Path(one), coco.Options())
        found = next(c for c in reading.candidates if c.objects)
        image = open_image(found.file)
    dataset = Dataset("pose", reading.labels, reading.landmarks, reading.pairs, reading.skeleton)
    sample = Sample("image", "image.jpg", image.width, image.height, objects=found.objects)
    for policy in POLICIES:
        if policy == "none":
            continue
        augment, tiles = augmenter(policy, dataset), [(draw(image, sample, dataset), "the image")]
        for seed in range(DRAWN):
            pixels, objects = augment(np.asarray(image), sample.objects, seed)
            shown = replace(sample, objects=objects if "detect" in POLICIES[policy].tasks else [])
            tiles.append((draw(Image.fromarray(pixels), shown, dataset), f"seed {seed}"))
        contact_sheet(tiles, COLUMNS, TILE).save(out / f"augment_{policy}.jpg", quality=80, optimize=True)
        print(out / f"augment_{policy}.jpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images"))
