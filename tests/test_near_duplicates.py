"""Images that show the same: one side of a split each, without chains, and with a way out for a fixed camera."""

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_ingest import ledger, params, picture, run

from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS
from pipeline.datasets.ingest.similar import near_duplicates


def soft(seed, size, cells=(9, 8)):
    grid = np.random.default_rng(seed).integers(0, 256, (cells[1], cells[0], 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)


def yolo(root, frames, split=lambda _: ""):
    """A YOLO set of these images, in the folder of the split that `split` gives each."""
    for i, image in enumerate(frames):
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            (root / kind / split(i)).mkdir(parents=True, exist_ok=True)
            file = root / kind / split(i) / f"{i:03d}.{suffix}"
            image.save(file) if suffix == "png" else file.write_text(f"{i % 2} 0.5 0.5 0.3 0.3")
    (root / "classes.txt").write_text("car\nvan")
    return root


def fixed_camera(count=40):
    """Frames of one scene with a small thing in it that moves."""
    noise = np.random.default_rng(7)
    for i in range(count):
        image = Image.fromarray((np.asarray(soft(1, (96, 72))) * (0.9 + 0.2 * i / count) * 0.9).astype(np.uint8))
        image = Image.fromarray(np.clip(np.asarray(image) + noise.normal(0, 2, (72, 96, 3)), 0, 255).astype(np.uint8))
        x, y = random.Random(i).randint(0, 85), random.Random(-i).randint(0, 62)
        ImageDraw.Draw(image).rectangle((x, y, x + 8, y + 8), fill=(250, 40, 40))
        yield image


def given(i):
    return "train" if i < 26 else "val" if i < 33 else "test"


@pytest.mark.parametrize("split", [lambda _: "", given])
def test_a_fixed_camera_stops_it_and_names_the_way_out(tmp_path, split):
    root = yolo(tmp_path / "road", fixed_camera(), split)
    first = "000" if split(0) == "" else "test/033"
    said = rf"set: \d+ of 40 images are near-duplicates of images/{first}.png, one group.* identical \(or off"
    with pytest.raises(InputError, match=said) as error:
        run(tmp_path, params("yolo", root))
    assert "would be empty" in str(error.value)
    assert (tmp_path / "reports" / "data" / "ledger.csv").exists()
    for how in ("identical", "off"):
        summary, _ = run(tmp_path, params("yolo", root, near_duplicates=how), how)
        assert summary["kept"] == 40
        assert min(summary["splits"].values()) >= 7


def test_a_third_that_is_one_group_stops_it(tmp_path):
    frames = [*fixed_camera(12), *(soft(100 + i, (96, 72)) for i in range(24))]
    root = yolo(tmp_path / "road", frames)
    with pytest.raises(InputError, match=r"12 of 36 images are near-duplicates of images/000\.png, one group"):
        run(tmp_path, params("yolo", root))
    run(tmp_path, params("yolo", root, near_duplicate_bits=0), "closer")
    frames += [soft(200 + i, (96, 72)) for i in range(3)]
    summary, samples = run(tmp_path, params("yolo", yolo(tmp_path / "more", frames)), "more")
    assert len({samples[f"images-{i:03d}"].split for i in range(12)}) == 1
    assert summary["near_duplicate_pairs"] == 11


def test_a_crowd_that_the_source_itself_has_on_one_side_is_let_be(tmp_path):
    frames = [*fixed_camera(20), *(soft(100 + i, (96, 72)) for i in range(12))]
    root = yolo(tmp_path / "road", frames, lambda i: "train" if i < 20 else "val" if i < 26 else "test")
    summary, _ = run(tmp_path, params("yolo", root))
    assert summary["splits"] == {"train": 20, "val": 6, "test": 6}


def pan(count):
    """A camera that turns slowly: each frame is like its neighbours, and not like those further on."""
    wide = soft(3, (96 + count, 72), (8, 4))
    return [wide.crop((i, 0, i + 96, 72)) for i in range(count)]


def test_a_slow_pan_does_not_become_one_group(tmp_path):
    frames = [*pan(60), *(soft(100 + i, (96, 72)) for i in range(20))]
    summary, samples = run(tmp_path, params("yolo", yolo(tmp_path / "pan", frames)))
    groups = {samples[f"images-{i:03d}"].group or i for i in range(60)}
    assert 3 < len(groups) < 40
    assert min(summary["splits"].values()) > 5
    assert summary["kept"] == 80
    assert ("near_duplicates_apart", "noted") in {(rule, done) for _, _, rule, done in ledger(tmp_path)}
    text = (tmp_path / "reports" / "data" / "ledger.csv").read_text()
    assert "images are near-duplicates of one in val or test; all stay: they are of a long row" in text


def test_frames_of_a_pan_that_the_source_parts_leave_train(tmp_path):
    """Those that are like a test image themselves, and not those at the other end of the pan."""
    frames = [*pan(60), *(soft(100 + i, (96, 72)) for i in range(60))]
    root = yolo(tmp_path / "pan", frames, lambda i: ("train" if i < 50 else "test") if i < 60 else SPLITS[i % 3])
    summary, samples = run(tmp_path, params("yolo", root))
    assert 0 < summary["by_rule"]["leak"] < 20
    assert "images-train-000" in samples
    assert "images-train-049" not in samples


def test_triples_are_whole_and_names_do_not_join(tmp_path):
    """Three copies are one group; images of one name in two folders, none."""
    for place in ("a", "b", "c"):
        picture(tmp_path / "set" / "cat" / place / "1.jpg", 1, quality={"a": 95, "b": 60, "c": 40}[place])
        for i in range(2, 9):
            picture(tmp_path / "set" / "dog" / place / f"{i}.jpg", 100 * i + ord(place))
    _, samples = run(tmp_path, params("folder", tmp_path / "set", splits={"val": 0.2, "test": 0.2, "seed": 3}))
    assert {samples[f"cat-{place}-1"].group for place in "abc"} == {"cat-a-1"}
    assert all(s.group is None for name, s in samples.items() if name.startswith("dog"))


def test_flat_images_are_alike_only_with_the_same_pixels(tmp_path):
    """Dark, white and fog: their hashes are of noise."""
    for i in range(30):
        file = tmp_path / "set" / ("night" if i % 2 else "fog") / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 4, (40, 60, 3)) + (0 if i % 2 else 200)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    summary, _ = run(tmp_path, params("folder", tmp_path / "set"))
    assert (summary["kept"], summary["near_duplicate_pairs"]) == (30, 0)


