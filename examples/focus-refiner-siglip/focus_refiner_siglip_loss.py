"""The loss of the refiner `siglip`: every pair of region and prompt is a question of its own, "do these two belong together?"."""

import torch
import torch.nn.functional as F

from focus_framework import ConfigError
from focus_framework.plugin.kit.image_text import RegionRefiner, load_encoder


class SigLipRefiner(RegionRefiner):
    """Pairwise sigmoid loss with the scale and the bias that the model was trained with."""

    def __init__(self, encoder, prompts, **options):
        if getattr(encoder.model, "logit_bias", None) is None:
            raise ConfigError("refiner siglip needs a SigLIP model, which has a bias; choose one, e.g. --clip-model ViT-B-16-SigLIP")
        super().__init__(encoder, prompts, **options)
        self.scale, self.bias = float(encoder.model.logit_scale.exp()), float(encoder.model.logit_bias)

    def loss(self, features):
        """Features of the regions [heads, images, 2, D], of length one, against the two prompts: one scalar."""
        logits = self.scale * features @ self.text.mT + self.bias  # [heads, images, 2 regions, 2 prompts]
        belongs = 2 * torch.eye(2, device=logits.device) - 1
        return -F.logsigmoid(belongs * logits).sum(-1).mean()


def build(prompts, *, mean, std, model="ViT-B-16-SigLIP", weights="webli", precision="auto", checkpointing=False, fill="mean"):
    """Options as those of refiner `clip`."""
    encoder = load_encoder(model, weights, precision=precision, checkpointing=checkpointing)
    return SigLipRefiner(encoder, prompts, mean=mean, std=std, fill=fill)
