"""Splits stay as data grows: what has been assigned neither moves nor goes; its record is whole or an error."""

import csv
import random
import re
import shutil
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ingest import clip, hashes, ledger, params, picture

from pipeline.core.errors import InputError
from pipeline.core.files import new_folder
from pipeline.core.sample import SPLITS, Sample
from pipeline.datasets.ingest import ingest as chain
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.ingest.record import HEADER, Record, read_record, write_record
from pipeline.datasets.ingest.splits import assign
from pipeline.datasets.params import SplitParams

PARAMS = SplitParams(val=0.2, test=0.2, seed=0)
STEPS = 10


def stars(edges, ids):
    """The first of each set of images that are joined, with each other one of it."""
    sets = {i: {i} for i in ids}
    for a, b in edges:
        if sets[a] is not sets[b]:
            sets[a] |= sets[b]
            for i in sets[b]:
                sets[i] = sets[a]
    return sorted({(min(one), i) for one in sets.values() for i in one - {min(one)}})


def step(samples, edges, record, params=PARAMS):
    """What stays with its split, what goes, and the record from now on."""
    names = [f"{s.id}.jpg" for s in samples]
    pixels = dict.fromkeys(names, "")
    recorded = record.of(samples, names, pixels)
    splits, leaks = assign(samples, stars(edges, [s.id for s in samples]), params, recorded)
    kept = {i: split for i, split in splits.items() if i not in leaks}
    drawn = {f"{s.id}.jpg": (s.group or "", kept[s.id]) for s in samples if s.id in kept}
    return kept, leaks, record.extended(drawn, pixels, params)


@st.composite
def growing(draw):
    """Batches of images, some of groups, old and new ones, and edges from each batch to all that is there by then."""
    rng = draw(st.randoms(use_true_random=False))
    numbers = rng.sample(range(1000), 8 * STEPS)
    batches, there = [], []
    for i in range(STEPS):
        batch = [
            Sample(f"{n:03d}", f"{n:03d}.jpg", 8, 8, group=rng.choice([None, *(f"g{g}" for g in range(i + 2))]))
            for n in numbers[8 * i : 8 * i + rng.randint(1, 8)]
        ]
        for s in batch:
            s.label = rng.choice("abc")
        there += batch
        edges = [(rng.choice(batch).id, rng.choice(there).id) for _ in range(rng.randint(0, 3))]
        batches.append((batch, edges))
    return batches


@settings(max_examples=40)
@given(growing())
def test_in_ten_steps_no_old_image_moves_or_goes_and_nothing_leaks(batches):
    record, before, gone = Record(), {}, set()
    samples, edges = [], []
    for batch, more in batches:
        samples, edges = samples + batch, edges + more
        kept, leaks, record = step(samples, edges, record)
        assert before.items() <= kept.items()
        assert gone <= leaks.keys()
        assert leaks.keys() <= {s.id for s in batch} | gone
        assert not before or all("recorded" in why for why in leaks.values())
        sides = defaultdict(set)
        for s in samples:
            if s.id in kept and s.group:
                sides[s.group].add(kept[s.id])
        assert all(len(side) == 1 for side in sides.values())
        assert not [1 for a, b in edges if a in kept and b in kept and kept[a] != kept[b]]
        again = step(random.Random(0).sample(samples, len(samples)), edges, record)
        assert again == (kept, leaks, record)
        before, gone = kept, set(leaks)


@pytest.mark.parametrize("seed", range(5))
def test_each_label_stays_as_near_to_its_shares_as_groups_allow(seed):
    rng, record, samples = random.Random(seed), Record(), []
    for i in range(STEPS):
        for g in range(rng.randint(1, 12)):
            label, size = rng.choice("aaab"), rng.randint(1, 5)
            samples += [Sample(f"{i}-{g}-{k}", "", 8, 8, group=f"{i}-{g}", label=label) for k in range(size)]
        kept, _, record = step(samples, [], record)
        count = Counter((s.label, kept[s.id]) for s in samples)
        groups = Counter({s.group: s.label for s in samples}.values())
        for label, split in count:
            total = sum(count[label, other] for other in SPLITS)
            share = {"train": 0.6, "val": 0.2, "test": 0.2}[split]
            assert abs(count[label, split] - share * total) <= 5, (label, split)
        assert all(count[label, split] for label, number in groups.items() if number >= 3 for split in SPLITS)


