"""State dicts as torchvision lays them out, made from variables of ours layer by layer."""

import numpy as np

VGG11_NORM = {
    "features.0": "conv1_1",
    "features.1": "conv1_1_norm",
    "features.4": "conv2_1",
    "features.5": "conv2_1_norm",
    "features.8": "conv3_1",
    "features.9": "conv3_1_norm",
    "features.11": "conv3_2",
    "features.12": "conv3_2_norm",
    "features.15": "conv4_1",
    "features.16": "conv4_1_norm",
    "features.18": "conv4_2",
    "features.19": "conv4_2_norm",
    "features.22": "conv5_1",
    "features.23": "conv5_1_norm",
    "features.25": "conv5_2",
    "features.26": "conv5_2_norm",
    "classifier.0": "dense1",
    "classifier.3": "dense2",
    "classifier.6": "logits",
}
VGG11 = {
    "features.0": "conv1_1",
    "features.3": "conv2_1",
    "features.6": "conv3_1",
    "features.8": "conv3_2",
    "features.11": "conv4_1",
    "features.13": "conv4_2",
    "features.16": "conv5_1",
    "features.18": "conv5_2",
    "classifier.0": "dense1",
    "classifier.3": "dense2",
    "classifier.6": "logits",
}
ALEXNET = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "dense1",
    "classifier.4": "dense2",
    "classifier.6": "logits",
}


def resnet(depths, convolutions):
    """Returns the layers of a ResNet; where a stage begins the block may have a projection."""
    layers = {"conv1": "conv1", "bn1": "norm1"}
    for stage, depth in enumerate(depths, start=1):
        for i in range(depth):
            theirs, ours = f"layer{stage}.{i}", f"conv{stage + 1}_{i + 1}"
            for j in range(1, convolutions + 1):
                layers[f"{theirs}.conv{j}"] = f"{ours}/conv{j}"
                layers[f"{theirs}.bn{j}"] = f"{ours}/norm{j}"
            if i == 0 and (stage > 1 or convolutions == 3):
                layers[f"{theirs}.downsample.0"] = f"{ours}/conv_shortcut"
                layers[f"{theirs}.downsample.1"] = f"{ours}/norm_shortcut"
    return layers | {"fc": "logits"}


def state_dict(layers, arrays):
    """Returns {their name: array} of our arrays by name."""
    found, channels = {}, None
    for theirs, ours in layers.items():
        if f"{ours}/scale" in arrays:
            found[f"{theirs}.weight"] = arrays[f"{ours}/scale"]
            found[f"{theirs}.running_mean"] = arrays[f"{ours}/mean"]
            found[f"{theirs}.running_var"] = arrays[f"{ours}/var"]
            found[f"{theirs}.num_batches_tracked"] = np.array(9)
        else:
            kernel = arrays[f"{ours}/kernel"]
            found[f"{theirs}.weight"] = _weight(kernel, channels)
            channels = kernel.shape[-1] if kernel.ndim == 4 else None  # None after a dense layer
        if f"{ours}/bias" in arrays:
            found[f"{theirs}.bias"] = arrays[f"{ours}/bias"]
    return found


def _weight(kernel, channels):
    if kernel.ndim == 4:
        return np.einsum("hwio->oihw", kernel)
    if channels is None:
        return kernel.T
    weight = np.empty_like(kernel.T)
    positions = len(kernel) // channels
    for position in range(positions):  # our rows: pixel by pixel; theirs: map by map
        for channel in range(channels):
            weight[:, channel * positions + position] = kernel[position * channels + channel]
    return weight
