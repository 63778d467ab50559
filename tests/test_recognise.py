"""Known data sets are found by what is in them, whatever the folders are called; a folder of one's own needs no names at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from focus_framework.cli import focus
from focus_framework.data.pairs import find_pairs
from focus_framework.data.published import known_datasets
from focus_framework.data.recognise import looks_like_mask, match, recognise, scan_together
from focus_framework.errors import DataError

BENCHMARKS = Path(__file__).parents[1].parent / "shared" / "data" / "benchmarks"
needs_benchmarks = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the folder of real benchmarks is not beside the checkout")
SIDE = 12
INSIDE = np.zeros((SIDE, SIDE), bool)
INSIDE[3:9, 2:7] = True


def photo(bright: float = 1.0) -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3))
    return Image.fromarray((noise * bright).astype(np.uint8))


MASK = Image.fromarray(INSIDE * np.uint8(255))


def put(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


# How other people keep it: where the image `stem.jpg` and the mask `stem.png` come to lie.
Layout = Callable[[str], tuple[str, str]]
LAYOUTS: dict[str, Layout] = {
    "other folders": lambda stem: (f"set/photos/{stem}.jpg", f"set/annot/{stem}.png"),
    "side by side": lambda stem: (f"everything/{stem}.jpg", f"everything/{stem}.png"),
    "side by side, _GT": lambda stem: (f"e/{stem}.jpg", f"e/{stem}_GT.png"),
    "apart, -mask, capitals": lambda stem: (f"IM/{stem.upper()}.JPG", f"TRUE/{stem.upper()}-mask.PNG"),
    "one level deeper": lambda stem: (f"a/b/c/im/part/{stem}.jpg", f"a/b/c/gr/part/{stem}.png"),
    "in parts": lambda stem: (f"x/{len(stem) % 2}/{stem}.jpg", f"y/all/{stem}_mask.png"),
}


@needs_benchmarks
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["ecssd", "sed2"])
def test_a_real_benchmark_is_recognised_in_any_layout(name: str, layout: str, tmp_path: Path) -> None:
    """Links in the place of files: the names and the contents are those of the real set."""
    for pair in find_pairs(name, root=BENCHMARKS):
        for target, there in zip((pair.image, pair.mask), LAYOUTS[layout](pair.image.stem), strict=True):
            (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / there).symlink_to(target.resolve())
    found = recognise(tmp_path, known_datasets().values())
    assert [one.dataset.name for one in found] == [name]
    expected = {pair.image.stem.lower(): pair.mask.resolve() for pair in find_pairs(name, root=BENCHMARKS)}
    assert {pair.image.stem.lower(): pair.mask.resolve() for pair in found[0].scan.pairs} == expected
    assert not found[0].doubled and not found[0].scan.lonely_images


@needs_benchmarks
def test_what_is_missing_and_doubled_is_counted_and_named_once(tmp_path: Path) -> None:
    for pair in find_pairs("sed2", root=BENCHMARKS):
        for target in (pair.image, pair.mask):
            if pair.name != "yack1" and (pair.name, target.suffix) != ("swan_and_friend", ".png"):
                (tmp_path / target.name).symlink_to(target.resolve())
    (tmp_path / "babyandmom.jpeg").symlink_to(tmp_path / "babyandmom.jpg")
    told = json.loads(CliRunner().invoke(focus, ["data", "find", str(tmp_path), "--json"]).stdout)["found"][0]
    assert (told["name"], told["pairs"], told["doubled"]) == ("sed2", 98, ["babyandmom"])
    assert told["remarks"] == [
        "1 image has no mask: swan_and_friend",
        "1 image is there more than once: babyandmom",
        "1 images fewer than a complete copy has (100)",
    ]


COUNT = 24
# Stems as the published lists have them, by rule; the sets are declared with COUNT images here.
STEMS: dict[str, Callable[[int], str]] = {
    "camo-test": lambda i: f"camourflage_{i * 7 + 12:05}",
    "cod10k-test": lambda i: f"COD10K-CAM-{i % 4 + 1}-Aquatic-{i}-BatFish-{i + 1}",
    "chameleon": lambda i: f"animal-{i + 1}",
    "nc4k": lambda i: str(i * 170 + 1),
    "duts-test": lambda i: f"ILSVRC2012_test_{i + 3:08}" if i % 3 else f"sun_{'abcd'[i % 4] * 17}",
    "duts-train": lambda i: f"ILSVRC2012_test_{i + 3:08}" if i % 3 else f"n03770439_{12912 + i}",
    "dut-omron": lambda i: f"im{i + 5:03}" if i % 3 else ("im005" if i == 0 else f"sun_{'abcd'[i % 4] * (i + 2)}"),
    "hku-is": lambda i: ("0004", "0005", "9056", "9057")[i] if i < 4 else f"{i * 300:04}",
    "pascal-s": lambda i: ("1", "425", "850")[i] if i < 3 else str(i * 30),
    "sod": lambda i: ("2092", "3096", "8023", "12003", "100075", "101085", "299086")[i] if i < 7 else str(100080 + i),
    "istd-test": lambda i: f"{i + 90}-{i % 5 + 1}",
    "casia2": lambda i: f"Tp_D_CRN_M_N_pla{i:05}_pla00033_{10997 + i}",
}


@pytest.mark.parametrize("layout", ["other folders", "side by side, _GT", "one level deeper"])
@pytest.mark.parametrize("name", STEMS)
def test_every_set_is_known_by_its_names(name: str, layout: str, tmp_path: Path) -> None:
    known = known_datasets()
    size = (481, 321) if name == "sod" else (SIDE, SIDE)
    for stem in {STEMS[name](index) for index in range(COUNT)}:
        for image, there in zip((photo(), MASK), LAYOUTS[layout](stem), strict=True):
            put(tmp_path / there, image.resize(size, Image.Resampling.NEAREST))
    small = [replace(dataset, count=COUNT) for dataset in known.values() if dataset.fingerprint]
    found = {one.dataset.name: one for one in recognise(tmp_path, small)}
    expected = {STEMS[name](index).lower() for index in range(COUNT)}
    assert {pair.image.stem.lower() for pair in found[name].scan.pairs} == expected
    # what another part of the same set is called alike is told apart by its number, which is the same for all here
    alike = {"camo-test": {"camo-train"}, "cod10k-test": {"cod10k-train"}, "istd-test": {"istd-train"}, "pascal-s": {"nc4k"},
             "hku-is": {"nc4k"}}  # fmt: skip
    assert found.keys() - {name} <= alike.get(name, set())


@pytest.mark.parametrize(
    ("name", "stem", "folders"),
    [
        ("defocus-dut", "{}", ("mirror/dut500-source", "mirror/dut500-gt")),
        ("defocus-dut", "{}", ("DUT-DBD_Dataset/DUT500S-Testing", "DUT-DBD_Dataset/DUT500GT-Testing")),
        ("defocus-cuhk", "{}", ("blur/xu100-source", "blur/xu100-gt")),
        ("defocus-cuhk", "out_of_focus0{}", ("anything/x", "anything/y")),
        ("defocus-train", "{}", ("dbd/1204source", "dbd/1204gt")),
    ],
)
def test_defocus_sets_are_known_by_names_and_places(name: str, stem: str, folders: tuple[str, str], tmp_path: Path) -> None:
    for index in range(COUNT):
        for image, folder, suffix in zip((photo(), MASK), folders, ("bmp", "png"), strict=True):
            put(tmp_path / folder / f"{stem.format(600 + index)}.{suffix}", image)
    counts = {"defocus-train": 1204, "defocus-dut": 500, "defocus-cuhk": 100}
    known = [replace(one, count=COUNT if one.name == name else counts.get(one.name, one.count)) for one in known_datasets().values()]
    (found,) = recognise(tmp_path, known)
    assert (found.dataset.name, len(found.scan.pairs)) == (name, COUNT)


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("CAMO/Images/Train", "camo-train"),
        ("CAMO_test/img", "camo-test"),
        ("a/Training images", "camo-train"),
        ("test/TrainingDataset/img", "camo-train"),
        ("contest/img", "camo-train camo-test"),
    ],
)
def test_parts_of_a_set_are_told_apart_by_their_folders_too(folder: str, found: str, tmp_path: Path) -> None:
    """As many images as either part may have."""
    for index in range(COUNT):
        put(tmp_path / folder / f"camourflage_{index:05}.jpg", photo())
        put(tmp_path / "masks" / f"camourflage_{index:05}.png", MASK)
    parts = [replace(known_datasets()[name], count=COUNT) for name in ("camo-train", "camo-test")]
    assert " ".join(one.dataset.name for one in recognise(tmp_path, parts)) == found


def test_folders_of_numbers_are_no_benchmark(tmp_path: Path) -> None:
    """A folder of one's own with the numbers 1 to 40 is none of the sets whose files are numbers."""
    for index in range(40):
        put(tmp_path / "images" / f"{index + 1}.jpg", photo())
        put(tmp_path / "masks" / f"{index + 1}.png", MASK)
    assert recognise(tmp_path, known_datasets().values()) == []
    told = CliRunner().invoke(focus, ["data", "find", str(tmp_path)])
    assert told.exit_code == 1 and "no known data set" in told.stderr


