"""A group convolution straight from its definition, the reference that the theory is tested against."""

import numpy as np


def convolve(image, weight, groups=1, stride=1):
    """image (C_in, height, width), weight (C_out, C_in / groups, taps, taps); no padding, no flip."""
    C_out, K, down, across = weight.shape
    height = (image.shape[1] - down) // stride + 1
    width = (image.shape[2] - across) // stride + 1
    out = np.zeros((C_out, height, width))
    for o in range(C_out):
        branch = o // (C_out // groups)
        for y, x in np.ndindex(height, width):
            top, left = y * stride, x * stride
            patch = image[branch * K : (branch + 1) * K, top : top + down, left : left + across]
            out[o, y, x] = (patch * weight[o]).sum()
    return out


def apply(stack, image):
    for layer in stack:
        if hasattr(layer, "indices"):
            image = np.stack([image[index] for index in layer.indices])
        else:
            image = convolve(image, layer.weight, layer.groups, layer.stride)
    return image
