"""What to label next: typical images first, then uncertain ones that differ, and never ten times the same."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from test_ingest import picture

from pipeline.annotation import next as next_module
from pipeline.annotation import worth
from pipeline.annotation.choice import PER_CLIP, Taken, typical, uncertain
from pipeline.annotation.doubts import BOXES, RAREST, disagreement, doubt, entropy, rarity
from pipeline.cli import main
from pipeline.core.sample import Object, Sample, read_dataset
from pipeline.training.probe import pooled_features


def free(count: int, number: int) -> Taken:
    return Taken(range(count), [None] * count, number)


def blobs(rng: np.random.Generator, *sizes: int) -> np.ndarray:
    """Rows about as many different axes as there are `sizes`."""
    rows = [np.eye(8)[i] + rng.normal(0, 0.02, (size, 8)) for i, size in enumerate(sizes)]
    return np.concatenate(rows).astype(np.float32)


@pytest.mark.parametrize("count", [3, 5, 30])
def test_an_outlier_is_not_typical(count: int) -> None:
    rows = blobs(np.random.default_rng(0), 20, 20, 20, 1)
    chosen = typical(rows, rows[:0], count, free(61, count))
    assert len(set(chosen)) == count
    assert {i // 20 for i in chosen[:3]} == {0, 1, 2}, "one of each blob first"
    assert 60 not in chosen


def test_five_images_are_enough_and_all_can_be_asked_for() -> None:
    rows = blobs(np.random.default_rng(1), 3, 1, 1)
    assert sorted(typical(rows, rows[:0], 5, free(5, 5))) == [0, 1, 2, 3, 4]
    assert len(typical(rows, rows[:0], 9, free(5, 9))) == 5


def test_what_is_labelled_needs_no_more() -> None:
    rows = blobs(np.random.default_rng(2), 20, 10, 10)
    chosen = typical(rows, rows[:5], 2, free(40, 2))
    assert {i >= 30 for i in chosen} == {False, True}
    assert min(chosen) >= 20


def test_ten_copies_of_each_hard_image_are_chosen_once() -> None:
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.normal(size=(30, 8)), 10, axis=0).astype(np.float32)
    doubts = np.repeat(np.linspace(1, 0.1, 30), 10).astype(np.float32)
    groups = [i // 10 for i in range(300)]
    chosen = uncertain(rows, doubts, 20, Taken(groups, [None] * 300, 20))
    assert len({groups[i] for i in chosen}) == 20
    assert chosen[0] < 10, "the one with the most doubt comes first"
    far = uncertain(rows, doubts, 20, free(300, 20))
    assert len({groups[i] for i in far}) >= 15, "features alone tell copies apart from others"


def test_a_few_of_a_clip() -> None:
    rng = np.random.default_rng(4)
    rows, doubts = rng.normal(size=(100, 8)).astype(np.float32), np.linspace(1, 0, 100).astype(np.float32)
    clips = [f"clip{i // 20}" for i in range(100)]
    chosen = uncertain(rows, doubts, 10, Taken(range(100), clips, 10))
    assert len(chosen) == 10
    assert max(clips[i] for i in chosen) > "clip2"
    assert max([clips[i] for i in chosen].count(clip) for clip in set(clips)) <= PER_CLIP
    assert len(uncertain(rows[:20], doubts[:20], 10, Taken(range(20), clips[:20], 10))) == 10, "there is one clip"


def test_the_same_doubt_of_all_and_of_none() -> None:
    same = np.ones((6, 4), np.float32)
    for doubts in (np.ones(6, np.float32), np.zeros(6, np.float32)):
        assert sorted(uncertain(same, doubts, 6, free(6, 6))) == [0, 1, 2, 3, 4, 5]


def boxed(*objects: tuple[str, float], place: float = 0.0) -> Sample:
    made = [Object(label, (place, 0.1 * i, 0.2, 0.09), score=score) for i, (label, score) in enumerate(objects)]
    return Sample("1", "1.jpg", 64, 48, objects=made)


def test_doubt_of_boxes_is_capped_and_counts_rare_labels() -> None:
    weights = rarity(["cow"] * 96 + ["goat"] * 4)
    assert weights == {"cow": 1.0, "goat": pytest.approx(3.5355, abs=1e-3)}
    assert doubt(boxed(("cow", 0.5)), weights) == pytest.approx(1 / BOXES)
    assert doubt(boxed(("goat", 0.5)), weights) > 3 * doubt(boxed(("cow", 0.5)), weights)
    assert doubt(boxed(("hen", 0.5)), weights) == pytest.approx(RAREST / BOXES)
    assert doubt(boxed(*[("cow", 0.5)] * 30), weights) == pytest.approx(1.0)
    assert doubt(boxed(("cow", 0.99), ("cow", 0.01)), weights) < 0.01
    assert entropy(np.array([[1, 0, 0], [1 / 3] * 3], np.float32)) == pytest.approx([0, 1], abs=1e-5)


def test_disagreement_of_boxes() -> None:
    one = boxed(("cow", 0.9), ("goat", 0.6))
    assert disagreement(one, one) == pytest.approx(0, abs=1e-6)
    assert disagreement(one, boxed()) == 1
    assert disagreement(boxed(), boxed()) == 0
    assert disagreement(one, boxed(("cow", 0.9))) == pytest.approx(0.6 / 2.4)
    assert disagreement(one, boxed(("cow", 0.9), ("goat", 0.6), place=0.05)) > 0.3


def seen(rng: np.random.Generator, count: int, spread: float, copies: int = 1) -> worth.Images:
    """Three labels; of each image `copies`, which are one set of near-duplicates."""
    labels = np.arange(count) % 3
    rows = np.eye(3, 16)[labels] + rng.normal(0, spread, (count, 16))
    rows, labels = np.repeat(rows, copies, axis=0), np.repeat(labels, copies)
    groups = np.repeat(np.arange(count), copies).tolist()
    return worth.Images(rows.astype(np.float32), labels, groups, [None] * len(groups), 3)


def test_where_all_images_are_alike_random_is_as_good() -> None:
    images = seen(np.random.default_rng(5), 120, 0.01)
    found = worth.gain(images, [str(g) for g in images.groups])
    assert found is not None
    assert abs(found[0]) < 0.02
    assert found[0] < found[1]
    assert worth.gain_text(found).endswith("random is as good here")


def test_in_a_pool_of_copies_choosing_is_better_than_chance() -> None:
    """Of twelve images there are forty copies each, so that chance draws little else."""
    plain = seen(np.random.default_rng(6), 260, 0.6)
    rows = np.concatenate([np.repeat(np.arange(12), 40), np.arange(12, 260)])
    images = worth.Images(plain.features[rows], plain.labels[rows], rows.tolist(), [None] * len(rows), 3)
    pool, test = np.arange(600), np.arange(600, len(rows))
    ends = []
    for seed in range(4):
        start = np.random.default_rng(seed).permutation(pool)[:6]
        ends.append([np.mean(worth.curve(images, pool, test, start, [30, 60], how, seed)) for how in (False, True)])
    ours, chance = np.array(ends).T
    assert ours.mean() > chance.mean() + 0.03


def test_what_is_said_of_it() -> None:
    assert worth.gain_text((0.05, 0.02)).endswith("the choice is worth +0.050 accuracy (+0.030 to +0.070)")
    assert worth.gain_text((0.05, 0.06)).endswith(": random is as good here")
    assert worth.gain_text((-0.05, 0.01)).endswith(": random is as good here")
    images = seen(np.random.default_rng(0), 20, 0.1)
    assert "too little is labelled" in worth.gain_text(worth.gain(images, [str(i) for i in range(20)]))


def test_where_no_image_is_left_to_choose_nothing_is_measured() -> None:
    images = seen(np.random.default_rng(0), 90, 0.1)
    images.labels, images.count = np.arange(90) % 40, 40
    assert worth.gain(images, [str(i) for i in range(90)]) is None


@pytest.fixture
def animals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a dataset of 24 images, ingested, and a pool beside it: new images, copies, and a labelled one."""
    root = tmp_path / "animals"
    for i in range(12):
        picture(root / "cat" / f"{i}.jpg", i)
        picture(root / "dog" / f"{i}.jpg", 100 + i)
    for i in range(6):
        picture(tmp_path / "pool" / f"{i}.jpg", 500 + i)
        picture(tmp_path / "pool" / "clip" / f"{i}.jpg", 600 + i)
        picture(tmp_path / "pool" / f"again{i}.jpg", 500)
    (tmp_path / "pool" / "broken.jpg").write_bytes(b"no image")
    shutil.copy(root / "cat" / "0.jpg", tmp_path / "pool" / "labelled.jpg")
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("datasets: {}\nruns: {}\n")
    size = ["--set", "model.size=32", "--set", "dataset.splits.test=0.1", "--set", "dataset.splits.val=0.1"]
    main(
        [
            "add",
            "mine",
            "--data",
            str(root),
            "--task",
            "classify",
            "--from-scratch",
            "--backbone",
            "mobilenetv2_035",
            *size,
        ]
    )
    from pipeline.config.params import read_params
    from pipeline.datasets.ingest.ingest import ingest

    ingest("mine", read_params().dataset("mine"), Path("data/ingested/mine"), Path("reports/ingest/mine"))
    return tmp_path


