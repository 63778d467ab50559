"""The published data sets: each found in a miniature of the tree that its authors ship, with the pairs that the field counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from focus_framework.cli import focus
from focus_framework.data.pairs import find_pairs
from focus_framework.data.published import data_root, known_datasets, locate, scan_located
from focus_framework.errors import DataError
from focus_framework.plugin.registry import registry

INSIDE = np.zeros((6, 8), bool)
INSIDE[2:5, 1:4] = True
SHARED = Path(__file__).parents[1].parent / "shared"

# As the folders arrive: image, its mask (or nothing, where it must not be found), the data set it must be found in.
TREE = [
    ("CAMO-V.1.0-CVIU2019/Images/Train/camourflage_00001.jpg", "CAMO-V.1.0-CVIU2019/GT/camourflage_00001.png", "camo-train"),
    ("CAMO-V.1.0-CVIU2019/Images/Test/camourflage_00012.jpg", "CAMO-V.1.0-CVIU2019/GT/camourflage_00012.png", "camo-test"),
    ("COD10K-v3/Train/Image/COD10K-CAM-1-Aquatic-1-BatFish-1.jpg", "COD10K-v3/Train/GT_Object/COD10K-CAM-1-Aquatic-1-BatFish-1.png",
     "cod10k-train"),
    ("COD10K-v3/Train/Image/COD10K-NonCAM-5-Background-1.jpg", "COD10K-v3/Train/GT_Object/COD10K-NonCAM-5-Background-1.png", None),
    ("COD10K-v3/Test/Image/COD10K-CAM-2-Terrestrial-23-Cat-1506.jpg", "COD10K-v3/Test/GT_Object/COD10K-CAM-2-Terrestrial-23-Cat-1506.png",
     "cod10k-test"),
    ("COD10K-v3/Test/Image/COD10K-NonCAM-3-Flying-8.jpg", "COD10K-v3/Test/GT_Object/COD10K-NonCAM-3-Flying-8.png", None),
    ("CHAMELEON/Imgs/animal-1.jpg", "CHAMELEON/GT/animal-1.png", "chameleon"),
    ("NC4K/Imgs/1.jpg", "NC4K/GT/1.png", "nc4k"),
    ("DUTS/DUTS-TR/DUTS-TR-Image/ILSVRC2012_test_1.jpg", "DUTS/DUTS-TR/DUTS-TR-Mask/ILSVRC2012_test_1.png", "duts-train"),
    ("DUTS/DUTS-TE/DUTS-TE-Image/ILSVRC2012_test_3.jpg", "DUTS/DUTS-TE/DUTS-TE-Mask/ILSVRC2012_test_3.png", "duts-test"),
    ("DUTOMRON/DUT-OMRON-image/im005.jpg", "DUTOMRON/pixelwiseGT-new-PNG/im005.png", "dut-omron"),
    ("HKU-IS/imgs/0004.png", "HKU-IS/gt/0004.png", "hku-is"),
    ("ECSSD/images/0001.jpg", "ECSSD/ground_truth_mask/0001.png", "ecssd"),
    ("PASCAL/Imgs/1.jpg", "PASCAL/Imgs/1.png", "pascal-s"),
    ("SOD/Imgs/2092.jpg", "SOD/Imgs/2092.png", "sod"),
    ("SED2/yack1.jpg", "SED2/yack1.png", "sed2"),
    ("ISTD_Dataset/train/train_A/1-1.png", "ISTD_Dataset/train/train_B/1-1.png", "istd-train"),
    ("ISTD_Dataset/test/test_A/100-1.png", "ISTD_Dataset/test/test_B/100-1.png", "istd-test"),
    ("ISTD_Dataset/test/test_C/100-1.png", None, None),  # the shadow-free image
    ("DEFOCUS/dataset/train_data/1204source/1.jpg", "DEFOCUS/dataset/train_data/1204gt/1.png", "defocus-train"),
    ("DEFOCUS/dataset/test_data/DUT/dut500-source/3.bmp", "DEFOCUS/dataset/test_data/DUT/dut500-gt/3.bmp", "defocus-dut"),
    ("DEFOCUS/dataset/test_data/CUHK/xu100-source/7.bmp", "DEFOCUS/dataset/test_data/CUHK/xu100-gt/7.bmp", "defocus-cuhk"),
    ("CASIA/CASIA 1.0 dataset/Tp/Sp/Sp_D_CNN_A_art0024_ani0032_0268.jpg",
     "CASIA/CASIA 1.0 groundtruth/Sp/Sp_D_CNN_A_art0024_ani0032_0268_gt.png", "casia1"),
    ("CASIA/CASIA 1.0 dataset/Tp/CM/Sp_S_CNN_A_nat0012_nat0012_0002.jpg",
     "CASIA/CASIA 1.0 groundtruth/CM/Sp_S_CNN_A_nat0012_nat0012_0002_gt.png", "casia1"),
    ("CASIA/CASIA 1.0 dataset/Au/Au_ani_0001.jpg", None, "casia1-authentic"),
    ("CASIA/CASIA2.0_revised/Tp/Tp_D_CRN_M_N_pla00035_pla00033_10997.tif",
     "CASIA/CASIA2.0_Groundtruth/Tp_D_CRN_M_N_pla00035_pla00033_10997_gt.png", "casia2"),
    ("CASIA/CASIA2.0_revised/Au/Au_ani_00001.jpg", None, "casia2-authentic"),
]  # fmt: skip


def grow(root: Path, rename: dict[str, str]) -> None:
    for picture, mask, _ in TREE:
        for number, name in enumerate((picture, mask)):
            if name is None:
                continue
            for old, new in rename.items():
                name = name.replace(old, new)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = INSIDE * np.uint8(255) if number else np.zeros((6, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / name)


VARIANTS = {
    "as shipped": {},
    "other capitals and dashes": {"CASIA2.0_revised": "casia2.0 Revised", "DUTOMRON": "DUT-OMRON", "HKU-IS": "Hku_is",
                                  "ISTD_Dataset": "istd-dataset", "CAMO-V.1.0-CVIU2019": "CAMO_V.1.0_CVIU2019"},
    "shorter names": {"CAMO-V.1.0-CVIU2019": "CAMO", "COD10K-v3": "COD10K", "ISTD_Dataset": "ISTD", "PASCAL/": "PASCAL-S/",
                      "DEFOCUS/dataset": "DEFOCUS", "CHAMELEON/Imgs": "CHAMELEON/Image", "NC4K/Imgs": "NC4K/Images",
                      "DUTS/DUTS-T": "DUTS-T"},
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_data_set_is_found_in_its_tree(tmp_path, variant):
    grow(tmp_path, VARIANTS[variant])
    for name in known_datasets():
        pairs = find_pairs(name, root=tmp_path)
        expected = sorted(Path(picture).name for picture, _, where in TREE if where == name)
        assert sorted(pair.image.name for pair in pairs) == expected
        for pair in pairs:
            _, mask = pair.read()
            assert np.array_equal(mask, np.zeros_like(INSIDE) if name.endswith("authentic") else INSIDE)


def test_names_can_be_joined(tmp_path):
    grow(tmp_path, {})
    names = [pair.name for pair in find_pairs("casia2+casia2-authentic", root=tmp_path)]
    assert names == ["casia2/Tp/Tp_D_CRN_M_N_pla00035_pla00033_10997", "casia2-authentic/Au/Au_ani_00001"]


def test_what_is_missing_is_said(tmp_path):
    grow(tmp_path, {})
    (tmp_path / "NC4K/GT/1.png").unlink()
    with pytest.raises(DataError, match=r"nc4k: 1 of 1 images have no mask: .*NC4K/Imgs/1\.jpg"):
        find_pairs("nc4k", root=tmp_path)
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(tmp_path / "CASIA/CASIA2.0_Groundtruth/Tp_D_CRN_M_N_pla00035_pla00033_10997_gt.png")
    with pytest.raises(DataError, match=r"10997_gt\.png is 6 x 8 but its image is 8 x 6"):
        find_pairs("casia2", root=tmp_path)[0].read()
    found = locate(known_datasets()["nc4k"], tmp_path / "elsewhere")
    assert found.images is None and found.looked[0] == tmp_path / "elsewhere/NC4K/Imgs"
    assert not scan_located(found).pairs


def test_the_list_says_how_many_pairs_lie_where(tmp_path):
    grow(tmp_path, {"CHAMELEON/Imgs": "CHAMELEON/Image"})
    (tmp_path / "NC4K").rename(tmp_path / "elsewhere")
    call = ("data", "list", "--data-root", str(tmp_path))
    told = CliRunner().invoke(focus, call, env={"COLUMNS": "90"})  # narrow: long folders go on in a second line
    assert f"below {tmp_path}" in told.stderr
    rows = [line.split() for line in told.stdout.splitlines()]
    assert ["chameleon", "camouflage", "test", "1", "76", "CHAMELEON/Image"] in rows
    assert ["nc4k", "camouflage", "test", "not", "found", "4121", "NC4K/Imgs"] in rows
    assert [row[0] for row in rows[1:] if len(row) > 1] == list(known_datasets())
    assert "\N{HORIZONTAL ELLIPSIS}" not in told.stdout
    listed = json.loads(CliRunner().invoke(focus, [*call, "--json"]).stdout)["datasets"]
    found = {row["name"]: (row["found"], row["pairs"], row["expected"]) for row in listed}
    assert found["chameleon"] == (True, 1, 76) and found["nc4k"] == (False, 0, 4121)


def test_where_the_data_root_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("FOCUS_DATA_ROOT", raising=False)
    assert data_root() == Path("datasets")
    monkeypatch.setenv("FOCUS_DATA_ROOT", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("here") == Path("here")


# The paper's figures, typed from its tables, and the number of images in the published archives (of CASIA 1.0 the paper prints 921)
PAPER = {
    "camo-test": (250, {"s_measure": 0.912, "e_measure_mean": 0.963, "weighted_f": 0.904, "mae": 0.025}),
    "cod10k-test": (2026, {"s_measure": 0.910, "e_measure_mean": 0.974, "weighted_f": 0.883, "mae": 0.013}),
    "chameleon": (76, {"s_measure": 0.922, "e_measure_mean": 0.975, "weighted_f": 0.908, "mae": 0.017}),
    "nc4k": (4121, {"s_measure": 0.915, "e_measure_mean": 0.964, "weighted_f": 0.906, "mae": 0.020}),
    "duts-test": (5019, {"s_measure": 0.929, "e_measure_mean": 0.965, "mae": 0.019}),
    "dut-omron": (5168, {"s_measure": 0.868, "e_measure_mean": 0.900, "mae": 0.045}),
    "hku-is": (4447, {"s_measure": 0.935, "e_measure_mean": 0.974, "mae": 0.018}),
    "ecssd": (1000, {"s_measure": 0.943, "e_measure_mean": 0.971, "mae": 0.018}),
    "pascal-s": (850, {"s_measure": 0.898, "e_measure_mean": 0.942, "mae": 0.036}),
    "istd-test": (540, {"ber": 0.98}),
    "defocus-dut": (500, {"f_beta_adaptive": 0.912, "mae": 0.048}),
    "defocus-cuhk": (100, {"f_beta_adaptive": 0.934, "mae": 0.036}),
    "casia1": (919, {"f1": 0.892, "auc": 0.940}),
}


def test_counts_and_figures_of_the_paper():
    known = known_datasets()
    assert {name for name, dataset in known.items() if dataset.published} == PAPER.keys()
    for name, (count, figures) in PAPER.items():
        assert known[name].count == count
        assert known[name].published["paper, DINOv2-g"] == figures


def test_figures_of_the_model_zoo():
    names = {"CAMO": "camo-test", "COD10k": "cod10k-test", "CHAMELEON": "chameleon", "NC4K": "nc4k", "DUTS": "duts-test",
             "DUT-OMRON": "dut-omron", "HKU-IS": "hku-is", "ECSSD": "ecssd", "PACAL-S": "pascal-s", "ISTD": "istd-test",
             "CUHK": "defocus-cuhk", "DUT": "defocus-dut", "CASIA": "casia1"}  # fmt: skip
    known = known_datasets()
    for row in json.loads((Path(__file__).parent / "data" / "release" / "model_zoo.json").read_text())["rows"]:
        size = "g" if "giant" in row["model"] else "L"
        ours = known[names[row["data"]]].published[f"model zoo, DINOv2-{size} (release protocol)"]
        theirs = {key.removesuffix("_release"): value for key, value in row.items() if isinstance(value, float)}
        assert ours == theirs


def test_every_data_set_says_where_it_is_from():
    for entry in registry().of_kind("task"):
        for dataset in entry.get().datasets:
            assert dataset.title and dataset.citation and dataset.licence and dataset.url.startswith("http") and dataset.count
            assert not dataset.masks or len(dataset.masks) == len(dataset.images)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the folder of real photographs is not beside the checkout")
def test_white_is_in_focus():
    """Declared for every defocus set; on real photographs the white part is the sharper one in most cases."""
    defocus = [dataset for name, dataset in known_datasets().items() if name.startswith("defocus")]
    assert {dataset.foreground for dataset in defocus} == {"white"} and len(defocus) == 3
    sharper = []
    for pair in find_pairs(str(SHARED / "data" / "defocus")):
        image, mask = pair.read()
        detail = np.abs(np.diff(image.mean(axis=2), axis=1))
        sharper.append(detail[mask[:, 1:]].mean() > detail[~mask[:, 1:]].mean())
    assert np.mean(sharper) > 0.6
