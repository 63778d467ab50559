"""Pairs are found in whatever form people keep them; what is missing is named."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_framework.data.pairs import EmptyPair, Pair, find_pairs, scan, split_pairs, training_pairs
from focus_framework.errors import ConfigError, DataError
from focus_framework.files.coco import unpack
from focus_framework.plugin.interfaces import Dataset, Prompts, Task

INSIDE = np.zeros((6, 10), bool)
INSIDE[1:4, 2:7] = True


def put(folder: Path, *names: str, mask: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(INSIDE * np.uint8(255) if mask else np.full((6, 10, 3), 9, np.uint8)).save(folder / name)


def names(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.name, pair.mask.name) for pair in pairs]


def test_a_folder_matches_across_suffixes_and_endings(tmp_path):
    put(tmp_path / "images", "a.jpg", "b.PNG", "c.jpeg", "d.bmp", "e.webp", "sub/f.png", ".hidden.png")
    put(tmp_path / "masks", "a.png", "b_mask.png", "c-mask.bmp", "d_gt.png", "e_GT.png", "sub/f.png", mask=True)
    (tmp_path / "images" / "notes.txt").touch()
    pairs = find_pairs(str(tmp_path))
    assert names(pairs) == [("a", "a.png"), ("b", "b_mask.png"), ("c", "c-mask.bmp"), ("d", "d_gt.png"),
                            ("e", "e_GT.png"), ("sub/f", "f.png")]  # fmt: skip
    image, mask = pairs[0].read()
    assert image.shape == (6, 10, 3)
    assert np.array_equal(mask, INSIDE)
    assert np.array_equal(find_pairs(f"{tmp_path},foreground=black")[0].read()[1], ~INSIDE)


@pytest.mark.parametrize(("images", "masks"), [("Imgs", "GT"), ("image", "ground_truth"), ("Images", "Ground-Truth"), ("img", "label")])
def test_folders_have_other_names_too(tmp_path, images, masks):
    put(tmp_path / images, "a.jpg")
    put(tmp_path / masks, "a.png", mask=True)
    assert names(find_pairs(str(tmp_path))) == [("a", "a.png")]


def test_masks_of_one_name_in_two_places_belong_to_their_own_images(tmp_path):
    put(tmp_path / "images", "day/1.jpg", "night/1.jpg", "2.jpg")
    put(tmp_path / "masks", "day/1.png", "night/1.png", "elsewhere/2.png", mask=True)
    found = [(pair.name, pair.mask.relative_to(tmp_path / "masks").as_posix()) for pair in find_pairs(str(tmp_path))]
    assert found == [("2", "elsewhere/2.png"), ("day/1", "day/1.png"), ("night/1", "night/1.png")]


def test_two_named_folders_and_one_folder_for_both(tmp_path):
    put(tmp_path / "photos, new", "a.jpg", "b.jpg")
    put(tmp_path / "outlines", "a.png", "b.png", mask=True)
    (tmp_path / "photos").symlink_to("photos, new")
    assert names(find_pairs(f"images={tmp_path}/photos,masks={tmp_path}/outlines")) == [("a", "a.png"), ("b", "b.png")]
    put(tmp_path / "both", "a.jpg")
    put(tmp_path / "both", "a_mask.png", mask=True)
    found = scan(f"images={tmp_path}/both,masks={tmp_path}/both")
    assert [pair.name for pair in found.pairs] == []  # a mask among the images cannot be told from one: a list is needed
    assert len(found.lonely_images) == 2


def test_a_circle_of_links_ends(tmp_path):
    put(tmp_path / "images", "a.jpg")
    put(tmp_path / "masks", "a.png", mask=True)
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    assert names(find_pairs(str(tmp_path))) == [("a", "a.png")]


@pytest.mark.parametrize("layout", ["{part}/images", "images/{part}"])
def test_parts_for_training_validation_and_test(tmp_path, layout):
    for part, count in (("train", 4), ("val", 2), ("test", 1)):
        put(tmp_path / layout.format(part=part), *(f"{i}.jpg" for i in range(count)))
        put(tmp_path / layout.format(part=part).replace("images", "masks"), *(f"{i}.png" for i in range(count)), mask=True)
    assert len(find_pairs(str(tmp_path))) == 7
    assert [pair.name for pair in find_pairs(str(tmp_path), split="validation")] == ["val/0", "val/1"]
    assert [pair.name for pair in find_pairs(f"{tmp_path},split=test")] == ["test/0"]
    train, validation = training_pairs(str(tmp_path))
    assert {pair.split for pair in train} == {"train"} and len(train) == 4
    assert {pair.split for pair in validation} == {"validation"} and len(validation) == 2
    train, validation = training_pairs(str(tmp_path), f"{tmp_path},split=test")
    assert (len(train), [pair.name for pair in validation]) == (4, ["test/0"])
    with pytest.raises(DataError, match="no pairs of the part 'tset'"):
        find_pairs(f"{tmp_path},split=tset")


def test_training_on_a_test_part_has_to_be_asked_for(tmp_path):
    put(tmp_path / "test" / "images", "a.jpg", "b.jpg")
    put(tmp_path / "test" / "masks", "a.png", "b.png", mask=True)
    with pytest.raises(DataError, match="has a test part, but none to train on"):
        training_pairs(str(tmp_path))
    assert [len(part) for part in training_pairs(str(tmp_path / "test"))] == [1, 1]


def some_pairs(count: int) -> list[Pair]:
    return [Pair(Path(f"{i}.jpg"), Path(f"{i}.png"), "white", f"{i}") for i in range(count)]


def test_the_division_depends_on_names_and_seed_alone():
    pairs = some_pairs(200)
    train, validation = split_pairs(pairs, 0.1, 0)
    assert len(validation) == 20
    assert sorted(train + validation, key=lambda p: int(p.name)) == pairs
    backwards = split_pairs(pairs[::-1], 0.1, 0)[1]
    elsewhere = split_pairs([replace(pair, image=Path("/x") / pair.image) for pair in pairs], 0.1, 0)[1]
    assert {p.name for p in backwards} == {p.name for p in elsewhere} == {p.name for p in validation}
    # sha256 of "0/<name>", worked out by hand with `printf 0/88 | sha256sum`: the first lots are fixed for good
    import hashlib

    lots = sorted(range(200), key=lambda i: hashlib.sha256(f"0/{i}".encode()).hexdigest())
    assert {int(p.name) for p in validation} == set(lots[:20])
    assert {p.name for p in split_pairs(pairs, 0.1, 1)[1]} != {p.name for p in validation}


def test_a_share_is_at_least_one_pair_and_never_all():
    assert [len(part) for part in split_pairs(some_pairs(3), 0.01, 0)] == [2, 1]
    assert [len(part) for part in split_pairs(some_pairs(2), 0.99, 0)] == [1, 1]
    assert [len(part) for part in split_pairs(some_pairs(1), 0.5, 0)] == [1, 0]
    assert [len(part) for part in split_pairs(some_pairs(5), 0, 0)] == [5, 0]
    with pytest.raises(ConfigError, match="share of validation pairs is 1"):
        split_pairs(some_pairs(3), 1, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pairs.csv", "image,mask\nimages/a.jpg,masks/x.png\nimages/b.jpg,masks/y.png\n"),
        ("pairs.csv", "\ufeffsplit,mask,image\ntrain,masks/x.png,images/a.jpg\n\nval,masks/y.png,images/b.jpg\n"),
        ("pairs.csv", "images/a.jpg,masks/x.png\nimages/b.jpg,masks/y.png\n"),
        ("pairs.tsv", "image\tmask\nimages/a.jpg\tmasks/x.png\nimages/b.jpg\tmasks/y.png\n"),
        ("pairs.jsonl", '{"image": "images/a.jpg", "mask": "masks/x.png"}\n\n{"image": "images/b.jpg", "mask": "masks/y.png"}\n'),
    ],
)
def test_lists(tmp_path, name, text):
    put(tmp_path / "images", "a.jpg", "b.jpg")
    put(tmp_path / "masks", "x.png", "y.png", mask=True)
    (tmp_path / name).write_text(text, "utf-8")
    pairs = find_pairs(str(tmp_path / name))
    assert names(pairs) == [("images/a", "x.png"), ("images/b", "y.png")]
    assert np.array_equal(pairs[1].read()[1], INSIDE)
    if "split" in text:
        assert [len(part) for part in training_pairs(str(tmp_path / name))] == [1, 1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "image,mask\na.jpg,gone.png\n", r"p\.csv, line 2: .*gone\.png does not exist"),
        ("p.csv", "image,mask\na.jpg\n", r"p\.csv, line 2: no mask"),
        ("p.csv", "image,mask\n", "lists no pairs"),
        ("p.csv", "image,mask,foreground\na.jpg,a.png,grey\n", r"line 2: foreground is 'grey'"),
        ("p.csv", "image,mask,split\na.jpg,a.png,dev\n", r"line 2: split is 'dev'"),
        ("p.csv", "a.jpg,a.png\na.jpg,a.png\n", r"line 2: a second pair named 'a'"),
        ("p.jsonl", "{]\n", r"p\.jsonl, line 1: not JSON"),
        ("p.jsonl", "[1]\n", r"p\.jsonl, line 1: an object is needed"),
        ("p.jsonl", '{"image": "a.jpg", "mask": 3}\n', "line 1: no mask"),
        ("p.txt", "a.jpg a.png\n", "is not a list of pairs"),
    ],
)
def test_wrong_lists_name_the_line(tmp_path, name, text, message):
    put(tmp_path, "a.jpg")
    put(tmp_path, "a.png", mask=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        find_pairs(str(tmp_path / name))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere/data does not exist"):
        find_pairs("nowhere/data")
    with pytest.raises(DataError, match="is not a data folder: it needs images/ and masks/"):
        find_pairs(str(tmp_path))
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="has no masks/ folder"):
        find_pairs(str(tmp_path))
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"no images in .*images"):
        find_pairs(str(tmp_path))
    put(tmp_path / "images", *(f"{i}.jpg" for i in range(6)))
    put(tmp_path / "masks", "5.png", "6.png", mask=True)
    with pytest.raises(DataError, match=r"5 of 6 images have no mask: .*0\.jpg, .*1\.jpg, .*2\.jpg and 2 more"):
        find_pairs(str(tmp_path))
    found = scan(str(tmp_path))
    assert [len(part) for part in (found.pairs, found.lonely_images, found.lonely_masks)] == [1, 5, 1]
    put(tmp_path / "masks", "0.png", "0.bmp", mask=True)
    with pytest.raises(DataError, match=r"several masks fit .*0\.jpg"):
        find_pairs(str(tmp_path))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("images=a", "give both folders"),
        ("camo-tran", "there is no data set or folder 'camo-tran'"),
        ("images=a,masks=b,colour=red", "'colour=red' is not an option"),
        ("images=a,masks", "'masks' is not an option"),
        ("", "give both folders"),
    ],
)
def test_a_wrong_reference_says_what_would_be_right(reference, message):
    with pytest.raises(ConfigError, match=message):
        find_pairs(reference)


def test_an_option_of_another_kind_of_data_is_refused(tmp_path):
    put(tmp_path / "images", "a.jpg")
    put(tmp_path / "masks", "a.png", mask=True)
    with pytest.raises(ConfigError, match="category= does not go with this kind of data"):
        find_pairs(f"{tmp_path},category=cat")


def task_with(*datasets: Dataset) -> Task:
    prompts = Prompts("glass", "no glass")
    return Task(name="glass", title="Glass", prompts=prompts, metrics=("mae",), primary_metric="mae", datasets=datasets)


def test_published_sets_are_read_in_place_and_joined(tmp_path, monkeypatch):
    put(tmp_path / "GlassV2" / "Imgs" / "Train", "a.jpg", "b.jpg", "none-NonGlass.jpg")
    put(tmp_path / "glass_v2" / "Imgs", "never.jpg")
    put(tmp_path / "GlassV2" / "GT", "a.png", "b.png", "t.png", mask=True)
    put(tmp_path / "mirror" / "all", "a.jpg", "c.jpg")
    put(tmp_path / "mirror" / "all", "a.png", "c.png", mask=True)
    put(tmp_path / "glass free", "x.jpg")
    task = task_with(
        Dataset(name="glass-train", images=["GLASS/imgs", "glassv2/imgs/train"], masks=["GLASS/gt", "glassv2/gt"], split="train",
                exclude=["*NonGlass*"]),
        Dataset(name="mirror", images=["mirror/*al*"], masks=["mirror/all"], split="train", image_patterns=["*.jpg"], foreground="black"),
        Dataset(name="free", images=["GlassFree"], masks=[], split="train"),
    )  # fmt: skip
    assert names(find_pairs("glass-train", task=task, root=tmp_path)) == [("a", "a.png"), ("b", "b.png")]
    assert not scan("glass-train", task=task, root=tmp_path).lonely_masks
    joined = find_pairs("glass-train+mirror", task=task, root=tmp_path)
    assert [pair.name for pair in joined] == ["glass-train/a", "glass-train/b", "mirror/a", "mirror/c"]
    assert np.array_equal(joined[0].read()[1], INSIDE) and np.array_equal(joined[2].read()[1], ~INSIDE)
    (empty,) = find_pairs("free", task=task, root=tmp_path)
    assert isinstance(empty, EmptyPair) and not empty.read()[1].any()
    with pytest.raises(DataError, match=r"glass-train is not there; looked for gone/GLASS/imgs, gone/glassv2/imgs/train"):
        find_pairs("glass-train", task=task, root="gone")
    monkeypatch.setenv("FOCUS_DATA_ROOT", str(tmp_path))
    assert len(find_pairs("mirror", task=task)) == 2
    with pytest.raises(ConfigError, match="did you mean mirror"):
        find_pairs("miror", task=task)


def coco(tmp_path: Path, annotations: list[dict], categories: tuple[str, ...] = ("cat", "dog")) -> Path:
    images = [{"id": 7, "file_name": "a.jpg", "height": 6, "width": 10}, {"id": 9, "file_name": "b.jpg", "height": 6, "width": 10}]
    put(tmp_path / "images", "a.jpg", "b.jpg")
    content = {"images": images, "annotations": annotations, "categories": [{"id": i, "name": n} for i, n in enumerate(categories)]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path / "instances.json"


BOX = [2, 1, 7, 1, 7, 4, 2, 4]
"""The corners of `INSIDE`: COCO counts from the corner of the first pixel."""


def test_coco_polygons_and_run_lengths(tmp_path):
    columns = INSIDE.T.ravel()  # COCO's run lengths go down the columns
    runs = [len(run) for run in np.split(columns, np.flatnonzero(np.diff(columns)) + 1)]
    for segmentation in ([BOX], [[*BOX[:4], 4.5, 4, 2, 4], [4.5, 1, 7, 1, 7, 4, 4.5, 4], BOX], {"counts": runs, "size": [6, 10]}):
        path = coco(tmp_path, [{"image_id": 7, "category_id": 0, "segmentation": segmentation}])
        (pair,) = find_pairs(str(path))
        assert pair.name == "a"
        assert np.array_equal(pair.read()[1], INSIDE)
        with pytest.raises(DataError, match=r"has a as 10 x 6 but its image is 6 x 10"):
            pair.read_mask((10, 6))


def test_coco_takes_one_category_and_joins_its_annotations(tmp_path):
    other = [0, 5, 3, 5, 3, 6, 0, 6]
    rows = [{"image_id": 7, "category_id": 0, "segmentation": [BOX]}, {"image_id": 7, "category_id": 0, "segmentation": [other]},
            {"image_id": 9, "category_id": 1, "segmentation": [BOX]}]  # fmt: skip
    path = coco(tmp_path, rows)
    with pytest.raises(ConfigError, match="annotates 2 categories; choose one: category=NAME of cat, dog"):
        find_pairs(str(path))
    (cats,) = find_pairs(f"{path},category=cat,images={tmp_path}/images")
    expected = INSIDE.copy()
    expected[5, :3] = True
    assert np.array_equal(cats.read()[1], expected)
    assert [pair.name for pair in find_pairs(f"{path},category=dog")] == ["b"]
    with pytest.raises(ConfigError, match="no category 'dgo'; did you mean dog"):
        find_pairs(f"{path},category=dgo")


STAIRS = np.mgrid[0:300, 0:12][0] >= 290 - 25 * np.arange(12)
PACKED_STAIRS = "R9:Y8i0WOi0WOi0WOi0WOi0WOi0WOi0WOi0WOi0WOi0WOi0"


def test_packed_run_lengths():
    # the strings are what pycocotools 2.0 packs (mask.encode): INSIDE, its complement, and columns of growing length
    for text, mask in (("=330000000a0", INSIDE), ("0=3F0000000a0", ~INSIDE), (PACKED_STAIRS, STAIRS)):
        runs = unpack(text)
        values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(mask.shape[::-1]).T
        assert np.array_equal(values, mask)


def test_coco_strings_are_drawn(tmp_path):
    path = coco(tmp_path, [{"image_id": 9, "category_id": 1, "segmentation": {"counts": "=330000000a0", "size": [6, 10]}}])
    assert np.array_equal(find_pairs(str(path))[0].read()[1], INSIDE)


def test_coco_polygons_agree_with_an_exact_rule(tmp_path):
    """Below a slope: inside is the pixel whose centre lies below it, as half of its area does then."""
    y, x = np.mgrid[0:6, 0:10] + 0.5
    path = coco(tmp_path, [{"image_id": 7, "category_id": 0, "segmentation": [[0, 0, 10, 4, 10, 6, 0, 6]]}])
    below = y - 0.4 * x
    assert np.abs(below).min() > 0.09
    assert np.array_equal(find_pairs(str(path))[0].read()[1], below > 0)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"counts": [3, 4], "size": [6, 10]}, "run lengths of 7 pixels do not fill 10 x 6"),
        ({"counts": [80, -20], "size": [6, 10]}, "do not fill"),
        ({"counts": [60], "size": [10, 6]}, "do not fill"),
        ({"runs": 3}, "neither polygons nor run lengths"),
    ],
)
def test_wrong_coco_shapes_are_errors(tmp_path, segmentation, message):
    path = coco(tmp_path, [{"image_id": 7, "category_id": 0, "segmentation": segmentation}])
    with pytest.raises(DataError, match=message):
        find_pairs(str(path))[0].read()


def test_wrong_coco_files_are_errors(tmp_path):
    path = coco(tmp_path, [{"image_id": 7, "category_id": 0, "segmentation": [BOX]}])
    (tmp_path / "images" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"image a\.jpg is not in .*; give images=DIR"):
        find_pairs(str(path))
    for text, message in (
        ("{", "cannot be read as JSON"),
        ("[]", "is not COCO"),
        ('{"images": [{"id": 1}]}', "with id, file_name, height, width"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            find_pairs(str(path))


def test_hugging_face_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'focus-framework\[datasets\]'"):
        find_pairs("hf://owner/name")


def test_hugging_face_folders(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the extra focus-framework[datasets] is not installed")
    put(tmp_path / "files", "a.png", "b.png")
    put(tmp_path / "files", "m.png", mask=True)
    columns = {"image": [str(tmp_path / "files" / n) for n in ("a.png", "b.png")], "label": [str(tmp_path / "files" / "m.png")] * 2}
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image()).cast_column("label", datasets.Image())
    datasets.DatasetDict({"train": table, "validation": table.select([0])}).save_to_disk(str(tmp_path / "saved"))
    train, validation = training_pairs(str(tmp_path / "saved"))
    assert ([pair.name for pair in train], len(validation)) == (["train/000000", "train/000001"], 1)
    image, mask = train[1].read()
    assert image.shape == (6, 10, 3) and np.array_equal(mask, INSIDE)
    with pytest.raises(ConfigError, match="no column 'labl'; did you mean label"):
        find_pairs(f"{tmp_path / 'saved'},mask_column=labl")