def test_the_bound_is_the_last_distance_that_counts():
    """A column that no longer rises is a bit a row in the hash, and next to nothing in the thumbnail."""
    first = np.zeros((16, 17), np.uint8)
    first[:, ::2] = 100
    first[:8] += 120
    first[:, 16] = first[:, 15] + 1
    second = first.copy()
    second[:10, 16] = second[:10, 15]  # ten bits: no longer rising
    for bits, expected in ((9, []), (10, [(0, 1)]), (11, [(0, 1)])):
        found = near_duplicates(np.stack([first, second]), ["a", "b"], [None] * 2, "similar", bits)
        assert found.pairs() == expected


def test_sets_do_not_depend_on_the_order_and_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 256, (40, 16, 17))
    thumbnails = np.clip(seeds[rng.integers(0, 40, 300)] + rng.integers(-12, 12, (300, 16, 17)), 0, 255).astype(
        np.uint8
    )
    digests = [str(i) for i in range(300)]
    groups = [None if i % 3 else f"g{i % 7}" for i in range(300)]
    alone = [t.astype(float) - t.mean() for t in thumbnails]
    rising = (thumbnails[:, :, 1:] > thumbnails[:, :, :-1]).reshape(300, -1)
    parent = list(range(300))
    for a in range(300):
        for b in range(a + 1, 300):
            other = groups[a] is None or groups[a] != groups[b]
            correlation = (alone[a] * alone[b]).sum() / np.linalg.norm(alone[a]) / np.linalg.norm(alone[b])
            if other and (rising[a] != rising[b]).sum() <= 32 and correlation >= 0.975:
                old, new = sorted((parent[a], parent[b]), reverse=True)
                parent = [new if p == old else p for p in parent]
    sets = {tuple(i for i in range(300) if parent[i] == top) for top in set(parent)}
    expected = {s for s in sets if len(s) > 1}
    assert len(expected) > 20
    assert {tuple(s) for s in near_duplicates(thumbnails, digests, groups).sets} == expected
    order = rng.permutation(300)
    shuffled = near_duplicates(thumbnails[order], [digests[i] for i in order], [groups[i] for i in order])
    assert {tuple(sorted(order[s].tolist())) for s in shuffled.sets} == expected


@pytest.mark.parametrize("said", ["off", False])
def test_off_is_off_where_yaml_takes_the_word_for_false(said):
    assert params("folder", "somewhere", near_duplicates=said).near_duplicates == "off"
