"""Scenes to light: the path tracer Mitsuba 3 in its mode for CPUs without a compiler, one thread a process.

The same scene and seed give the same bits: blocks have one size and the pixel filter is a box, so that neither the number
of threads nor the order of blocks matters.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from .bodies import merged
from .denoise import denoised, smoothed
from .materials import Material
from .mesh import Array, Mesh
from .scene import Scene

SKY = -1
"""The label of what hits nothing."""


@dataclass(frozen=True)
class Seen:
    """What first hits tell, for so many samples `n` of a pixel."""

    labels: Array
    """int `[n, H, W]`; `SKY` where nothing is hit."""
    depth: Array
    """Metres along the ray `[n, H, W]`; 0 where nothing is hit."""
    albedo: Array
    """The colour of surfaces `[H, W, 3]`, mean of the samples; 1 for the sky."""
    normal: Array
    """`[H, W, 3]`, mean of the samples."""

    def share(self, label: int) -> Array:
        """Which part of each pixel `[H, W]` shows things of that label."""
        return (self.labels == label).mean(axis=0)


@cache
def mitsuba() -> Any:
    """The renderer's module. Raises `DataError` where it is not installed."""
    try:
        mi: Any = importlib.import_module("mitsuba")
    except ImportError as error:
        from ....errors import DataError

        raise DataError("rendered practice images need Mitsuba; run: pip install 'focus-framework[render]'") from error
    mi.set_variant("scalar_rgb")
    importlib.import_module("drjit").set_thread_count(1)
    mi.logger().set_log_level(mi.LogLevel.Error)
    return mi


class Stage:
    """A scene that is ready to be rendered at `size` x `size` pixels."""

    def __init__(self, scene: Scene, size: int) -> None:
        mi = mitsuba()
        self.size = size
        self.camera = scene.camera
        self.labels: list[int] = []
        self.shapes: dict[str, Any] = {}
        for thing in scene.things:
            made = {name: _bsdf(material) for name, material in thing.materials.items()}
            for part in merged(thing.body):
                shape = _shape(mi, part.mesh, thing.materials[part.material], made[part.material])
                self.shapes[f"shape{len(self.labels):04d}"] = shape
                self.labels.append(thing.label)
        around = {
            "type": "envmap",
            "bitmap": mi.Bitmap(_closed(scene.light.panorama)),
            "to_world": mi.ScalarTransform4f().rotate([1, 0, 0], 90),
        }
        self.depth = scene.depth
        self.sun = scene.light.towards_sun
        self.scene = mi.load_dict({"type": "scene", "around": around, **self.shapes})

    def light(self, seen: Seen, *, samples: int, seed: int) -> Array:
        """Linear radiance `[size, size, 3]` float32, with the noise of so many samples taken out by the help of `seen`."""
        integrator = {"type": "path", "max_depth": self.depth, "rr_depth": 3, "block_size": 32}
        light = self._layers(self.scene, integrator, samples=samples, seed=seed)
        calm = denoised(np.maximum(light[..., :3], 0), seen.albedo, seen.normal, seen.depth.mean(axis=0))
        return calm if self.camera.aperture <= 0 else smoothed(calm, self.blur(seen))

    def blur(self, seen: Seen) -> Array:
        """The diameter of the circle of confusion in pixels `[size, size]`: the thin lens's 2 r `|d - f|` / (d f), seen under
        the angle of a pixel; the median of the samples, which at an edge sees both."""
        camera = self.camera
        focus = camera.focus or float(np.linalg.norm(np.asarray(camera.target) - np.asarray(camera.eye)))
        across = np.linspace(-1, 1, self.size) * np.tan(np.radians(camera.fov / 2))
        ahead = 1 / np.sqrt(1 + across[:, None] ** 2 + across[None] ** 2)  # what is in focus is a plane, not a ball
        depth = np.where(seen.depth > 0, np.maximum(seen.depth * ahead, 1e-3), 1e6)
        angle = 2 * camera.aperture * np.abs(depth - focus) / (depth * focus)
        return np.median(angle, axis=0) * self.size / (2 * np.tan(np.radians(camera.fov / 2)))

    def seen(self, *, samples: int = 3, seed: int = 0) -> Seen:
        """The first hits."""
        integrator = {"type": "aov", "aovs": "s:shape_index,d:depth,a:albedo,n:sh_normal", "block_size": 32}
        layers = np.stack([self._layers(self.scene, integrator, samples=1, seed=seed + number) for number in range(samples)])
        index, depth = np.round(layers[..., 0]).astype(int), layers[..., 1]
        labels = np.array([SKY, *self.labels])[np.where(depth > 0, index, 0)]  # the renderer counts shapes from 1
        albedo = np.where(depth[..., None] > 0, layers[..., 2:5], 1).mean(axis=0)
        return Seen(labels, depth, albedo, layers[..., 5:8].mean(axis=0))

    def sunlit(self, *, samples: int = 3, seed: int = 0, size: int | None = None) -> Array:
        """Which part of each pixel `[size, size]` the middle of the sun shines on; the sky counts as lit. A smaller `size` than the
        stage's is a cheap first look."""
        mi = mitsuba()
        way = [-float(v) for v in self.sun]
        lamp = {"type": "directional", "direction": way, "irradiance": {"type": "rgb", "value": 1.0}}
        scene = mi.load_dict({"type": "scene", "lamp": lamp, **self.shapes})
        integrator = {
            "type": "aov",
            "aovs": "d:depth",
            "block_size": 32,
            "direct": {"type": "direct", "bsdf_samples": 0, "emitter_samples": 1},
        }
        lit = []
        for number in range(samples):
            layers = self._layers(scene, integrator, samples=1, seed=seed + number, size=size)
            lit.append((layers[..., :3].max(axis=2) > 1e-6) | (layers[..., -1] <= 0))
        return np.mean(lit, axis=0)

    def _layers(self, scene: Any, integrator: dict[str, Any], *, samples: int, seed: int, size: int | None = None) -> Array:
        mi = mitsuba()
        layers = mi.render(scene, sensor=self._sensor(samples, size or self.size), integrator=mi.load_dict(integrator), seed=seed)
        return np.nan_to_num(np.array(layers, dtype=np.float32), nan=0, posinf=0, neginf=0)

    def _sensor(self, samples: int, size: int) -> Any:
        mi, camera = mitsuba(), self.camera
        eye, target = np.asarray(camera.eye, float), np.asarray(camera.target, float)
        up = [0, 0, 1] if abs((target - eye)[2]) < 0.98 * np.linalg.norm(target - eye) else [0, 1, 0]
        place = mi.ScalarTransform4f().look_at(origin=eye.tolist(), target=target.tolist(), up=up).rotate([0, 0, 1], camera.roll)
        film = {
            "type": "hdrfilm",
            "width": size,
            "height": size,
            "rfilter": {"type": "box"},
            "pixel_format": "rgb",
            "component_format": "float32",
        }
        common = {
            "fov": camera.fov,
            "to_world": place,
            "film": film,
            "near_clip": 0.01,
            "sampler": {"type": "independent", "sample_count": samples},
        }
        if camera.aperture <= 0:
            return mi.load_dict({"type": "perspective", **common})
        focus = camera.focus or float(np.linalg.norm(target - eye))
        return mi.load_dict({"type": "thinlens", "aperture_radius": camera.aperture, "focus_distance": focus, **common})


