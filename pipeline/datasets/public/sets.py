"""The table of public datasets. A row says where a set is, what is known of its files, and how it is laid out.

Checksums are those that the publisher, git LFS at the hub, torchvision or TensorFlow Datasets state.
"""

from dataclasses import dataclass

from pipeline.core.markdown import table
from pipeline.datasets.public import layouts
from pipeline.datasets.public.fetch import RemoteFile
from pipeline.datasets.public.layouts import Bring
from pipeline.datasets.public.open_images_subset import open_images


@dataclass(frozen=True, slots=True)
class PublicSet:
    """A set: `what` is in it and its `size` to download, for people, its `licence` and the `formats` that read it.

    `add` has what follows `pocketlens add` for each way to use it, with {to} for the folder.
    """

    what: str
    size: str
    licence: str
    formats: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    bring: Bring
    add: tuple[str, ...]


_UCF_CLIPS = RemoteFile("https://www.crcv.ucf.edu/data/UCF101/UCF101.rar")
_UCF_LISTS = RemoteFile(
    "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
    "sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
)
_UCF_SUBSET = RemoteFile(
    "https://huggingface.co/datasets/sayakpaul/ucf101-subset/resolve/"
    "b9984b8d2a95e4a1879e1b071e9433858d0bc24a/UCF101_subset.tar.gz",
    "sha256:e9fcc76af48d320be88c5265f2e0576ecd615956976f6ce4742fdf2b042b71eb",
)
_OPEN_IMAGES = "https://storage.googleapis.com/openimages"
_BOXES = {
    "train": RemoteFile(f"{_OPEN_IMAGES}/v6/oidv6-train-annotations-bbox.csv"),
    "validation": RemoteFile(f"{_OPEN_IMAGES}/v5/validation-annotations-bbox.csv"),
    "test": RemoteFile(f"{_OPEN_IMAGES}/v5/test-annotations-bbox.csv"),
}
_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
_PETS_IMAGES = RemoteFile(
    f"{_PETS}/images.tar.gz", "sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d"
)
_PETS_LABELS = RemoteFile(
    f"{_PETS}/annotations.tar.gz", "sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91"
)
_COCO128 = RemoteFile("https://github.com/ultralytics/assets/releases/download/v0.0.0/coco128.zip")
_COCO_LABELS = RemoteFile(
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    "sha256:113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
)
_COCO_VAL = RemoteFile(
    "http://images.cocodataset.org/zips/val2017.zip",
    "sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
)
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007"
_VOC_FILES = (
    RemoteFile(f"{_VOC}/VOCtrainval_06-Nov-2007.tar", "md5:c52e279531787c972589f7e41ab4ae64"),
    RemoteFile(f"{_VOC}/VOCtest_06-Nov-2007.tar", "md5:b6e924de25625d8de591ea690078ad9f"),
)

SETS: dict[str, PublicSet] = {
    "ucf101": PublicSet(
        "13,320 clips of 101 actions, with the official lists",
        "6.9 GB",
        "research use",
        ("ucf101",),
        (_UCF_CLIPS, _UCF_LISTS),
        layouts.ucf101(_UCF_CLIPS, _UCF_LISTS),
        ("ucf101 --data {to} --task classify",),
    ),
    "ucf101-subset": PublicSet(
        "405 clips of 10 of these actions, in train, val and test",
        "171 MB",
        "research use",
        ("ucf101",),
        (_UCF_SUBSET,),
        layouts.class_folders(_UCF_SUBSET),
        ("ucf101-subset --data {to} --task classify",),
    ),
    "alpaca": PublicSet(
        "Open Images with alpacas and as many without, in class folders, with boxes",
        "2.4 GB of labels, then single images",
        "boxes CC BY 4.0, images CC BY 2.0",
        ("folder", "open_images"),
        tuple(_BOXES.values()),
        open_images("/m/0pcr", "alpaca", _BOXES, "https://open-images-dataset.s3.amazonaws.com/{split}/{id}.jpg"),
        (
            "alpaca-photos --data {to}/images --task classify",
            "alpaca-boxes --data {to}/images --labels {to}/boxes --task detect",
        ),
    ),
    "oxford-pets": PublicSet(
        "7,349 photos of 37 breeds of cats and dogs, half of them with a box around the head",
        "811 MB",
        "CC BY-SA 4.0",
        ("folder", "voc"),
        (_PETS_IMAGES, _PETS_LABELS),
        layouts.oxford_pets(_PETS_IMAGES, _PETS_LABELS),
        (
            "pet-breeds --data {to}/images --task classify",
            "pet-heads --data {to}/images/train --labels {to}/annotations/xmls --task detect",
        ),
    ),
    "coco128": PublicSet(
        "the first 128 images of COCO 2017 with their boxes of 80 classes, to try things on",
        "7 MB",
        "labels CC BY 4.0, images Flickr's terms",
        ("yolo",),
        (_COCO128,),
        layouts.coco128(_COCO128),
        ("coco128 --data {to} --task detect",),
    ),
    "coco-val2017": PublicSet(
        "the 5,000 images of COCO's val2017 with their boxes of 80 classes",
        "1.1 GB; with --max 253 MB and single images",
        "labels CC BY 4.0, images Flickr's terms",
        ("coco",),
        (_COCO_LABELS, _COCO_VAL),
        layouts.coco(_COCO_LABELS, "instances_val2017.json", _COCO_VAL),
        ("coco-val2017 --data {to}/images --labels {to}/annotations --task detect",),
    ),
    "voc2007": PublicSet(
        "9,963 images with boxes of 20 classes, in train, val and test",
        "911 MB",
        "Flickr's terms",
        ("voc",),
        _VOC_FILES,
        layouts.voc(*_VOC_FILES),
        ("voc2007 --data {to}/VOCdevkit --task detect",),
    ),
}


def sets_table() -> str:
    """The public sets as the docs have them.

    >>> sets_table().splitlines()[0]
    '| set | what | to download | read as | licence | checksums known | from |'
    """
    rows = []
    for name, row in SETS.items():
        formats = ", ".join(f"`{one}`" for one in row.formats)
        known = [file.checksum.partition(":")[0] or "none" for file in row.files]
        checksums = ", ".join(dict.fromkeys(known))
        addresses = " ".join(f"<{file.url}>" for file in row.files)
        rows.append([f"`{name}`", row.what, row.size, formats, row.licence, checksums, addresses])
    return table(["set", "what", "to download", "read as", "licence", "checksums known", "from"], rows)
