"""What is left of an image when its neighbours predict each pixel: an enhancer for forgery, a plugin for FOCUS Framework."""

from focus_framework import Enhancer, hookimpl


@hookimpl
def focus_enhancers():
    yield Enhancer(name="residual", title="Noise residuals by three fixed SRM filters, for pasted regions", build=build)


# Three of the thirty filters of Fridrich and Kodovsky, "Rich models for steganalysis of digital images" (2012), as chosen by Zhou et al.,
# "Learning rich features for image manipulation detection" (CVPR 2018).
FILTERS = (
    ([[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]], 4),
    ([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]], 12),
    ([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], 2),
)


def build(width, *, mean, std, largest: float = 2.0):
    """`largest`: residuals beyond so many grey levels, which edges leave, are cut off."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            filters = torch.stack([torch.tensor(rows, dtype=torch.float32) / divisor for rows, divisor in FILTERS])
            self.register_buffer("filters", filters.repeat(3, 1, 1)[:, None], persistent=False)  # each for each colour
            self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
            steps = ((9, 4), (width, 2), (width, 2), (width, 2))
            self.steps = nn.ModuleList(nn.Sequential(nn.Conv2d(into, width, 5, by, 2), nn.GELU()) for into, by in steps)

        def residuals(self, image):
            """Normalised images `[B, 3, H, W]` to residuals `[B, 9, H, W]`, red three times, then green, then blue, in -1..1."""
            with torch.autocast(image.device.type, enabled=False):  # half precision has fewer levels than an image
                levels = F.pad((image.float() * self.std + self.mean) * 255, (2, 2, 2, 2), "replicate")
                return F.conv2d(levels, self.filters, groups=3).clamp(-largest, largest) / largest

        def image_seen(self, image):
            """The residuals of the first filter as an image, grey where there are none."""
            return self.residuals(image)[:, ::3] / 2 + 0.5

        def forward(self, image):
            found, maps = self.residuals(image), []
            for step in self.steps:
                found = step(found)
                maps.append(found)
            return maps

    return Residual()