def _bsdf(material: Material) -> dict[str, Any]:
    mi = mitsuba()
    factor = 1 / material.metres
    colour = {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(material.image)),
        "to_uv": mi.ScalarTransform3f().scale([factor, factor]),
    }
    if material.specular < 0.25 and not material.metallic:
        surface: dict[str, Any] = {"type": "diffuse", "reflectance": colour}
    else:
        surface = {
            "type": "principled",
            "base_color": colour,
            "roughness": material.roughness,
            "specular": material.specular,
            "metallic": material.metallic,
        }
    return mi.load_dict({"type": "twosided", "surface": surface})


def _shape(mi: Any, mesh: Mesh, material: Material, bsdf: Any) -> Any:
    properties = mi.Properties()
    properties["surface"] = bsdf
    if material.glow:
        properties["lamp"] = mi.load_dict({"type": "area", "radiance": {"type": "rgb", "value": material.glow}})
    if not mesh.smooth:
        properties["face_normals"] = True
    shape = mi.Mesh(
        "mesh", len(mesh.vertices), len(mesh.faces), has_vertex_normals=mesh.smooth, has_vertex_texcoords=True, props=properties
    )
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = mesh.vertices.astype(np.float32).ravel()
    parameters["vertex_texcoords"] = mesh.uv.astype(np.float32).ravel()
    parameters["faces"] = mesh.faces.astype(np.uint32).ravel()
    parameters.update()
    if mesh.smooth:
        shape.recompute_vertex_normals()
    return shape


def _closed(around: Array) -> Array:
    """The panorama as the engine has it: float32, contiguous."""
    return np.ascontiguousarray(around, dtype=np.float32)
