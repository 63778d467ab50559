"""What plugin authors may import besides the public names of `focus_framework`: the protocols of what they build, and the modules
of this package: `timm_networks`, `image_text`, `prompts`, and for practice images `practice`, `silhouettes`, `textures` and `tiles`."""

from ..interfaces import PracticePair, Prior, PromptJudge, RefinerLoss, StagedBackbone

__all__ = ["PracticePair", "Prior", "PromptJudge", "RefinerLoss", "StagedBackbone"]
