"""Transparent objects: a task plugin for FOCUS Framework."""

from focus_framework import Dataset, Prompts, Task, hookimpl


@hookimpl
def focus_tasks():
    yield Task(
        name="glass",
        title="Transparent objects: glasses, bottles, panes",
        prompts=Prompts(
            foreground="an image of transparent glass objects without background.",
            background="an image of the background with glass objects removed.",
        ),
        metrics=("iou", "f_beta_mean", "mae", "ber"),
        primary_metric="iou",
        datasets=[
            Dataset(name="gdd-train", images=["GDD/train/image"], masks=["GDD/train/mask"], split="train", count=2980),
            Dataset(name="gdd-test", images=["GDD/test/image"], masks=["GDD/test/mask"], split="test", count=936),
        ],
        practice=practice,
    )


def practice(random, size):
    """One practice image [size, size, 3] uint8 and its mask [size, size] bool; all chance comes from `random`.

    The cue: what lies behind glass is displaced, a little tinted, and the glass shines. Opaque things shine too.
    """
    from focus_framework.plugin.kit.practice import mix, of_fair_share, photograph
    from focus_framework.plugin.kit.silhouettes import any_silhouette, blob, draw, place, polygon, vessel
    from focus_framework.plugin.kit.textures import any_texture, lean

    def somewhere(silhouette, smallest, largest):
        centre, scale = random.uniform(0.15, 0.85, 2), random.uniform(smallest, largest)
        return draw(place(silhouette, centre=centre, scale=scale, angle=random.normal(0, 0.3)), size)

    scene = any_texture(random)(*lean(random, size))
    for _ in range(random.integers(1, 4)):
        opaque = somewhere(any_silhouette(random), 0.2, 0.6)
        painted = any_texture(random)(*lean(random, size))
        if random.random() < 0.5:
            painted = painted + shine(random, bulge(opaque, size))[..., None]
        scene = mix(scene, painted, opaque)

    shapes = (vessel, vessel, blob, polygon)
    glass = of_fair_share(lambda: somewhere(shapes[random.integers(len(shapes))](random), 0.5, 1.1))
    return photograph(random, mix(scene, through_glass(random, scene, glass), glass)), glass > 0.5


def bulge(coverage, size):
    """How thick a rounded thing of this outline is, 0 at its edge to 1."""
    import cv2
    import numpy as np

    inside = cv2.distanceTransform((coverage > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return cv2.GaussianBlur(np.sqrt(inside / max(inside.max(), 1)), (0, 0), size / 100)


def shine(random, thickness):
    """Highlights: bright where the surface leans towards a lamp."""
    import numpy as np

    slope_y, slope_x = np.gradient(thickness * len(thickness) / 8)
    lamp = random.normal(0, 0.6, 2)
    return random.uniform(0.3, 1.0) * np.exp(-((slope_x - lamp[0]) ** 2 + (slope_y - lamp[1]) ** 2) / 0.05) * (thickness > 0)


def through_glass(random, scene, glass):
    """The scene `[H, W, 3]` seen through glass of this outline: bent, tinted by thickness, with highlights and a rim."""
    import cv2
    import numpy as np

    size = len(scene)
    thickness = bulge(glass, size)
    slope = np.stack(np.gradient(thickness)[::-1], axis=2)
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=2)
    seen = (pixels + random.choice([-1, 1]) * random.uniform(0.5, 1.5) * size * slope).astype(np.float32)
    bent = cv2.remap(scene.astype(np.float32), seen, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    tint = random.uniform(0.6, 0.95, 3) ** (0.3 + thickness[..., None])
    rim = np.exp(-thickness / 0.2) * random.uniform(-0.15, 0.2)
    return np.clip(bent * tint + (shine(random, thickness) + rim)[..., None], 0, None).astype(np.float32)
