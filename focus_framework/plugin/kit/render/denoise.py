"""Noise removal for few samples a pixel: an edge-stopping wavelet filter of the light that falls on surfaces.

After Dammertz and others, "Edge-avoiding A-Trous wavelet transform for fast global illumination filtering" (HPG 2010): the
colour of surfaces is divided out first and multiplied back in after, so that no texture is smoothed.
"""

from __future__ import annotations

import cv2
import numpy as np

from .mesh import Array

TAPS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


def denoised(light: Array, albedo: Array, normal: Array, depth: Array, *, steps: int = 4, strength: float = 1.0) -> Array:
    """Linear light `[H, W, 3]` with less noise, guided by the colour of surfaces `[H, W, 3]`, their normals `[H, W, 3]` and
    their depth `[H, W]` (0 where there is none), which are means over the same samples."""
    base = np.maximum(albedo, 0.02)
    falling = (light / base).astype(np.float32)
    scale = np.float32(np.median(falling) + 1e-6)
    value = np.log1p(np.maximum(falling, 0) / scale)  # bright single samples count for less
    away = np.log(np.maximum(depth, 1e-3)).astype(np.float32)
    guide = np.concatenate([normal, 3 * away[..., None]], axis=2).astype(np.float32)
    height, width = depth.shape
    calm = cv2.medianBlur(np.ascontiguousarray(value), 3)
    spread = float(np.median(np.abs(value - calm)) * 1.5 + 0.01) * 2.2 * strength
    value = np.clip(value, calm - 3 * spread, calm + 3 * spread)
    for step in range(steps):
        reach = 2**step
        bordered = cv2.copyMakeBorder(value, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
        looked = cv2.copyMakeBorder(
            cv2.GaussianBlur(value, (0, 0), 1.0 if step == 0 else 0.6), reach, reach, reach, reach, cv2.BORDER_REFLECT_101
        )
        centre = looked[reach : reach + height, reach : reach + width]
        guides = cv2.copyMakeBorder(guide, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
        total, weights = value.copy(), np.ones((height, width), np.float32)
        for y, x in TAPS:
            rows, columns = slice(reach * (1 + y), reach * (1 + y) + height), slice(reach * (1 + x), reach * (1 + x) + width)
            bend = guides[rows, columns] - guide
            step_up = looked[rows, columns] - centre
            distance = np.einsum("hwc,hwc->hw", bend, bend) * np.float32(8) + np.einsum("hwc,hwc->hw", step_up, step_up) * np.float32(
                1 / spread**2
            )
            weight = np.exp(-distance)
            total += weight[..., None] * bordered[rows, columns]
            weights += weight
        value = total / weights[..., None]
        spread *= 0.7
    return np.expm1(value) * scale * base


def smoothed(light: Array, blur: Array, *, least: float = 1.5) -> Array:
    """Linear light `[H, W, 3]` with the noise of out-of-focus parts taken out: where the circle of confusion `blur` `[H, W]`
    (pixels across) is above `least`, light is spread over a part of it, and never over what is sharp."""
    result = light
    for wide in (least, 2.5 * least, 6 * least):
        soft = np.clip((blur - wide) / (0.5 * wide), 0, 1).astype(np.float32)
        if not soft.any():
            break
        sigma = 0.3 * wide
        weight = cv2.GaussianBlur(soft, (0, 0), sigma)
        spread = cv2.GaussianBlur(result * soft[..., None], (0, 0), sigma) / np.maximum(weight, 1e-4)[..., None]
        result = result + (spread - result) * soft[..., None]
    return result
