"""Reading that does not trip: a table of awkward files, each written by an encoder and compared with what was put in."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from focus_framework.errors import DataError
from focus_framework.files.images import list_images, read_grey, read_image, read_mask, write_image

HEIGHT, WIDTH = 24, 40
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
# smooth, so that lossy formats stay near; three different channels and no symmetry, so that no mix-up goes unseen
PICTURE = np.stack([COLUMNS * 6, ROWS * 10, 255 - COLUMNS * 3 - ROWS * 2], axis=2).astype(np.uint8)
GREY = (COLUMNS * 4 + ROWS * 3).astype(np.uint8)
GREY3 = np.repeat(GREY[..., None], 3, axis=2)
INSIDE = (COLUMNS > 10) & (ROWS < 15)


def with_alpha(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels)
    picture.putalpha(Image.fromarray(255 - GREY))
    return picture


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def stored(orientation: int) -> Image.Image:
    """What a camera writes whose user must see `PICTURE`: the inverse of the turn that the tag asks for."""
    turned = {1: PICTURE, 2: PICTURE[:, ::-1], 3: PICTURE[::-1, ::-1], 4: PICTURE[::-1], 5: PICTURE.transpose(1, 0, 2),
              6: np.rot90(PICTURE, 1), 7: np.rot90(PICTURE, 2).transpose(1, 0, 2), 8: np.rot90(PICTURE, -1)}  # fmt: skip
    return Image.fromarray(np.ascontiguousarray(turned[orientation]))


def palette() -> Image.Image:
    picture = Image.fromarray((GREY // 8).astype(np.uint8)).convert("P")
    picture.putpalette([channel for index in range(256) for channel in (index, 255 - index, (index * 7) % 256)])
    return picture


def palette_truth() -> np.ndarray:
    index = (GREY // 8).astype(int)
    return np.stack([index, 255 - index, (index * 7) % 256], axis=2).astype(np.uint8)


# name of the file, how it is written, what must be read, tolerance in grey values (0 where the format is lossless)
TABLE = [
    ("rgb.png", lambda p: Image.fromarray(PICTURE).save(p), PICTURE, 0),
    ("rgb.bmp", lambda p: Image.fromarray(PICTURE).save(p), PICTURE, 0),
    ("rgb.tif", lambda p: Image.fromarray(PICTURE).save(p), PICTURE, 0),
    ("lzw.tiff", lambda p: Image.fromarray(PICTURE).save(p, compression="tiff_lzw"), PICTURE, 0),
    ("rgb.webp", lambda p: Image.fromarray(PICTURE).save(p, lossless=True), PICTURE, 0),
    ("rgb.ppm", lambda p: Image.fromarray(PICTURE).save(p), PICTURE, 0),
    ("rgb.tga", lambda p: Image.fromarray(PICTURE).save(p), PICTURE, 0),
    ("rgb.jpg", lambda p: Image.fromarray(PICTURE).save(p, quality=98, subsampling=0), PICTURE, 6),
    ("progressive.jpg", lambda p: Image.fromarray(PICTURE).save(p, quality=98, subsampling=0, progressive=True), PICTURE, 6),
    ("lossy.webp", lambda p: Image.fromarray(PICTURE).save(p, quality=100), PICTURE, 25),
    ("radiance.hdr", lambda p: cv2.imwrite(str(p), PICTURE[..., ::-1].astype(np.float32) / 255), PICTURE, 2),
    ("grey.png", lambda p: Image.fromarray(GREY).save(p), GREY3, 0),
    ("grey.jpg", lambda p: Image.fromarray(GREY).save(p, quality=98), GREY3, 3),
    ("bit.png", lambda p: Image.fromarray(INSIDE).save(p), np.repeat(INSIDE[..., None], 3, 2) * np.uint8(255), 0),
    ("alpha.png", lambda p: with_alpha(PICTURE).save(p), PICTURE, 0),
    ("alpha.tif", lambda p: with_alpha(PICTURE).save(p), PICTURE, 0),
    ("alpha.webp", lambda p: with_alpha(PICTURE).save(p, lossless=True, exact=True), PICTURE, 0),
    ("grey-alpha.png", lambda p: with_alpha(GREY).save(p), GREY3, 0),
    ("palette.png", lambda p: palette().save(p), palette_truth(), 0),
    ("palette-clear.png", lambda p: palette().save(p, transparency=bytes(range(64))), palette_truth(), 0),
    ("palette.gif", lambda p: palette().save(p), palette_truth(), 0),
    ("palette.bmp", lambda p: palette().save(p), palette_truth(), 0),
    ("16-bit.png", lambda p: Image.fromarray(GREY.astype(np.uint16) * 257).save(p), GREY3, 0),
    ("16-bit.tif", lambda p: Image.fromarray(GREY.astype(np.uint16) * 257).save(p), GREY3, 0),
    ("16-bit-rgb.png", lambda p: cv2.imwrite(str(p), PICTURE[..., ::-1].astype(np.uint16) * 257), PICTURE, 0),
    ("16-bit-rgb.tif", lambda p: cv2.imwrite(str(p), PICTURE[..., ::-1].astype(np.uint16) * 257), PICTURE, 0),
    ("float.tif", lambda p: Image.fromarray(GREY.astype(np.float32) / 255).save(p), GREY3, 0),
    ("float-255.tif", lambda p: Image.fromarray(GREY.astype(np.float32)).save(p), GREY3, 0),
    ("cmyk.jpg", lambda p: Image.fromarray(PICTURE).convert("CMYK").save(p, quality=98, subsampling=0), PICTURE, 6),
    ("cmyk.tif", lambda p: Image.fromarray(PICTURE).convert("CMYK").save(p), PICTURE, 1),
    ("png-called.jpg", lambda p: Image.fromarray(PICTURE).save(p, format="png"), PICTURE, 0),
    ("jpeg-called.png", lambda p: Image.fromarray(PICTURE).save(p, format="jpeg", quality=98, subsampling=0), PICTURE, 6),
    ("image-without-suffix", lambda p: Image.fromarray(PICTURE).save(p, format="png"), PICTURE, 0),
    ("日本語 фото é.png", lambda p: Image.fromarray(PICTURE).save(p), PICTURE, 0),
    ("n" * 251 + ".png", lambda p: Image.fromarray(PICTURE).save(p), PICTURE, 0),
    *[(f"turned-{n}.png", lambda p, n=n: stored(n).save(p, exif=exif(n)), PICTURE, 0) for n in range(1, 9)],
    ("turned-6.jpg", lambda p: stored(6).save(p, exif=exif(6), quality=98, subsampling=0), PICTURE, 6),
    ("turned-8.tif", lambda p: stored(8).save(p, exif=exif(8)), PICTURE, 0),
    ("turned-nonsense.png", lambda p: Image.fromarray(PICTURE).save(p, exif=exif(77)), PICTURE, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "truth", "tolerance"), TABLE, ids=[row[0][:24] for row in TABLE])
@pytest.mark.filterwarnings("error")
def test_every_kind_of_file_is_read_alike(tmp_path, name, write, truth, tolerance):
    write(tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert pixels.dtype == np.uint8
    assert pixels.shape == truth.shape
    assert np.abs(pixels.astype(int) - truth.astype(int)).max() <= tolerance
    assert pixels.flags.writeable and pixels.flags.c_contiguous


def test_one_pixel_and_one_pixel_wide(tmp_path):
    for shape in ((1, 1, 3), (1, 500, 3), (500, 1, 3)):
        Image.fromarray(np.full(shape, 7, np.uint8)).save(tmp_path / "small.png")
        assert read_image(tmp_path / "small.png").shape == shape


def test_links_and_very_long_paths(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "here.png")
    (tmp_path / "link.png").symlink_to("here.png")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    assert np.array_equal(read_image(tmp_path / "link.png"), PICTURE)
    with pytest.raises(DataError, match=r"broken\.png is a link to a file that does not exist"):
        read_image(tmp_path / "broken.png")
    deep = tmp_path / Path(*["d" * 200] * 18)
    deep.mkdir(parents=True)
    assert len(str(deep)) > 3600
    write_image(deep / "far.png", PICTURE)
    assert np.array_equal(read_image(deep / "far.png"), PICTURE)
    with pytest.raises(DataError, match="File name too long"):
        read_image(tmp_path / Path(*["d" * 200] * 30) / "too-far.png")


def test_the_content_of_a_file_is_read_as_the_file(tmp_path):
    stored(6).save(tmp_path / "turned.png", exif=exif(6))
    content = (tmp_path / "turned.png").read_bytes()
    assert np.array_equal(read_image(content), PICTURE)
    assert read_mask(content).shape == PICTURE.shape[:2]
    with pytest.raises(DataError, match="cannot read row 7: "):
        read_image(content[:60], name="row 7")


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds nothing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + struct.pack(">I", 99) + b"IDAT"


def test_the_limit_of_pixels_is_checked_before_decoding_and_can_be_set(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    huge = tmp_path / "huge.png"
    huge.write_bytes(png_header(60_000, 50_000))  # Pillow alone would raise its own error for this one
    with pytest.raises(DataError, match=r"huge\.png is 60000 x 50000, more than the limit of 100 million pixels"):
        read_image(huge)
    with pytest.raises(DataError, match=r"cannot read .*huge\.png"):  # within the limit, so it is decoded, and found empty
        read_image(huge, max_pixels=3_000_000_000)
    Image.fromarray(PICTURE).save(tmp_path / "small.png")
    with pytest.raises(DataError, match="40 x 24"):
        read_image(tmp_path / "small.png", max_pixels=HEIGHT * WIDTH - 1)
    assert read_image(tmp_path / "small.png", max_pixels=HEIGHT * WIDTH).shape == PICTURE.shape
    assert before == Image.MAX_IMAGE_PIXELS


NOISE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".gif", ".ppm", ".jp2", ".avif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_files_are_errors(tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(NOISE).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=rf"cannot read .*cut\{suffix}"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello, I am a text\n" * 50, b"%PDF-1.4\n", b"<svg></svg>", b"#?RADIANCE\n", bytes(4096)])
def test_what_is_no_image_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "notes.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*notes\.jpg"):
        read_image(tmp_path / "notes.jpg")


def test_missing_folder_and_unreadable_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="is a folder, not a file"):
        read_image(tmp_path)
    if os.geteuid():
        (tmp_path / "locked.png").touch(mode=0)
        with pytest.raises(DataError, match="Permission denied"):
            read_image(tmp_path / "locked.png")


MASKS = [
    ("grey.png", lambda p: Image.fromarray(INSIDE * np.uint8(255)).save(p)),
    ("dim.png", lambda p: Image.fromarray(INSIDE * np.uint8(128)).save(p)),
    ("bit.png", lambda p: Image.fromarray(INSIDE).save(p)),
    ("bit.tif", lambda p: Image.fromarray(INSIDE).save(p)),
    ("16-bit.png", lambda p: Image.fromarray(np.where(INSIDE, 32768, 32767).astype(np.uint16)).save(p)),
    ("16-bit.tif", lambda p: Image.fromarray(np.where(INSIDE, 65535, 300).astype(np.uint16)).save(p)),
    ("float.tif", lambda p: Image.fromarray(np.where(INSIDE, 0.9, 0.1).astype(np.float32)).save(p)),
    ("white.png", lambda p: Image.fromarray(np.repeat(INSIDE[..., None], 3, 2) * np.uint8(255)).save(p)),
    ("red.png", lambda p: Image.fromarray(INSIDE[..., None] * np.array([255, 0, 0], np.uint8)).save(p)),
    ("rgba.png", lambda p: Image.fromarray(np.dstack([INSIDE * np.uint8(255)] * 3 + [GREY])).save(p)),
    ("jpeg.jpg", lambda p: Image.fromarray(INSIDE * np.uint8(255)).save(p, quality=95)),
]


def palette_mask(path: Path) -> None:
    picture = Image.fromarray(INSIDE.astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 128, 0, 0])  # the colour of the first class in the palette of PASCAL VOC
    picture.save(path)


def two_bits(path: Path) -> None:
    """PNG of two bits a pixel: values 0 to 3, of which 2 and 3 lie above half. Written by hand, since Pillow cannot."""
    values = np.where(INSIDE, 2, 1)
    packed = (values[:, 0::4] << 6) | (values[:, 1::4] << 4) | (values[:, 2::4] << 2) | values[:, 3::4]
    lines = b"".join(b"\0" + bytes(row.tolist()) for row in packed)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 2, 0, 0, 0, 0)), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    encoded = [struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(encoded))


MASKS += [("palette.png", palette_mask), ("two-bits.png", two_bits)]


@pytest.mark.parametrize(("name", "write"), MASKS, ids=[row[0] for row in MASKS])
def test_masks_of_any_depth_and_colour(tmp_path, name, write):
    write(tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / name), INSIDE)
    assert np.array_equal(read_mask(tmp_path / name, foreground="black"), ~INSIDE)
    assert np.array_equal(read_grey(tmp_path / name) > 127, INSIDE)


def test_a_mask_of_another_size_names_both(tmp_path):
    Image.fromarray(INSIDE).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", size=(HEIGHT, WIDTH)).shape == (HEIGHT, WIDTH)
    with pytest.raises(DataError, match=r"mask\.png is 40 x 24 but its image is 24 x 40"):
        read_mask(tmp_path / "mask.png", size=(WIDTH, HEIGHT))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_written_images_come_back_and_leave_nothing_behind(tmp_path, channels):
    array = NOISE[..., :1].repeat(channels, axis=2) if channels == 4 else NOISE[..., :channels]
    array = array[..., 0] if channels == 1 else array
    path = tmp_path / ("w" * 251 + ".png")
    write_image(path, array)
    assert np.array_equal(np.asarray(Image.open(path)), array)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o077 == 0o666 & ~_umask() & 0o077


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_failed_write_keeps_the_old_file(tmp_path):
    write_image(tmp_path / "kept.jpg", NOISE)
    before = (tmp_path / "kept.jpg").read_bytes()
    with pytest.raises(DataError, match=r"cannot write .*kept\.jpg"):
        write_image(tmp_path / "kept.jpg", np.zeros((4, 4, 4), np.uint8))  # JPEG has no alpha
    assert (tmp_path / "kept.jpg").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "kept.jpg"]
    with pytest.raises(DataError, match="suffix"):
        write_image(tmp_path / "mask.xyz", NOISE)
    with pytest.raises(DataError, match=r"cannot write .*mask\.png"):
        write_image(tmp_path / "kept.jpg" / "mask.png", NOISE)
    with pytest.raises(ValueError, match="float64"):
        write_image(tmp_path / "mask.png", np.zeros((4, 4)))


def test_images_of_a_folder_are_listed_in_order(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.webp", ".hidden.png", "notes.txt", "mask.tif"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.jpg").symlink_to("a.jpeg")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.PNG", "c.webp", "link.jpg", "mask.tif"]
    with pytest.raises(DataError, match="does not exist"):
        list_images(tmp_path / "gone")
    with pytest.raises(DataError, match="not a folder"):
        list_images(tmp_path / "a.jpeg")


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"pipe\.png is not a regular file"):
        write_image(pipe, GREY)
    assert pipe.is_fifo()
