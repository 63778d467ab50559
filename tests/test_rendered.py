"""Rendered practice images: bodies and materials by rule, the engine against geometry on paper, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from focus_framework.cli import focus
from focus_framework.errors import ConfigError, DataError, PluginError
from focus_framework.plugin.kit.practice import practice_pair
from focus_framework.plugin.kit.render import ablation, assets, bodies, camera, denoise, engine, light, materials, mesh, places, scene
from focus_framework.plugin.registry import registry

TASKS = ["salient", "camouflage", "shadow", "defocus", "forgery"]
SIZE = 32


@pytest.fixture
def mitsuba() -> None:
    pytest.importorskip("mitsuba", reason="the path tracer is an extra: pip install 'focus-framework[render]'")


def flat(colour: float, **options: float) -> materials.Material:
    return materials.Material(image=np.full((8, 8, 3), round(255 * colour), np.uint8), specular=0.0, roughness=1.0, **options)


def stage_of(
    things: list[scene.Thing],
    *,
    sun: np.ndarray | None = None,
    height: float = 20.0,
    fov: float = 20.0,
    size: int = 64,
    camera: scene.Camera | None = None,
) -> engine.Stage:
    """Seen from straight above, where no camera is given."""
    around = light.Light(panorama=np.ones((16, 32, 3), np.float32), sun=sun)
    above = scene.Camera(eye=np.array([0, 0, height]), target=np.zeros(3), fov=fov)
    return engine.Stage(scene.Scene(things=things, light=around, camera=camera or above), size)


def ground_points(height: float, fov: float, size: int) -> np.ndarray:
    """Where on z = 0 each pixel of `stage_of` looks `[size, size, 2]`, by a pinhole with the picture's up along +y."""
    reach = np.tan(np.radians(fov / 2)) * height
    across = ((np.arange(size) + 0.5) / size * 2 - 1) * reach
    return np.stack(np.meshgrid(across, -across), -1)


# bodies, materials, camera: no renderer needed


@pytest.mark.parametrize("rule", [*bodies.THINGS, *bodies.CLUTTER], ids=lambda rule: rule.__name__)
def test_bodies_are_finite_and_stand_on_the_ground(rule):
    for seed in range(3):
        body = bodies.standing(rule(np.random.default_rng(seed)), size=1.5, angle=1.0, at=[2.0, 1.0, 0.0])
        low, high = bodies.bounds(body)
        assert np.isfinite([low, high]).all()
        assert low[2] == pytest.approx(0, abs=1e-9)
        assert (high - low).max() == pytest.approx(1.5)
        np.testing.assert_allclose((low + high)[:2] / 2, [2.0, 1.0], atol=1e-9)
        for part in bodies.merged(body):
            assert part.mesh.faces.min() >= 0
            assert part.mesh.faces.max() < len(part.mesh.vertices) == len(part.mesh.uv)


def test_a_tube_has_the_length_and_the_radius_that_it_is_given():
    along = mesh.tube([[0, 0, 0], [0, 0, 1], [0, 0, 2]], [0.3, 0.3, 0.3], columns=64)
    assert np.ptp(along.vertices[:, 2]) == pytest.approx(2.0)
    assert np.hypot(*along.vertices[:, :2].T).max() == pytest.approx(0.3, rel=1e-3)


def test_surfaces_and_panoramas_are_there_and_hold_light():
    assert len(assets.surfaces()) == 22
    assert {assets.surface(name).shape for name in assets.surfaces()} == {(384, 384, 3)}
    for name in (*assets.INDOORS, *assets.OUTDOORS):
        around = assets.panorama(name)
        assert around.shape == (256, 512, 3)
        assert around.min() >= 0
        assert 0.5 < np.median(around.mean(axis=2)) < 2
    assert "CC0 1.0" in (assets.FOLDER / "LICENSE.txt").read_text("utf-8")


@pytest.mark.parametrize("slope", [0.5, 1.0, 1.5])
def test_noise_falls_with_frequency_as_it_says(slope):
    spectrum = np.abs(np.fft.rfft2(materials.noise(np.random.default_rng(0), slope=slope)))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None]) * 256
    inside = (frequency > 2) & (frequency < 100)
    inside[:, [0, -1]] = False  # there a real field ties the phases of two frequencies together
    fitted = np.polyfit(np.log(frequency[inside]), np.log(spectrum[inside]), 1)[0]
    assert fitted == pytest.approx(-slope, abs=0.02)


def test_exposure_does_not_depend_on_how_bright_the_scene_is():
    ramp = np.linspace(0.01, 3, 64, dtype=np.float32)
    image = np.broadcast_to(ramp[None, :, None], (64, 64, 3)).copy()
    dim, bright = (camera.tone(image * factor, key=0.2) for factor in (0.01, 100.0))
    np.testing.assert_allclose(dim, bright, atol=0.01)
    assert (np.diff(dim[0, :, 0]) >= 0).all()
    assert dim.max() <= 1
    image[3, 3] = 1e6  # one lamp does not darken all the rest
    np.testing.assert_allclose(camera.tone(image, key=0.2)[20], dim[20], atol=0.02)


