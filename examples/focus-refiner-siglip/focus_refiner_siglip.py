"""SigLIP as a refiner: a plugin for FOCUS Framework. Only the description; what it builds, and torch, are imported when used."""

from focus_framework import Refiner, hookimpl


@hookimpl
def focus_refiners():
    yield Refiner(
        name="siglip",
        title="SigLIP scores each region against each prompt on its own (sigmoid loss)",
        build="focus_refiner_siglip_loss:build",
    )