def test_what_the_source_places_is_as_it_says_and_not_recorded(tmp_path):
    """Its test stays; val is drawn, and an image that it places later moves by its word alone."""
    for split, count in (("train", 12), ("test", 4)):
        for i in range(count):
            picture(tmp_path / "animals" / split / "cat" / f"{i}.jpg", i + 100 * (split == "test"))
            picture(tmp_path / "animals" / split / "dog" / f"{i}.jpg", i + 300 * (split == "test") + 50)
    first, file = recorded_run(tmp_path)
    assert first["splits"] == {"train": 18, "val": 6, "test": 8}
    assert {row["split"] for row in rows(file)} == {"train", "val"}
    assert first["recorded"] == {"files": 24, "gone": 0, "moved": 0}
    # a picture of test again, among the new ones of train; and one of train again, among the new ones of test
    shutil.copy(tmp_path / "animals/test/cat/1.jpg", tmp_path / "animals/train/cat/new.jpg")
    shutil.copy(tmp_path / "animals/train/dog/1.jpg", tmp_path / "animals/test/dog/new.jpg")
    second, _ = recorded_run(tmp_path)
    assert second["splits"] == first["splits"]
    assert {row for row in ledger(tmp_path) if row[2] == "leak"} == {
        ("train/cat/new.jpg", "", "leak", "refused"),
        ("test/dog/new.jpg", "", "leak", "refused"),
    }
    for i in range(8):
        picture(tmp_path / "animals" / "val" / "cat" / f"{i}.jpg", i + 500)
        (tmp_path / "animals" / "val" / "dog").mkdir(exist_ok=True)
        picture(tmp_path / "animals" / "val" / "dog" / f"{i}.jpg", i + 600)
    shutil.rmtree(tmp_path / "splits")
    assert recorded_run(tmp_path)[0]["recorded"] == {"files": 0, "gone": 0, "moved": 0}
    assert file.read_text() == ",".join(HEADER) + "\n"


def recorded_run(tmp_path, **other):
    block = params("folder", tmp_path / "animals", splits={"val": 0.25, "test": 0.2, "seed": 0} | other)
    file = tmp_path / "splits" / "set.csv"
    return ingest("set", block, tmp_path / "data" / "set", tmp_path / "reports" / "data", file), file


def rows(file):
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


@pytest.fixture
def animals(tmp_path):
    for i in range(12):
        picture(tmp_path / "animals" / "cat" / f"{i}.jpg", i)
        picture(tmp_path / "animals" / "dog" / f"{i}.jpg", 50 + i)
    return tmp_path / "animals"


def test_a_set_that_grows_and_shrinks(tmp_path, animals):
    first, file = recorded_run(tmp_path)
    before = {row["file"]: row["split"] for row in rows(file)}
    assert first["recorded"] == {"files": 24, "gone": 0, "moved": 0}
    assert len(before) == first["kept"] == 24
    bytes_before = hashes(tmp_path / "data"), hashes(tmp_path / "reports"), file.read_bytes()
    recorded_run(tmp_path)
    assert (hashes(tmp_path / "data"), hashes(tmp_path / "reports"), file.read_bytes()) == bytes_before
    (animals / "cat" / "3.jpg").unlink()
    picture(animals / "cat" / "3.png", 900, suffix="PNG")  # the id that 3.jpg had
    picture(animals / "dog" / "3.png", 901, suffix="PNG")  # 3.jpg has another id from now on
    for i in range(40):
        picture(animals / "dog" / f"more{i:02d}.jpg", 1000 + i)
    picture(animals / "dog" / "again.jpg", 50 + 7, size=(48, 32), quality=70)  # as 7.jpg
    third, _ = recorded_run(tmp_path)
    after = {row["file"]: row["split"] for row in rows(file)}
    assert before.items() <= after.items()
    assert third["recorded"] == {"files": 24 + 43, "gone": 1, "moved": 0}
    assert after["dog/again.jpg"] == after["dog/7.jpg"]
    dogs = Counter(split for name, split in after.items() if name.startswith("dog"))
    assert all(abs(dogs[split] - share * 54) <= 1 for split, share in (("val", 0.25), ("test", 0.2)))


def test_names_that_are_written_alike_are_two_rows(tmp_path):
    names = [f"{i}{mark}.jpg" for i in range(12) for mark in ("\t", "\\t", "\\\\t", "\n", "\\n", "\udce9", "\\xe9")]
    samples = [Sample(str(i), "", 8, 8, group=names[i - i % 2]) for i in range(len(names))]
    splits, _ = assign(samples, [], PARAMS, None)
    drawn = {name: (s.group, splits[s.id]) for s, name in zip(samples, names, strict=True)}
    pixels = dict.fromkeys(names, "")
    write_record(tmp_path / "set.csv", Record().extended(drawn, pixels, PARAMS))
    record = read_record(tmp_path / "set.csv", PARAMS)
    assert len(record.rows) == len(names)
    assert record.of(samples, names, pixels).images == splits
    assert record.of(samples, names, pixels).groups == {s.group: {splits[s.id]} for s in samples}
    assert record.counts(names) == {"files": len(names), "gone": 0, "moved": 0}