def test_the_image_with_the_shadow_is_taken(tmp_path: Path) -> None:
    lit, shaded = photo(), Image.fromarray(np.where(INSIDE[..., None], np.array(photo()) // 3, np.array(photo())))
    for index in range(20):
        put(tmp_path / "first" / f"{index}-1.png", lit)
        put(tmp_path / "second" / f"{index}-1.png", shaded)
        put(tmp_path / "third" / f"{index}-1.png", MASK)
    (found,) = recognise(tmp_path, [replace(known_datasets()["istd-test"], count=20)])
    assert found.images.name == "second" and found.masks is not None and found.masks.name == "third"


def test_masks_with_corrected_names_belong_to_the_image_of_the_same_number(tmp_path: Path) -> None:
    """As CASIA 1.0 and its masks are published: S for D, swapped hosts, numbers that several textures share, a transposed mask."""
    names = {
        "Sp_D_CNN_A_art0024_ani0032_0268": "Sp_D_CNN_A_art0024_ani0032_0268_gt",
        "Sp_D_CRN_A_pla0005_pla0023_0281": "Sp_S_CRN_A_pla0005_pla0023_0281_gt",
        "Sp_D_NNN_A_sec0056_sec0015_0282": "Sp_D_NNN_A_sec0015_sec0056_0282_gt",
        "Sp_S_NNN_C_txt0095_txt0095_0095": "Sp_D_NNN_C_txt0095_txt0095_0095_gt",
        "Sp_S_NNN_T_txt0095_txt0095_0095": "Sp_D_NNN_T_txt0095_txt0095_0095_gt",
        "Sp_D_NNN_A_ani0099_ani0100.0288": "Sp_D_NNN_A_ani0099_ani0100_0288_gt",
        "Sp_D_CNN_A_sec0012_ani0007_0275": "Sp_D_CNN_A_sec0012_ani0007_0275_gt",
        "Sp_D_NRN_A_cha0064_ani0074_0542": None,
    }
    for number, (image, mask) in enumerate(names.items()):
        put(tmp_path / "CASIA1" / "Sp" / f"{image}.jpg", photo().resize((20, 12)))
        if mask:
            marked = Image.fromarray(np.pad(INSIDE, ((0, 0), (0, 8))) * np.uint8(255))
            marked.putpixel((number, 0), 255)
            put(tmp_path / "CASIA1" / "gt" / f"{mask}.png", marked.transpose(Image.Transpose.TRANSPOSE) if "0275" in mask else marked)
    (found,) = recognise(tmp_path, [replace(known_datasets()["casia1"], count=len(names))])
    assert {pair.image.stem: pair.mask.stem for pair in found.scan.pairs} == {k: v for k, v in names.items() if v}
    assert not found.scan.lonely_images
    assert found.notes == (
        "the mask of Sp_D_CNN_A_sec0012_ani0007_0275 has rows for columns; it is turned",
        "no mask of Sp_D_NRN_A_cha0064_ani0074_0542 was published; it is left out",
    )
    for pair in found.scan.pairs:
        image, mask = pair.read()
        assert image.shape == (12, 20, 3) and mask[0].sum() == 1


KINDS = ("ani", "arc", "art", "cha", "nat", "pla", "sec")


def casia_names() -> list[str]:
    """920 names as CASIA 1.0 has them: 100 textures with a circle, a rectangle and a triangle each, which share their number with one of
    620 others."""
    random = np.random.default_rng(7)
    textures = [f"Sp_S_NNN_{shape}_txt{i:04}_txt{i:04}_{i:04}" for i in range(1, 101) for shape in "CRT"]
    others = []
    for number in range(1, 621):
        kinds, hosts, letters = random.choice(KINDS, 2), random.integers(1, 101, 2), random.choice(["NNN", "NRN", "CNN", "CRN", "NND"])
        one, two = (f"{kind}{host:04}" for kind, host in zip(kinds, hosts, strict=True))
        parts = ("S", one, one) if number % 3 == 0 else ("D", one, two)
        others.append(f"Sp_{parts[0]}_{letters}_{random.choice(list('AR'))}_{parts[1]}_{parts[2]}_{number:04}")
    others[275 - 1] = "Sp_D_CNN_A_sec0012_ani0007_0275"
    others[542 - 1] = "Sp_D_NRN_A_cha0064_ani0074_0542"
    return textures + others


def corrected(name: str, how: int) -> str:
    """The name of a mask as the authors of the masks corrected it."""
    start, source, letters, shape, one, two, number = name.split("_")
    if how % 3 == 0 and one != two:
        one, two = two, one
    elif how % 3 == 1 and not one.startswith("txt"):
        letters = "CND"
    else:
        source = "S" if source == "D" else "D"
    return "_".join((start, source, letters, shape, one, two, number))


@pytest.mark.parametrize("folders", [("CASIA/CASIA 1.0 dataset/Modified Tp", "CASIA/CASIA 1.0 groundtruth"), ("Sp", "masks/casia1gt")])
def test_all_919_pairs_of_casia_are_found_by_rule(folders: tuple[str, str], tmp_path: Path) -> None:
    """A layout made by the published rules: 106 masks with corrected names, one transposed, one missing, points in two names."""
    put(tmp_path / "one.jpg", photo().resize((20, 12)))
    put(tmp_path / "one.png", MASK.resize((20, 12)))
    put(tmp_path / "turned.png", MASK.resize((12, 20)))
    images, masks = (tmp_path / "root" / folder for folder in folders)
    for folder in (images, masks):
        folder.mkdir(parents=True)
    names = casia_names()
    renamed = set(np.random.default_rng(3).permutation([i for i, name in enumerate(names) if name[-4:] not in ("0275", "0542")])[:106])
    for index, name in enumerate(names):
        pointed = name[:-5] + "." + name[-4:] if index in (401, 777) else name
        (images / f"{pointed}.jpg").hardlink_to(tmp_path / "one.jpg")
        if "0542" not in name:
            mask = corrected(name, index) if index in renamed else name
            (masks / f"{mask}_gt.png").hardlink_to(tmp_path / ("turned.png" if "0275" in name else "one.png"))
    assert sum(not (masks / f"{name}_gt.png").exists() for name in names) > 100
    if folders[0].startswith("CASIA"):
        pairs, notes = find_pairs("casia1", root=tmp_path / "root"), ()
    else:
        (found,) = recognise(tmp_path / "root", known_datasets().values())
        pairs, notes = list(found.scan.pairs), found.notes
        assert not found.scan.lonely_images
        assert [name in " ".join(notes) for name in ("0275 has rows for columns", "0542 was published")] == [True, True]
    assert len(pairs) == 919
    for pair in pairs:
        image, mask = pair.image.stem.replace(".", "_").split("_"), pair.mask.stem.removesuffix("_gt").split("_")
        assert (image[3], image[-1], "txt" in image[4]) == (mask[3], mask[-1], "txt" in mask[4]), (pair.image, pair.mask)
    assert [pair.read_mask().shape for pair in pairs if "0275" in pair.name] == [(12, 20)]


def test_keys_are_used_only_where_they_are_unambiguous() -> None:
    images = {name: Path(name) for name in ("a_1", "b_1", "c_2")}
    masks = {name: Path(f"m/{name}") for name in ("x_1", "y_2")}
    assert match(images, masks, (r"_(\d)$",)) == {"c_2": Path("m/y_2")}


@pytest.mark.parametrize("mask", ["{}.png", "{}_mask.png", "{}-gt.bmp", "deeper/{}_GT.tif"])
def test_a_folder_of_ones_own_works_side_by_side(mask: str, tmp_path: Path) -> None:
    names = {"cat", "dog", "Eel"}
    for name in names:
        put(tmp_path / f"{name}.jpg" if "/" not in mask else tmp_path / "deeper" / f"{name}.jpg", photo())
        put(tmp_path / mask.format(name), MASK)
    pairs = find_pairs(str(tmp_path))
    assert {Path(pair.name).name for pair in pairs} == names
    assert all(np.array_equal(pair.read_mask(), INSIDE) for pair in pairs)


def test_side_by_side_a_photograph_twice_is_no_pair(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        put(tmp_path / f"cat.{suffix}", photo())
    assert scan_together(tmp_path) is None
    with pytest.raises(DataError, match="not a data folder"):
        find_pairs(str(tmp_path))


def test_what_looks_like_a_mask(tmp_path: Path) -> None:
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    votes = Image.fromarray(np.repeat(np.array([0, 85, 170, 255], np.uint8), SIDE * 3).reshape(SIDE, SIDE))
    coloured = Image.fromarray(INSIDE[..., None] * np.array([200, 30, 30], np.uint8))
    masks = {"two": MASK, "bit": MASK.convert("1"), "votes": votes, "coloured": coloured, "palette": MASK.convert("P")}
    for name, image in {**masks, "photo": photo(), "grey": grey}.items():
        put(tmp_path / f"{name}.png", image)
        assert looks_like_mask(tmp_path / f"{name}.png") == (name in masks), name
    put(tmp_path / "mask.jpg", Image.fromarray(INSIDE.repeat(8, 0).repeat(8, 1) * np.uint8(255)))
    assert looks_like_mask(tmp_path / "mask.jpg")
    assert looks_like_mask(tmp_path / "grey.png", grey_is_enough=True)