def test_noise_removal_calms_light_and_keeps_texture_and_shadow_edges():
    random = np.random.default_rng(0)
    albedo = np.where(random.random((64, 64, 1)) < 0.5, 0.2, 0.8).repeat(3, axis=2)
    clean = albedo * np.where(np.arange(64) < 32, 1.0, 0.2)[None, :, None]
    noisy = clean * random.gamma(8, 1 / 8, (64, 64, 1))
    up, far = np.broadcast_to([0.0, 0.0, 1.0], (64, 64, 3)), np.full((64, 64), 5.0)
    calm = denoise.denoised(noisy.astype(np.float32), albedo, up, far)
    assert np.abs(calm - clean).mean() < 0.4 * np.abs(noisy - clean).mean()
    lit, dark = calm[:, 30] / albedo[:, 30], calm[:, 34] / albedo[:, 34]  # two pixels beside the edge
    assert lit.mean() > 3 * dark.mean()


def test_softness_keeps_size_and_light():
    image = np.random.default_rng(0).random((48, 48, 3), dtype=np.float32)
    soft = [camera.softened(np.random.default_rng(seed), image) for seed in range(40)]
    assert {(one.shape, one.dtype.name) for one in soft} == {((48, 48, 3), "float32")}
    assert max(abs(float(one.mean() - image.mean())) for one in soft) < 0.02
    assert 0.2 < np.mean([one.std() < 0.9 * image.std() for one in soft]) < 0.8  # some, not all


def test_splicing_needs_no_renderer_for_surfaces():
    from focus_framework.plugin.kit.render import splices

    image, mask = splices.patch(np.random.default_rng(1), 64)
    assert image.shape == (64, 64, 3)
    assert mask.dtype == bool
    assert 0 < mask.mean() < 0.7