def test_an_image_that_is_moved_to_another_class_keeps_its_split(tmp_path, animals):
    recorded_run(tmp_path)
    before = {row["file"]: row["split"] for row in rows(tmp_path / "splits" / "set.csv")}
    moved = [name for name, split in before.items() if split != "train" and name.startswith("cat")]
    for name in moved:
        (animals / name).rename(animals / "dog" / f"was-{name.removeprefix('cat/')}")
    recorded_run(tmp_path)
    after = {row["file"]: row["split"] for row in rows(tmp_path / "splits" / "set.csv")}
    assert moved
    assert [after[f"dog/was-{name.removeprefix('cat/')}"] for name in moved] == [before[name] for name in moved]
    assert before.items() <= after.items()


def test_an_image_that_joins_two_splits_goes(tmp_path, animals):
    _, file = recorded_run(tmp_path)
    sides = {row["split"]: row["file"] for row in rows(file) if row["file"].startswith("cat")}
    block = params("folder", animals, near_duplicates="identical", splits={"val": 0.25, "test": 0.2, "seed": 0})
    shutil.copy(animals / sides["val"], animals / "cat" / "again.jpg")
    shutil.copy(animals / sides["train"], animals / sides["test"])  # one that was there now looks like another one
    summary = ingest("set", block, tmp_path / "data" / "set", tmp_path / "reports" / "data", file)
    assert summary["kept"] == 25
    assert summary["leaks"] == {"groups": 1, "near_duplicates": 1}
    assert ("", "", "recorded_apart", "noted") in ledger(tmp_path)
    shutil.copy(animals / sides["train"], animals / "cat" / "third.jpg")
    summary = ingest("set", block, tmp_path / "data" / "set", tmp_path / "reports" / "data", file)
    assert ("cat/third.jpg", "", "leak", "refused") in ledger(tmp_path)
    assert "cat/third.jpg" not in {row["file"] for row in rows(file)}


def test_other_params_draw_anew_and_say_so(tmp_path, animals):
    _, file = recorded_run(tmp_path)
    before = {row["file"]: row["split"] for row in rows(file)}
    shutil.copytree(animals, tmp_path / "apart" / "animals")
    fresh, _ = recorded_run(tmp_path / "apart", seed=1)
    summary, _ = recorded_run(tmp_path, seed=1)
    assert summary["splits"] == fresh["splits"]
    assert hashes(tmp_path / "data") == hashes(tmp_path / "apart" / "data") | {
        "set/dataset.json": hashes(tmp_path / "data")["set/dataset.json"]  # names the folder
    }
    now = rows(file)
    assert {row["file"]: row["before"] for row in now} == before
    moved = sum(row["split"] != row["before"] for row in now)
    assert 0 < moved == summary["recorded"]["moved"]
    assert ("", "", "drawn_anew", "noted") in ledger(tmp_path)
    assert recorded_run(tmp_path, seed=1)[0] == summary
    assert rows(file) == now


def test_clips_are_recorded_by_file_and_group(tmp_path):
    root = tmp_path / "clips"
    for seed, name in enumerate(f"{label}/v_{label}_g{g:02d}_c01" for label in ("Run", "Hop") for g in range(1, 6)):
        clip(root / f"{name}.avi", seed)
    file = tmp_path / "splits.csv"
    for frames in (2, 3):  # other frames of the same clips
        block = params("ucf101", root, options={"frames": frames})
        summary = ingest("set", block, tmp_path / "data" / "set", tmp_path / "reports" / "data", file)
        assert summary["kept"] == 10 * frames
        found = {row["file"]: (row["group"], row["split"]) for row in rows(file)}
        assert len(found) == 10
        before = found if frames == 2 else before  # noqa: F821
        assert found == before
    side = before["Run/v_Run_g02_c01.avi"][1]
    clip(root / "Run" / "v_Run_g02_c02.avi", 99)
    (root / "Run" / "v_Run_g02_c01.avi").unlink()
    (root / "Hop" / "v_Hop_g02_c01.avi").unlink()
    ingest("set", block, tmp_path / "data" / "set", tmp_path / "reports" / "data", file)
    assert {row["file"]: row["split"] for row in rows(file)}["Run/v_Run_g02_c02.avi"] == side, "that of its group"


