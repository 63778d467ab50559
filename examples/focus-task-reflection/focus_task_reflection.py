"""Mirrors: a task plugin for FOCUS Framework."""

from focus_framework import Dataset, Prompts, Task, hookimpl


@hookimpl
def focus_tasks():
    yield Task(
        name="reflection",
        title="Mirrors: surfaces that show the scene once more",
        prompts=Prompts(
            foreground="an image of a mirror and the reflection in it without background.",
            background="an image of the room with the mirror removed.",
        ),
        metrics=("iou", "f_beta_mean", "mae", "ber"),
        primary_metric="iou",
        datasets=[
            Dataset(name="msd-train", images=["MSD/train/image"], masks=["MSD/train/mask"], split="train", count=3063),
            Dataset(name="msd-test", images=["MSD/test/image"], masks=["MSD/test/mask"], split="test", count=955),
        ],
        practice=practice,
    )


def practice(random, size):
    """One practice image [size, size, 3] uint8 and its mask [size, size] bool; all chance comes from `random`.

    The cue: what is in the mirror is the scene beside it, the other way round. A framed poster of something else is no mirror.
    """
    import numpy as np

    from focus_framework.plugin.kit.practice import mix, of_fair_share, photograph, scene
    from focus_framework.plugin.kit.silhouettes import draw, ellipse, place

    def pane(left):
        outline = ellipse((0, 0), (0.5, 0.5)) if random.random() < 0.3 else np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        outline = outline * (random.uniform(0.6, 1.4), 1)
        where = {"centre": (random.normal(left, 0.05), random.uniform(0.3, 0.7)), "angle": random.normal(0, 0.08)}
        scale = random.uniform(0.35, 0.6)
        return [draw(place([outline], scale=scale * wider, **where), size) for wider in (1, random.uniform(1.06, 1.15))]

    room, elsewhere = (scene(random, size, things=int(random.integers(3, 7))) for _ in range(2))
    left, frame = random.choice([0.3, 0.7]), random.uniform(0.05, 0.6, 3).astype(np.float32)
    panes = {}

    def glass():
        panes["mirror"] = pane(left)
        return panes["mirror"][0]

    mirror, poster = of_fair_share(glass), pane(1 - left)
    turned = np.roll(room[:, ::-1], int((2 * left - 1) * size * random.uniform(0.5, 0.9)), axis=1)
    for shown, (inside, framed) in ((elsewhere, poster), (turned * random.uniform(0.75, 1), panes["mirror"])):
        room = mix(mix(room, np.broadcast_to(frame, room.shape), framed), shown, inside)
    return photograph(random, room), mirror > 0.5
