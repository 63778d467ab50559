"""The published data sets of the five tasks: where their images and masks lie, as their authors ship them.

Folders are found below the data root; capitals, ``-``, ``_`` and spaces in their names do not matter. Figures of the paper and
of its authors' model zoo are those of their own evaluation, protocol ``release``: binarised masks, a BER of 0.75 of the usual
one. The F-measure that the paper prints for defocus agrees with the zoo's adaptive one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from focus_framework import Dataset, Fingerprint

PAPER = "paper, DINOv2-g"
ZOO_GIANT = "model zoo, DINOv2-g (release protocol)"
ZOO_LARGE = "model zoo, DINOv2-L (release protocol)"
ZOO_COLUMNS = ("s_measure", "e_measure_mean", "weighted_f", "f_beta_adaptive", "mae", "ber", "f1", "auc")
TERMS = "not stated here; see the authors' page before any use other than research"


def figures(paper: dict[str, float], giant: Sequence[float | None], large: Sequence[float | None]) -> dict[str, dict[str, float]]:
    """What `Dataset.published` holds; the rows of the model zoo are in the order of `ZOO_COLUMNS`, None where it prints none."""
    zoo = {
        source: {metric: value for metric, value in zip(ZOO_COLUMNS, row, strict=True) if value is not None}
        for source, row in ((ZOO_GIANT, giant), (ZOO_LARGE, large))
    }
    return {PAPER: paper, **zoo}


NO_OBJECT = ("*NonCAM*",)
"""COD10K: images without a camouflaged object, which the field leaves out."""

CAMO_TRAIN = Dataset(
    name="camo-train",
    title="CAMO, training part",
    images=("CAMO-V.1.0-CVIU2019/Images/Train", "CAMO/Images/Train"),
    masks=("CAMO-V.1.0-CVIU2019/GT", "CAMO/GT"),
    split="train",
    count=1000,
    fingerprint=Fingerprint(names=r"camourflage_\d{5}"),
    citation="Le et al., Anabranch network for camouflaged object segmentation, CVIU 2019",
    licence=TERMS,
    url="https://sites.google.com/view/ltnghia/research/camo",
)

CAMO_TEST = Dataset(
    name="camo-test",
    title="CAMO, test part",
    images=("CAMO-V.1.0-CVIU2019/Images/Test", "CAMO/Images/Test"),
    masks=("CAMO-V.1.0-CVIU2019/GT", "CAMO/GT"),
    split="test",
    count=250,
    fingerprint=Fingerprint(names=r"camourflage_\d{5}"),
    citation="Le et al., Anabranch network for camouflaged object segmentation, CVIU 2019",
    licence=TERMS,
    url="https://sites.google.com/view/ltnghia/research/camo",
    published=figures(
        paper={"s_measure": 0.912, "e_measure_mean": 0.963, "weighted_f": 0.904, "mae": 0.025},
        giant=(0.916, 0.9665, 0.9116, 0.9191, 0.0239, 3.2107, 0.9211, 0.9572),
        large=(0.9026, 0.9563, 0.8932, 0.9034, 0.0306, 3.7524, 0.906, 0.95),
    ),
)

COD10K_TRAIN = Dataset(
    name="cod10k-train",
    title="COD10K, training images with a camouflaged object",
    images=("COD10K-v3/Train/Image", "COD10K/Train/Image"),
    masks=("COD10K-v3/Train/GT_Object", "COD10K/Train/GT_Object"),
    split="train",
    count=3040,
    exclude=NO_OBJECT,
    fingerprint=Fingerprint(names=r"COD10K-CAM-\d-.+-\d+"),
    citation="Fan et al., Camouflaged object detection, CVPR 2020",
    licence=TERMS,
    url="https://github.com/DengPingFan/SINet",
)

COD10K_TEST = Dataset(
    name="cod10k-test",
    title="COD10K, test images with a camouflaged object",
    images=("COD10K-v3/Test/Image", "COD10K/Test/Image"),
    masks=("COD10K-v3/Test/GT_Object", "COD10K/Test/GT_Object"),
    split="test",
    count=2026,
    exclude=NO_OBJECT,
    fingerprint=Fingerprint(names=r"COD10K-CAM-\d-.+-\d+"),
    citation="Fan et al., Camouflaged object detection, CVPR 2020",
    licence=TERMS,
    url="https://github.com/DengPingFan/SINet",
    published=figures(
        paper={"s_measure": 0.91, "e_measure_mean": 0.974, "weighted_f": 0.883, "mae": 0.013},
        giant=(0.9114, 0.9734, 0.8848, 0.8917, 0.0133, 4.1465, 0.891, 0.9447),
        large=(0.9002, 0.9671, 0.8662, 0.8764, 0.0151, 4.8688, 0.8738, 0.9351),
    ),
)

CHAMELEON = Dataset(
    name="chameleon",
    title="CHAMELEON",
    images=("CHAMELEON/Imgs", "CHAMELEON/Image*"),
    masks=("CHAMELEON/GT", "CHAMELEON/GT"),
    split="test",
    count=76,
    fingerprint=Fingerprint(names=r"animal-\d+"),
    citation="Skurowski et al., Animal camouflage analysis: Chameleon database, 2018",
    licence=TERMS,
    url="https://www.polsl.pl/rau6/chameleon-database-animal-camouflage-analysis/",
    published=figures(
        paper={"s_measure": 0.922, "e_measure_mean": 0.975, "weighted_f": 0.908, "mae": 0.017},
        giant=(0.9216, 0.9764, 0.9113, 0.917, 0.0159, 3.4531, 0.9163, 0.954),
        large=(0.909, 0.9693, 0.8932, 0.9008, 0.0188, 4.357, 0.8972, 0.9419),
    ),
)

NC4K = Dataset(
    name="nc4k",
    title="NC4K",
    images=("NC4K/Imgs", "NC4K/Image*"),
    masks=("NC4K/GT", "NC4K/GT"),
    split="test",
    count=4121,
    fingerprint=Fingerprint(names=r"\d{1,4}"),
    citation="Lv et al., Simultaneously localize, segment and rank the camouflaged objects, CVPR 2021",
    licence=TERMS,
    url="https://github.com/JingZhang617/COD-Rank-Localize-and-Segment",
    published=figures(
        paper={"s_measure": 0.915, "e_measure_mean": 0.964, "weighted_f": 0.906, "mae": 0.02},
        giant=(0.9177, 0.9668, 0.9093, 0.9187, 0.0198, 3.8421, 0.9126, 0.9488),
        large=(0.9099, 0.9605, 0.8979, 0.9094, 0.0223, 4.1988, 0.9024, 0.944),
    ),
)

CAMOUFLAGE = (CAMO_TRAIN, CAMO_TEST, COD10K_TRAIN, COD10K_TEST, CHAMELEON, NC4K)

DUTS_TRAIN = Dataset(
    name="duts-train",
    title="DUTS, training part",
    images=("DUTS/DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Image"),
    masks=("DUTS/DUTS-TR/DUTS-TR-Mask", "DUTS-TR/DUTS-TR-Mask"),
    split="train",
    count=10553,
    fingerprint=Fingerprint(names=r"ILSVRC201\d_.+_\d{8}|n\d{8}_\d+"),
    citation="Wang et al., Learning to detect salient objects with image-level supervision, CVPR 2017",
    licence=TERMS,
    url="http://saliencydetection.net/duts/",
)

DUTS_TEST = Dataset(
    name="duts-test",
    title="DUTS, test part",
    images=("DUTS/DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Image"),
    masks=("DUTS/DUTS-TE/DUTS-TE-Mask", "DUTS-TE/DUTS-TE-Mask"),
    split="test",
    count=5019,
    fingerprint=Fingerprint(names=r"ILSVRC2012_test_\d{8}|sun_[a-z]+"),
    citation="Wang et al., Learning to detect salient objects with image-level supervision, CVPR 2017",
    licence=TERMS,
    url="http://saliencydetection.net/duts/",
    published=figures(
        paper={"s_measure": 0.929, "e_measure_mean": 0.965, "mae": 0.019},
        giant=(0.9321, 0.9677, 0.9275, 0.928, 0.018, 2.4874, 0.9297, 0.9668),
        large=(0.9276, 0.9641, 0.9198, 0.9216, 0.0197, 2.6922, 0.9234, 0.9641),
    ),
)

DUT_OMRON = Dataset(
    name="dut-omron",
    title="DUT-OMRON",
    images=("DUTOMRON/DUT-OMRON-image", "DUTOMRON/DUT-OMRON-image/DUT-OMRON-image"),
    masks=("DUTOMRON/pixelwiseGT-new-PNG", "DUTOMRON/DUT-OMRON-gt-pixelwise*/pixelwiseGT-new-PNG"),
    split="test",
    count=5168,
    fingerprint=Fingerprint(names=r"im\d{3}|sun_[a-z]+", members=("im005",)),
    citation="Yang et al., Saliency detection via graph-based manifold ranking, CVPR 2013",
    licence=TERMS,
    url="http://saliencydetection.net/dut-omron/",
    published=figures(
        paper={"s_measure": 0.868, "e_measure_mean": 0.9, "mae": 0.045},
        giant=(0.8778, 0.9123, 0.8361, 0.843, 0.04, 5.1346, 0.8481, 0.9315),
        large=(0.8735, 0.9085, 0.8287, 0.8368, 0.0427, 5.0443, 0.8446, 0.9327),
    ),
)

HKU_IS = Dataset(
    name="hku-is",
    title="HKU-IS",
    images=("HKU-IS/imgs",),
    masks=("HKU-IS/gt",),
    split="test",
    count=4447,
    fingerprint=Fingerprint(names=r"\d{4}", members=("0004", "0005", "9056", "9057")),
    citation="Li and Yu, Visual saliency based on multiscale deep features, CVPR 2015",
    licence=TERMS,
    url="https://i.cs.hku.hk/~yzyu/research/deep_saliency.html",
    published=figures(
        paper={"s_measure": 0.935, "e_measure_mean": 0.974, "mae": 0.018},
        giant=(0.9354, 0.9745, 0.9423, 0.9438, 0.0176, 2.2181, 0.9454, 0.9704),
        large=(0.9356, 0.974, 0.9417, 0.9435, 0.0176, 2.2421, 0.9449, 0.9701),
    ),
)

ECSSD = Dataset(
    name="ecssd",
    title="ECSSD",
    images=("ECSSD/images",),
    masks=("ECSSD/ground_truth_mask",),
    split="test",
    count=1000,
    fingerprint=Fingerprint(
        names=r"\d{4}", members=("0001", "0500", "1000"), sizes={"0001": (267, 400), "0500": (299, 400), "1000": (400, 260)}
    ),
    citation="Yan et al., Hierarchical saliency detection, CVPR 2013",
    licence=TERMS,
    url="https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
    published=figures(
        paper={"s_measure": 0.943, "e_measure_mean": 0.971, "mae": 0.018},
        giant=(0.9455, 0.9727, 0.9539, 0.9561, 0.0175, 1.8896, 0.956, 0.9748),
        large=(0.9423, 0.9706, 0.9499, 0.9534, 0.0189, 2.0011, 0.9529, 0.9733),
    ),
)

PASCAL_S = Dataset(
    name="pascal-s",
    title="PASCAL-S",
    images=("PASCAL/Imgs", "PASCAL-S/Imgs", "PASCAL-S/Image*"),
    masks=("PASCAL/Imgs", "PASCAL-S/Imgs", "PASCAL-S/GT"),
    split="test",
    count=850,
    image_patterns=("*.jpg",),  # the masks beside them are PNG
    fingerprint=Fingerprint(names=r"\d{1,3}", members=("1", "425", "850"), strangers=("0", "851")),
    citation="Li et al., The secrets of salient object segmentation, CVPR 2014",
    licence=TERMS,
    url="http://cbs.ic.gatech.edu/salobj/",
    published=figures(
        paper={"s_measure": 0.898, "e_measure_mean": 0.942, "mae": 0.036},
        giant=(0.8974, 0.9408, 0.8839, 0.8901, 0.0368, None, None, None),
        large=(0.8905, 0.9349, 0.8758, 0.8836, 0.0415, None, None, None),
    ),
)

SOD = Dataset(
    name="sod",
    title="SOD, salient objects in the images of the Berkeley segmentation set",
    images=("SOD/Imgs", "SOD/image*"),
    masks=("SOD/Imgs", "SOD/mask*"),
    split="test",
    count=300,
    image_patterns=("*.jpg",),
    fingerprint=Fingerprint(
        names=r"\d{4,6}", members=("2092", "3096", "8023", "12003", "100075", "101085", "299086"), any_size=((481, 321), (321, 481))
    ),
    citation="Movahedi and Elder, Design and perceptual validation of performance measures for salient object segmentation, CVPRW 2010",
    licence=TERMS,
    url="https://elderlab.yorku.ca/resources/salient-objects-dataset-sod/",
)

SED2 = Dataset(
    name="sed2",
    title="SED2, images with two objects; grey levels of the masks are annotators' votes",
    images=("SED2",),
    masks=("SED2",),
    split="test",
    count=100,
    image_patterns=("*.jpg",),
    fingerprint=Fingerprint(
        members=("00000155", "109300481333", "alanmort_p1010058", "dsc_18501299", "eagle052607__20_", "mont_st_michel", "swan_and_friend",
                 "photo_sanary_19-03-05_083", "yack1"),
        sizes={"00000155": (300, 225), "eagle052607__20_": (300, 210), "yack1": (300, 199)},
    ),
    citation="Alpert et al., Image segmentation by probabilistic bottom-up aggregation and cue integration, CVPR 2007",
    licence=TERMS,
    url="https://www.wisdom.weizmann.ac.il/~vision/Seg_Evaluation_DB/",
)  # fmt: skip

SALIENT = (DUTS_TRAIN, DUTS_TEST, DUT_OMRON, HKU_IS, ECSSD, PASCAL_S, SOD, SED2)

ISTD_TRAIN = Dataset(
    name="istd-train",
    title="ISTD, training part",
    images=("ISTD_Dataset/train/train_A", "ISTD/train/train_A"),
    masks=("ISTD_Dataset/train/train_B", "ISTD/train/train_B"),
    split="train",
    count=1330,
    fingerprint=Fingerprint(names=r"\d+-\d+", darkest=True),
    citation="Wang et al., Stacked conditional GANs for jointly learning shadow detection and removal, CVPR 2018",
    licence=TERMS,
    url="https://github.com/DeepInsight-PCALab/ST-CGAN",
)

ISTD_TEST = Dataset(
    name="istd-test",
    title="ISTD, test part",
    images=("ISTD_Dataset/test/test_A", "ISTD/test/test_A"),
    masks=("ISTD_Dataset/test/test_B", "ISTD/test/test_B"),
    split="test",
    count=540,
    fingerprint=Fingerprint(names=r"\d+-\d+", darkest=True),
    citation="Wang et al., Stacked conditional GANs for jointly learning shadow detection and removal, CVPR 2018",
    licence=TERMS,
    url="https://github.com/DeepInsight-PCALab/ST-CGAN",
    published=figures(
        paper={"ber": 0.98},
        giant=(0.9628, 0.9884, 0.9669, 0.9661, 0.0067, 0.9831, 0.9697, 0.9869),
        large=(0.9552, 0.9845, 0.9572, 0.9588, 0.0095, 1.233, 0.9634, 0.9836),
    ),
)

SHADOW = (ISTD_TRAIN, ISTD_TEST)

SHARP: Literal["white"] = "white"
"""In the ground truth of DUT and CUHK white is in focus."""

DEFOCUS_TRAIN = Dataset(
    name="defocus-train",
    title="DUT and CUHK defocus, training images of both",
    images=("DEFOCUS/dataset/train_data/1204source", "DEFOCUS/train_data/1204source"),
    masks=("DEFOCUS/dataset/train_data/1204gt", "DEFOCUS/train_data/1204gt"),
    split="train",
    count=1204,
    foreground=SHARP,
    fingerprint=Fingerprint(places=("*1204*", "*defocus*", "*dbd*", "*dut*", "*cuhk*")),
    citation="Zhao et al., Defocus blur detection via multi-stream bottom-top-bottom network, CVPR 2018; Shi et al., as defocus-cuhk",
    licence=TERMS,
    url="http://ice.dlut.edu.cn/ZhaoWenda/BTBCRLNet.html",
)

DEFOCUS_DUT = Dataset(
    name="defocus-dut",
    title="DUT defocus, test part",
    images=("DEFOCUS/dataset/test_data/DUT/*source*", "DEFOCUS/test_data/DUT/*source*"),
    masks=("DEFOCUS/dataset/test_data/DUT/*gt*", "DEFOCUS/test_data/DUT/*gt*"),
    split="test",
    count=500,
    foreground=SHARP,
    fingerprint=Fingerprint(names=r"\d{1,4}", places=("*dut500*", "*dut*", "*defocus*", "*dbd*")),
    citation="Zhao et al., Defocus blur detection via multi-stream bottom-top-bottom fully convolutional network, CVPR 2018",
    licence=TERMS,
    url="http://ice.dlut.edu.cn/ZhaoWenda/BTBCRLNet.html",
    published=figures(
        paper={"f_beta_adaptive": 0.912, "mae": 0.048},
        giant=(0.8863, 0.9316, 0.8947, 0.9128, 0.0493, 4.0988, 0.9111, 0.9453),
        large=(0.8892, 0.9356, 0.8999, 0.9173, 0.0474, 4.0471, 0.9146, 0.946),
    ),
)

DEFOCUS_CUHK = Dataset(
    name="defocus-cuhk",
    title="CUHK defocus, test part",
    images=("DEFOCUS/dataset/test_data/CUHK/*source*", "DEFOCUS/test_data/CUHK/*source*"),
    masks=("DEFOCUS/dataset/test_data/CUHK/*gt*", "DEFOCUS/test_data/CUHK/*gt*"),
    split="test",
    count=100,
    foreground=SHARP,
    # Names of the whole set of 704 blurred photographs, or numbers.
    fingerprint=Fingerprint(
        names=r"\d{1,4}|out_of_focus\d{4}", telling=r"out_of_focus\d{4}", places=("*xu100*", "*cuhk*", "*defocus*", "*dbd*")
    ),
    citation="Shi et al., Discriminative blur detection features, CVPR 2014",
    licence=TERMS,
    url="http://www.cse.cuhk.edu.hk/leojia/projects/dblurdetect/dataset.html",
    published=figures(
        paper={"f_beta_adaptive": 0.934, "mae": 0.036},
        giant=(0.9106, 0.9519, 0.9208, 0.9362, 0.0354, 3.3175, 0.931, 0.9558),
        large=(0.9093, 0.952, 0.924, 0.9394, 0.035, 3.4881, 0.9318, 0.9535),
    ),
)

DEFOCUS = (DEFOCUS_TRAIN, DEFOCUS_DUT, DEFOCUS_CUHK)

AUTHENTIC = ("Au_*",)
WITH_GT = ("{stem}_gt", "{stem}")

CASIA1 = Dataset(
    name="casia1",
    title="CASIA 1.0, tampered images",
    images=("CASIA/CASIA 1.0 dataset/Modified Tp", "CASIA/CASIA 1.0 dataset"),
    masks=("CASIA/CASIA 1.0 groundtruth", "CASIA/CASIA 1.0 groundtruth"),
    split="test",
    count=919,  # the archive has 920, one of them without a mask; the paper prints 921
    exclude=AUTHENTIC,
    mask_names=WITH_GT,
    fingerprint=Fingerprint(names=r"Sp_[SD]_[A-Z]{3}_[A-Z]_\w+[_.]\d{4}"),
    # 106 masks have corrected hosts, or S where the image has D; two images have a point before their number.
    keys=(r"_([A-Z]{3})_([A-Z])_\w+[_.](\d{4})$", r"[_.](\d{4})$"),
    transposed=("Sp_D_CNN_A_sec0012_ani0007_0275",),
    maskless=("Sp_D_NRN_A_cha0064_ani0074_0542",),
    citation="Dong et al., CASIA image tampering detection evaluation database, ChinaSIP 2013; masks: Pham et al., Symmetry 2019",
    licence=TERMS,
    url="https://github.com/namtpham/casia1groundtruth",
    published=figures(
        paper={"f1": 0.892, "auc": 0.94},
        giant=(0.9354, 0.9603, 0.9212, 0.9261, 0.0096, 3.4958, 0.9181, 0.9534),
        large=(0.896, 0.9308, 0.8574, 0.8691, 0.0192, 5.4219, 0.8604, 0.9277),
    ),
)

CASIA1_AUTHENTIC = Dataset(
    name="casia1-authentic",
    title="CASIA 1.0, authentic images: empty masks",
    images=("CASIA/CASIA 1.0 dataset",),
    masks=(),
    split="test",
    count=800,
    image_patterns=AUTHENTIC,
    fingerprint=Fingerprint(names=r"Au_[a-z]+_\d{4}"),
    citation="Dong et al., CASIA image tampering detection evaluation database, ChinaSIP 2013",
    licence=TERMS,
    url="https://github.com/namtpham/casia1groundtruth",
)

CASIA2 = Dataset(
    name="casia2",
    title="CASIA 2.0, tampered images",
    images=("CASIA/CASIA2.0_revised",),
    masks=("CASIA/CASIA2.0_Groundtruth",),
    split="train",
    count=5123,
    exclude=AUTHENTIC,
    mask_names=WITH_GT,
    fingerprint=Fingerprint(names=r"Tp_.+_\d{5}"),
    citation="Dong et al., CASIA image tampering detection evaluation database, ChinaSIP 2013; masks: Pham et al., Symmetry 2019",
    licence=TERMS,
    url="https://github.com/namtpham/casia2groundtruth",
)

CASIA2_AUTHENTIC = Dataset(
    name="casia2-authentic",
    title="CASIA 2.0, authentic images: empty masks",
    images=("CASIA/CASIA2.0_revised",),
    masks=(),
    split="train",
    count=7491,
    image_patterns=AUTHENTIC,
    fingerprint=Fingerprint(names=r"Au_[a-z]+_\d{5}"),
    citation="Dong et al., CASIA image tampering detection evaluation database, ChinaSIP 2013",
    licence=TERMS,
    url="https://github.com/namtpham/casia2groundtruth",
)

FORGERY = (CASIA1, CASIA1_AUTHENTIC, CASIA2, CASIA2_AUTHENTIC)
