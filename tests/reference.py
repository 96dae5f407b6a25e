"""The IGC block from the equations of the paper (section 3.1), in numpy and float64, one partition after the other."""

import numpy as np


def convolve(x, weight, strides):
    """Plain convolution, 'same' padding: x (n, c, h, w), weight (o, c, kh, kw), strides (sh, sw)."""
    (n, c, h, w), (o, _, kh, kw), (sh, sw) = x.shape, weight.shape, strides
    padded = np.zeros((n, c, h + 2 * (kh // 2), w + 2 * (kw // 2)))
    padded[:, :, kh // 2 : kh // 2 + h, kw // 2 : kw // 2 + w] = x
    out = np.zeros((n, o, -(-h // sh), -(-w // sw)))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            window = padded[:, :, i * sh : i * sh + kh, j * sw : j * sw + kw]
            out[:, :, i, j] = np.einsum("nckl,ockl->no", window, weight)
    return out


def primary(x, weight, L, strides):
    """Eq. 1: y_l = W_ll z_l for each of the L primary partitions."""
    size_in, size_out = x.shape[1] // L, weight.shape[0] // L
    return np.concatenate(
        [
            convolve(x[:, l * size_in : (l + 1) * size_in], weight[l * size_out : (l + 1) * size_out], strides)
            for l in range(L)
        ],
        axis=1,
    )


def igc(x, w_primary, w_secondary, L, strides=(1, 1), secondary_strides=(1, 1)):
    """Eq. 1 to 6: x' = P W^s P^T W^p x, with M = G / L."""
    y = primary(x, w_primary, L, strides)
    G = y.shape[1]
    M = G // L
    # eq. 2: the m-th secondary partition is the m-th channel of each primary partition
    partitions = [np.stack([y[:, l * M + m] for l in range(L)], axis=1) for m in range(M)]
    # eq. 3: one convolution per secondary partition
    blended = [convolve(part, w_secondary[m * L : (m + 1) * L], secondary_strides) for m, part in enumerate(partitions)]
    # eq. 4: and back
    out = np.zeros((x.shape[0], G, *blended[0].shape[2:]))
    for m in range(M):
        for l in range(L):
            out[:, l * M + m] = blended[m][:, l]
    return out


def batch_norm_relu(x, gamma, beta, epsilon=2e-5, relu=True):
    """BN over the batch, then ReLU."""
    mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    y = (x - mean) / np.sqrt(var + epsilon) * gamma[:, None, None] + beta[:, None, None]
    return np.maximum(y, 0) if relu else y