def test_importing_the_kit_imports_no_renderer():
    code = (
        "import sys, focus_framework.plugin.kit.render.places, focus_framework.plugin.kit.render.splices; print('mitsuba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_patch_can_be_told_from_what_it_covers(monkeypatch):
    from focus_framework.plugin.kit.render import splices

    grey = {"dark": 60, "bright": 140}
    monkeypatch.setattr(splices, "surfaces", lambda: tuple(grey))
    monkeypatch.setattr(splices, "of_surface", lambda random, size, name: np.full((size, size, 3), grey[name], np.uint8))
    for seed in range(20):  # half of all donors would be the host itself, moved or turned
        image, mask = splices.patch(np.random.default_rng(seed), 64)
        assert abs(image[mask].mean() - image[~mask].mean()) > 0.8 * splices.FAINT


def test_a_missing_renderer_is_named_with_what_to_type(monkeypatch, tmp_path):
    engine.mitsuba.cache_clear()
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    try:
        result = CliRunner().invoke(
            focus, ["data", "generate", "salient", "--engine", "render", "--count", "1", "--out", str(tmp_path / "a")]
        )
    finally:
        engine.mitsuba.cache_clear()
    assert isinstance(result.exception, DataError)
    assert "pip install 'focus-framework[render]'" in str(result.exception)
    assert not (tmp_path / "a").exists()


# the engine against geometry on paper


def test_labels_cover_what_a_ball_covers(mitsuba):
    ball = scene.dressed(np.random.default_rng(0), [bodies.Part(mesh.ellipsoid([1, 1, 1], rows=64, columns=96), "skin")], label=3)
    share = stage_of([ball]).seen(samples=8).share(3)
    height, reach = 20.0, np.tan(np.radians(10))
    radius = np.tan(np.arcsin(1 / height)) / reach  # of its outline, in halves of the picture
    assert share.mean() == pytest.approx(np.pi * radius**2 / 4, rel=0.02)


def test_shadows_fall_where_rays_to_the_sun_hit_a_box(mitsuba):
    low, high = np.array([-0.5, -0.5, 0.0]), np.array([0.5, 0.5, 1.0])
    sun = np.array([0.6, 0.3, 0.742])
    sun = sun / np.linalg.norm(sun)
    cube = scene.Thing(body=[bodies.Part(mesh.box([1, 1, 1]).moved([0, 0, 0.5]), "a")], materials={"a": flat(0.5)}, label=1)
    floor = scene.plane(flat(0.5), at=[0, 0, 0], across=[20, 0, 0], up=[0, 20, 0])
    stage = stage_of([floor, cube], sun=sun)
    dark = stage.sunlit(samples=4) < 0.5
    points = ground_points(20.0, 20.0, 64)
    start = np.concatenate([points, np.full((64, 64, 1), 1e-6)], axis=2)
    with np.errstate(divide="ignore"):
        near, far = np.sort(np.stack([(low - start) / sun, (high - start) / sun]), axis=0)
    hit = (near.max(axis=2) <= far.min(axis=2)) & (far.min(axis=2) > 0)
    on_the_floor = stage.seen().share(1) == 0
    hit, dark = hit & on_the_floor, dark & on_the_floor
    assert hit.sum() > 50
    assert (hit & dark).sum() / (hit | dark).sum() > 0.85  # an edge of one pixel is 8 % of such a shadow


def test_the_sun_that_is_painted_is_the_sun_of_the_mask():
    for seed in range(5):
        day = light.daylight(np.random.default_rng(seed), sun=1.0, strength=(20.0, 30.0), narrow=True)
        around = day.panorama.sum(axis=2)
        row, column = np.unravel_index(around.argmax(), around.shape)
        assert light.directions(*around.shape)[row, column] @ day.towards_sun > np.cos(np.radians(1.5))


def test_crowns_are_told_from_what_shadows_are_marked_on():
    found = set()
    for seed in range(12):
        for thing in places.in_the_sun(np.random.default_rng(seed)).things:
            names = {part.material for part in thing.body}
            assert (thing.label == places.FOLIAGE) == ("leaf" in names and len(names) > 1)
            found.add(thing.label)
    assert found == {0, places.FOLIAGE}


def test_the_side_of_a_thing_that_turns_its_back_to_the_sun_is_not_sunlit(mitsuba):
    cube = scene.Thing(body=[bodies.Part(mesh.box([1, 1, 1]).moved([0, 0, 0.5]), "a")], materials={"a": flat(0.5)}, label=1)
    view = scene.Camera(eye=np.array([0.0, -4.0, 0.5]), target=np.array([0.0, 0.0, 0.5]), fov=20)  # straight at one face
    for sun, lit in (([0.0, 0.8, 0.6], 0.0), ([0.0, -0.8, 0.6], 1.0)):
        stage = stage_of([cube], sun=np.array(sun), camera=view)
        face = stage.seen().share(1) == 1
        assert face.sum() > 500
        assert (stage.sunlit(samples=2)[face] > 0.5).mean() == pytest.approx(lit, abs=0.02)


def test_a_blue_sky_leaves_the_ground_and_is_bluest_at_the_top():
    around = light.panorama("park")
    blue = light.under_blue(np.random.default_rng(3), around)
    low = int(0.6 * len(blue))  # the ragged line is near the horizon, here and there below it
    assert np.array_equal(blue[low:], around[low:])
    by_row = (blue[..., 2] / blue[..., 0])[: len(blue) // 2 - 24].mean(axis=1)
    assert by_row[:16].mean() > 1.3
    assert by_row[:16].mean() > by_row[-16:].mean()


def test_nobody_marks_speckles():
    from focus_plugins.tasks import _render

    disc = np.hypot(*np.mgrid[-96:96, -96:96]) < 40
    kept = _render.marked(disc)
    assert (kept & disc).sum() / (kept | disc).sum() > 0.97
    assert not _render.marked(np.random.default_rng(0).random((192, 192)) > 0.6).any()


def test_a_panorama_hangs_as_directions_say(mitsuba):
    around = np.full((64, 128, 3), 0.01, np.float32)
    around[20, 90] = 500
    way = light.directions(64, 128)[20, 90]
    view = scene.Camera(eye=np.zeros(3), target=way, fov=60)
    nothing = scene.plane(flat(0.5), at=[0, 0, -90], across=[0.1, 0, 0], up=[0, 0.1, 0])
    stage = engine.Stage(scene.Scene(things=[nothing], light=light.Light(panorama=around), camera=view), SIZE)
    seen = stage.seen(samples=2)
    brightest = stage.light(seen, samples=16, seed=0).sum(axis=2)
    row, column = np.unravel_index(brightest.argmax(), brightest.shape)
    assert abs(row - SIZE / 2) <= 1.5
    assert abs(column - SIZE / 2) <= 1.5


def test_the_circle_of_confusion_is_that_of_a_thin_lens(mitsuba):
    """A plane at 4 m, focus at 2 m, radius 5 cm: 2 * 0.05 * |4 - 2| / (4 * 2) radians across."""
    above = scene.Camera(eye=np.array([0, 0, 4.0]), target=np.zeros(3), fov=30, aperture=0.05, focus=2.0)
    floor = scene.plane(flat(0.5), at=[0, 0, 0], across=[20, 0, 0], up=[0, 20, 0])
    stage = engine.Stage(scene.Scene(things=[floor], light=light.Light(panorama=np.ones((16, 32, 3), np.float32)), camera=above), SIZE)
    expected = 0.025 * SIZE / (2 * np.tan(np.radians(15)))
    np.testing.assert_allclose(stage.blur(stage.seen()), expected, rtol=0.02)


# the tasks and the command


@pytest.mark.parametrize("name", TASKS)
def test_every_task_renders_and_a_seed_gives_the_same_bits(mitsuba, name):
    task = replace(registry().find_task(name).get(), practice=None)  # so that nothing can be drawn instead
    first, second = (practice_pair(task, seed=1, split="train", index=0, size=SIZE, engine="render") for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])
    assert 0.01 <= first[1].mean() <= 0.8
    assert first[0].std() > 5


def test_the_command_resumes_with_the_same_bits_whatever_the_number_of_processes(mitsuba, tmp_path):
    def generate(*options: str):
        return CliRunner().invoke(
            focus, ["data", "generate", "salient", "--engine", "render", "--size", "32", "--out", str(tmp_path / "a"), *options]
        )

    result = generate("--count", "2", "--workers", "2", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pairs"] == 2
    assert (tmp_path / "a" / "sheet.png").is_file()
    images = sorted((tmp_path / "a" / "images").iterdir())
    before = [path.read_bytes() for path in images]
    drawn = practice_pair(registry().find_task("salient").get(), seed=0, split="train", index=0, size=32)
    assert not np.array_equal(cv2.imread(str(images[0]))[..., ::-1], drawn[0])
    images[1].unlink()
    kept = images[0].stat().st_mtime_ns
    assert "rendered 1, 1 were there before" in generate("--count", "2", "--workers", "1").output
    assert [path.read_bytes() for path in images] == before
    assert images[0].stat().st_mtime_ns == kept
    other = generate("--count", "2", "--seed", "5")
    assert isinstance(other.exception, ConfigError)
    assert "rendered images of seed 0" in str(other.exception)
    instead = CliRunner().invoke(focus, ["data", "generate", "salient", "--count", "1", "--size", "32", "--out", str(tmp_path / "a")])
    assert isinstance(instead.exception, ConfigError)
    assert "holds rendered images" in str(instead.exception)
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(Path(tmp_path / "a" / "masks").iterdir())]
    assert {int(value) for mask in masks for value in np.unique(mask)} == {0, 255}


def test_scenes_and_photographs_exclude_each_other(tmp_path):
    call = ["data", "generate", "salient", "--engine", "render", "--from", "images=a,masks=b", "--out", str(tmp_path / "a")]
    result = CliRunner().invoke(focus, call)
    assert isinstance(result.exception, ConfigError)
    assert "--from" in str(result.exception)


def test_a_task_that_renders_nothing_says_so(tmp_path):
    task = replace(registry().find_task("shadow").get(), render=None)
    with pytest.raises(PluginError, match="renders no practice images"):
        practice_pair(task, seed=0, split="train", index=0, size=32, engine="render")


# parts left out


def test_without_real_surfaces_they_are_noise_of_their_colours_and_spectrum():
    real = assets.surface("104").astype(float)
    with ablation.leaving_out(["surfaces"]):
        noise = assets.surface("104").astype(float)
    assert np.array_equal(assets.surface("104"), real)
    np.testing.assert_allclose(noise.mean(axis=(0, 1)), real.mean(axis=(0, 1)), atol=3)
    np.testing.assert_allclose(noise.std(axis=(0, 1)), real.std(axis=(0, 1)), rtol=0.1)
    assert abs(np.corrcoef(noise.ravel() - noise.mean(), real.ravel() - real.mean())[0, 1]) < 0.5


def test_without_panoramas_all_ways_of_one_height_are_alike():
    with ablation.leaving_out(["panoramas"]):
        around = assets.panorama("park")
    assert np.ptp(around, axis=1).max() == 0
    np.testing.assert_allclose(around.mean(axis=1), assets.panorama("park").mean(axis=1), rtol=1e-5)


def test_without_the_camera_there_is_exposure_and_no_chance():
    radiance = np.random.default_rng(0).random((32, 32, 3), np.float32)
    with ablation.leaving_out(["camera"]):
        first, second = (camera.photograph(np.random.default_rng(seed), radiance) for seed in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(*(camera.photograph(np.random.default_rng(seed), radiance) for seed in range(2)))


def test_a_folder_keeps_to_what_was_left_out(mitsuba, tmp_path):
    def generate(*options: str):
        call = ["data", "generate", "salient", "--count", "1", "--size", "32", "--workers", "1", "--out", str(tmp_path / "a")]
        return CliRunner().invoke(focus, [*call, *options])

    assert generate("--engine", "render", "--without", "camera").exit_code == 0
    refused = generate("--engine", "render")
    assert isinstance(refused.exception, ConfigError)
    assert "holds rendered images of without camera; choose" in str(refused.exception)
    assert isinstance(generate("--without", "camera").exception, ConfigError)