@pytest.mark.parametrize("where", ["take_all", "divide", "write_dataset", "labels_sheet", "write_record"])
def test_an_ingest_that_is_killed_and_runs_again(tmp_path, animals, monkeypatch, where):
    """Anywhere, also when all but the record is written: the bytes are those of an unbroken run."""
    recorded_run(tmp_path)
    for i in range(9):
        picture(animals / "dog" / f"new{i}.jpg", 200 + i)
    shutil.copytree(tmp_path / "splits", tmp_path / "before")
    recorded_run(tmp_path)
    whole = [hashes(tmp_path / part) for part in ("data", "reports", "splits")]
    shutil.rmtree(tmp_path / "splits")
    shutil.copytree(tmp_path / "before", tmp_path / "splits")

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chain, where, killed)
        with pytest.raises(KeyboardInterrupt):
            recorded_run(tmp_path)
    assert hashes(tmp_path / "splits") == hashes(tmp_path / "before")
    recorded_run(tmp_path)
    assert [hashes(tmp_path / part) for part in ("data", "reports", "splits")] == whole


HEAD, ROW = ",".join(HEADER), "a.jpg,,,train,,0.2,0.2,0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"1: found ''; expected 'file,group,pixels,split,before,val,test,seed'"),
        ("file,split\na.jpg,train\n", r"1: found 'file,split'; expected 'file,group"),
        (f"{HEAD}\n{ROW}\n<<<<<<< HEAD\n", r"3: a mark of a merge, '<<<<<<< HEAD'"),
        (f"{HEAD}\n{ROW}\nb.jpg,train\n", r"3: found 2 cells; expected 8"),
        (f"{HEAD}\n{ROW}\n{ROW}\n", r"3: 'a.jpg' is there twice"),
        (f"{HEAD}\n{ROW}\nb.jpg,,,tset,,0.2,0.2,0\n", r"3: split 'tset', before ''; expected train, val, test"),
        (f"{HEAD}\n{ROW}\nb.jpg,,,test,x,0.2,0.2,0\n", r"3: split 'test', before 'x'; expected train, val, test"),
        (f"{HEAD}\n,,,train,,0.2,0.2,0\n", r"2: no file"),
        (f"{HEAD}\na.jpg,,,train,,x,0.2,0\n", r"2: val, test, seed: 'x,0.2,0'; expected numbers"),
        (f"{HEAD}\na.jpg,,,train,,0.2,nan,0\n", r"2: val, test, seed"),
        (f"{HEAD}\n{ROW}\nb.jpg,,,test,,0.2,0.2,1\n", r"3: val, test and seed are not those of the first row"),
        (f'{HEAD}\n"a.jpg,,,train,,0.2,0.2,0\n', r"2: unexpected end of data"),
    ],
)
def test_a_damaged_record_is_named_with_its_line(tmp_path, text, message):
    file = tmp_path / "set.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(f"{file}:") + message + ".*bring it back from git"):
        read_record(file, PARAMS)


@given(st.lists(st.tuples(st.text(min_size=1), st.sampled_from(SPLITS)), unique_by=lambda row: row[0]))
def test_a_record_reads_back(tmp_path_factory, drawn):
    file = tmp_path_factory.getbasetemp() / "record.csv"
    names = [name for name, _ in drawn]
    record = Record().extended({name: ("g,\n\ud800", split) for name, split in drawn}, dict.fromkeys(names, ""), PARAMS)
    write_record(file, record)
    assert read_record(file, PARAMS) == record
    samples = [Sample(str(i), "", 8, 8) for i in range(len(drawn))]
    expected = {str(i): split for i, (_, split) in enumerate(drawn)}
    assert record.of(samples, names, dict.fromkeys(names, "")).images == expected


def test_the_record_is_read_and_written_while_no_second_run_can(tmp_path, monkeypatch):
    for i in range(10):
        picture(tmp_path / "herd" / ("cow", "goat")[i % 2] / f"{i}.jpg", i)
    file, seen = tmp_path / "splits" / "herd.csv", []

    def held(name):
        own = getattr(chain, name)

        def call(*arguments):
            with pytest.raises(InputError, match="another process is making it"), new_folder(tmp_path / "data"):
                pass
            seen.append(name)
            return own(*arguments)

        return call

    for name in ("read_record", "write_record"):
        monkeypatch.setattr(chain, name, held(name))
    ingest("herd", params("folder", tmp_path / "herd"), tmp_path / "data", tmp_path / "reports", file)
    assert (seen, len(read_record(file, PARAMS).rows)) == (["read_record", "write_record"], 10)