def test_the_command(animals: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    capsys.readouterr()
    main(["next", "mine", "30", "--pool", "pool"])
    said = capsys.readouterr()
    ids = said.out.split()
    assert len(ids) == len(set(ids)) == 12, "6 alone, 6 of a clip; neither copies nor what is labelled"
    assert "labelled.jpg" not in ids
    assert sum(i.startswith("again") or i == "0.jpg" for i in ids) == 1
    assert "not looked at: pool/broken.jpg: " in said.err
    assert "reports/next/mine.csv: 12 images of 30: all others show what these or labelled ones show; " in said.err
    assert said.err.strip().endswith("too little is labelled to tell whether choosing pays here: random may be as good")
    with Path("reports/next/mine.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ids
    assert {row["why"] for row in rows} == {"typical: under 20 labels a class"}
    main(["next", "mine", "4", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert len({row["id"] for row in rows}) == 4
    assert {row["id"][:4] for row in rows} <= {"cat-", "dog-"}
    monkeypatch.setattr(worth, "FEW", 2)
    main(["next", "mine", "4", "--json"])
    assert all(row["why"].startswith("entropy out of fold ") for row in json.loads(capsys.readouterr().out))


def test_what_ingest_refuses_is_named_and_not_chosen(animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a pool: damaged ones that a mild reader opens, and what was refused before, as one that a person took out."""
    whole = Path("animals/cat/1.jpg").read_bytes()
    Path("animals/cat/cut.jpg").write_bytes(whole[: len(whole) // 2])
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save("animals/cat/out.png")
    rows = ["cat/cut.jpg,,unreadable,cut off,refused", "cat/out.png,,excluded,by ann,refused", "dog/1.jpg,,odd,x,noted"]
    ledger = Path("reports/ingest/mine/ledger.csv")
    ledger.write_text("\n".join([ledger.read_text().splitlines()[0], *rows]) + "\n")
    capsys.readouterr()
    main(["next", "mine", "3"])
    said = capsys.readouterr()
    told = "cat/cut.jpg, unreadable: cut off (refused); cat/out.png, excluded: by ann (refused)"
    assert f"2 files of the source are not among them, as `ingest` refused them: {told}\n" in said.err
    main(["next", "mine", "40", "--pool", "animals"])
    said = capsys.readouterr()
    assert "not looked at: animals/cat/out.png: excluded: by ann (refused)" in said.err
    assert "not looked at: animals/cat/cut.jpg: " in said.err
    assert "not looked at: 2 of 26 images of animals, which `ingest` refuses" in said.err
    assert not {"cat/cut.jpg", "cat/out.png"} & set(said.out.split())
    Path("animals/cat/bits.jpg").write_bytes(_damaged(whole))
    main(["next", "mine", "40", "--pool", "animals"])
    assert "not looked at: animals/cat/bits.jpg: " in capsys.readouterr().err


def _damaged(whole: bytes) -> bytes:
    """A JPEG with a code in it that there is not, which Pillow draws all the same."""
    start = whole.index(b"\xff\xda")
    return whole[: start + 60] + b"\xff\xd9" + whole[-2:]


def test_a_model_says_what_it_does_not_know(
    animals: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.config.params import read_params
    from pipeline.core.files import write_json
    from pipeline.core.spec import write_spec
    from pipeline.runtimes.on_torch import TorchRuntime
    from pipeline.training.train import pretrained_of, starting_net

    run, folder = read_params().run("mine"), Path("data/ingested/mine")
    net, spec = starting_net("mine", run, read_dataset(folder), [], pretrained_of("mine", run))
    write_spec("models/mine/model.json", spec)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, "models/mine/model.safetensors")
    monkeypatch.setattr(worth, "FEW", 2)
    capsys.readouterr()
    main(["next", "mine", "3", "--pool", "pool", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["why"] for row in rows] == [f"entropy {row['score']:.2f}" for row in rows]
    # an int8 file that says the same as the model, in the place of one that takes minutes to make
    write_json("exports/mine/export.json", {"targets": {"onnx_float": {}, "onnx_int8": {}}, "not_made": {}})
    monkeypatch.setattr(next_module, "exported_file", lambda *_: Path("models/mine"))
    monkeypatch.setattr(next_module, "open_runtime", lambda target, path: TorchRuntime(path, None))
    main(["next", "mine", "3", "--pool", "pool", "--json"])
    again = json.loads(capsys.readouterr().out)
    assert [row["why"] for row in again] == [f"{row['why']}, onnx_int8 differs by 0.00" for row in rows]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["mien", "3"], "no run and no dataset 'mien' in params.yaml; did you mean 'mine'?"),
        (["mine", "3", "--pool", "nosuch"], "--pool nosuch: no such folder; expected one with images"),
        (["mine", "3", "--pool", "empty"], "--pool empty: no image in it that can be read; expected some"),
    ],
)
def test_what_is_wrong_is_said(
    animals: Path, capsys: pytest.CaptureFixture[str], asked: list[str], message: str
) -> None:
    Path("empty").mkdir()
    with pytest.raises(SystemExit):
        main(["next", *asked])
    assert message in capsys.readouterr().err


def test_a_pool_has_the_same_features_as_the_dataset(animals: Path) -> None:
    """Its images lie in another folder, and are read from there."""
    from pipeline.config.params import read_params

    run, folder = read_params().run("mine"), Path("data/ingested/mine")
    pool = next_module.pool_images(Path("pool"), read_dataset(folder))
    features = pooled_features("mine", run, pool.dataset, folder, pool.samples, Path(".features"))
    by_id = dict(zip([s.id for s in pool.samples], features, strict=True))
    assert np.array_equal(by_id["again0.jpg"], by_id["0.jpg"])
    assert not np.array_equal(by_id["1.jpg"], by_id["0.jpg"])
    with Image.open(pool.samples[0].file_name) as image:
        assert image.size == (pool.samples[0].width, pool.samples[0].height)
