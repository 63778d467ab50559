"""Promises of enhancers: four maps of any width for images of any size."""

from __future__ import annotations

import torch

from ..model.trial import check_maps
from ..plugin.calls import calling
from ..plugin.interfaces import ShowsImage
from .networks import SHAPES, images
from .promise import Broken, NotTried, promise
from .subject import Subject

WIDTHS = (24, 32, 80)


@promise("enhancer", first=True)
def four_maps_of_any_width_and_size(subject: Subject) -> None:
    """Images of any height and width that are multiples of 32 give maps of the width asked for at the strides 4, 8, 16 and 32."""
    for width in WIDTHS:
        prior = subject.build(width=width).eval()
        for batch in SHAPES:
            with torch.no_grad(), calling(subject.title, "its network"):
                maps = prior(images(*batch))
            check_maps(maps, images(*batch), width, subject.title)


@promise("enhancer")
def it_shows_an_image(subject: Subject) -> None:
    """Where it offers ``image_seen`` for ``focus explain``, that gives RGB in 0..1 of the size of the images."""
    prior = subject.build().eval()
    if not isinstance(prior, ShowsImage):
        raise NotTried("it has no image_seen, so focus explain shows its maps alone")
    image = images(1, 64, 96)
    with torch.no_grad():
        seen = prior.image_seen(image)
    if not isinstance(seen, torch.Tensor) or seen.shape != image.shape:
        raise Broken(
            f"image_seen gives {list(seen.shape) if isinstance(seen, torch.Tensor) else type(seen).__name__}, not {list(image.shape)}"
        )
    if not bool(seen.isfinite().all()) or float(seen.min()) < -1e-3 or float(seen.max()) > 1 + 1e-3:
        raise Broken(f"image_seen gives values from {float(seen.min()):.2f} to {float(seen.max()):.2f}; they must lie in 0..1")
