"""What a camera makes of linear light: exposure, tone curve, white balance, lens, noise, sharpening, JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from .ablation import left_out
from .mesh import Array

KEY = 0.2
"""What the middle of a scene is usually exposed to."""


def calm(light: Array) -> Array:
    """The image without single pixels far brighter than all around them, which a path tracer of few samples leaves."""
    light = np.nan_to_num(np.maximum(light, 0)).astype(np.float32)
    around = cv2.medianBlur(light, 3)
    limit = 2.5 * around + 0.05 * float(np.median(light)) + 1e-4
    return np.minimum(light, limit)


def tone(light: Array, *, key: float, shoulder: float = 1.0) -> Array:
    """Linear light to 0..1 as film has it: the scene's middle at `key`, a toe, and lights that roll off and never cut.

    The curve is Narkowicz's fit of ACES (2016); its result is linear, the sRGB curve comes after it.
    """
    luminance = light @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    low, high = np.percentile(luminance, [2, 98])
    middle = float(np.exp(np.log(np.clip(luminance, low, high) + 1e-4).mean()))
    x = light * (key / max(middle, 1e-6))
    x = x * 0.75 / shoulder
    y = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    return np.where(y <= 0.0031308, 12.92 * y, 1.055 * np.maximum(y, 1e-8) ** (1 / 2.4) - 0.055).astype(np.float32)


def balanced(random: np.random.Generator, light: Array, *, most: float = 0.8) -> Array:
    """Light with most of its colour cast taken out, as automatic white balance does, and a little of one put in."""
    mean = np.maximum(np.clip(light, 0, np.percentile(light, 97)).mean(axis=(0, 1)), 1e-6)
    gain = (mean.mean() / mean) ** random.uniform(0.2, most) * np.exp(random.normal(0, 0.04, 3))
    return light * gain.astype(np.float32)


def photograph(
    random: np.random.Generator, light: Array, *, noise: tuple[float, float] = (0.001, 0.02), rough: bool = True, sharp: bool = False
) -> Array:
    """RGB `[H, W, 3]` uint8 of linear light `[H, W, 3]`; `noise` is the range of the grain at middle grey.

    With `rough` the file is stored as JPEG, now and then twice and of poor quality; with `sharp` nothing blurs the whole image.
    """
    if left_out("camera"):
        return (tone(calm(light), key=KEY) * 255 + 0.5).astype(np.uint8)
    light = balanced(random, calm(light))
    height, width = light.shape[:2]
    if random.random() < 0.4:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        light = light * (1 - random.uniform(0, 0.35) * (x**2 + y**2) / 2)[..., None].astype(np.float32)
    image = tone(light, key=float(np.exp(random.normal(np.log(KEY), 0.35))))
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(random.uniform(0.75, 1.35))
    contrast = random.normal(1.1, 0.12)
    image = (image - 0.45) * np.float32(contrast) + 0.45
    if not sharp:
        image = softened(random, image)
    if random.random() < 0.4:
        image += random.uniform(0.2, 0.8) * (image - cv2.GaussianBlur(image, (0, 0), 1.2))
    amount = np.exp(random.uniform(*np.log(noise)))
    grain = random.standard_normal(image.shape, dtype=np.float32)
    if random.random() < 0.5:
        grain = cv2.GaussianBlur(grain, (0, 0), 0.6) * 1.8
    image += np.float32(amount) * grain * np.sqrt(np.clip(image, 0.05, 1) * 2)
    result = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    if random.random() < 0.03:
        result = np.repeat(result.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    if rough:
        for _ in range(int(random.choice([0, 1, 2], p=[0.2, 0.6, 0.2]))):
            result = jpeg(result, int(random.integers(45, 97)))
    return result


def softened(random: np.random.Generator, image: Array) -> Array:
    """The image after what blurs all of it, now and then: a soft lens, a hand that shook, a size that was changed and back."""
    height, width = image.shape[:2]
    if random.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 0.9))
    if random.random() < 0.06:
        reach, turn = random.uniform(1, 3) * width / 256, random.uniform(0, np.pi)
        steps = np.linspace(-reach / 2, reach / 2, 5)
        shifts = [np.array([[1, 0, step * np.cos(turn)], [0, 1, step * np.sin(turn)]], np.float32) for step in steps]
        moved = [cv2.warpAffine(image, shift, (width, height), borderMode=cv2.BORDER_REPLICATE) for shift in shifts]
        image = np.stack(moved).mean(axis=0)
    if random.random() < 0.2:
        factor = random.uniform(0.5, 0.95)
        small = cv2.resize(image, (max(8, int(width * factor)), max(8, int(height * factor))), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return image


def jpeg(image: Array, quality: int) -> Array:
    """RGB `[H, W, 3]` uint8 after being stored as JPEG."""
    _, stored = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.cvtColor(cv2.imdecode(stored, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
