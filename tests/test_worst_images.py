"""The sheet of a run's worst images."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from support.training import tiny

from focus_framework.data.dataset import PracticeImages
from focus_framework.inference.model import Model
from focus_framework.model.build import build_network
from focus_framework.plugin.registry import registry
from focus_framework.training.record.report import worst


def test_the_worst_images_come_first() -> None:
    torch.manual_seed(0)
    config = tiny("salient").config
    model = Model(config, build_network(config)).eval()
    images = PracticeImages(registry().get("task", "salient"), 11, size=64)
    scores = {
        images.names[i]: roc_auc_score(mask.ravel(), np.rint(model.predict(image).probability * 255).ravel())
        for i, (image, mask) in enumerate(images)
    }
    found = [scores[name] for name in worst(model, images, "auc", 4)]
    np.testing.assert_allclose(found, sorted(scores.values())[:4], atol=0.01)  # maps differ by a level from one batch to another
