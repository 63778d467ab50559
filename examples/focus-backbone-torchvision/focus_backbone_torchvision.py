"""The ResNets of torchvision as backbones: a plugin for FOCUS Framework."""

from focus_framework import Backbone, WeightsError, hookimpl

NAMES = {"resnet18": "ResNet-18", "resnet50": "ResNet-50", "resnext50_32x4d": "ResNeXt-50", "wide_resnet50_2": "wide ResNet-50"}


@hookimpl
def focus_backbones():
    for name, title in NAMES.items():
        yield Backbone(name=f"tv_{name}", title=f"{title} of torchvision", build=build, licence="BSD-3-Clause")


def build(name, *, weights="pretrained"):
    """`weights`: pretrained (ImageNet, fetched by torchvision), none, or a file of torchvision's, a ``.pth``."""
    import torch
    from torch import nn
    from torchvision.models import get_model, get_model_weights

    network = get_model(name.removeprefix("tv_"), weights=None)
    try:
        if weights == "pretrained":
            network.load_state_dict(get_model_weights(name.removeprefix("tv_")).DEFAULT.get_state_dict(progress=False, check_hash=True))
        elif weights != "none":
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # no connection, no file, or a file of something else
        raise WeightsError(
            f"backbone {name}: weights {weights} cannot be read ({error}); give a file, or --backbone-weights none"
        ) from error

    class Staged(nn.Module):
        heads, pyramid = 8, True
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
            self.layers = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
            self.widths = tuple(network.fc.in_features // part for part in (8, 4, 2, 1))

        def begin(self, image):
            maps = [self.stem(image)]
            for layer in self.layers:
                maps.append(layer(maps[-1]))
            return maps[1:]

        def enter(self, state, stage):
            return state[stage].flatten(2).transpose(1, 2), tuple(state[stage].shape[2:])

        def run(self, state, stage, tokens):
            return tokens

        def parameter_groups(self):
            return [self.stem, *self.layers]

    return Staged()
