"""What networks on 8-bit integers compute, in plain numpy: the same quantized arithmetic with exact integers."""

import native_reference as ref
import numpy as np

from igc_gluon.native import library as lib


def ranges_of(ops, x):
    """The ranges of igc_net_create_in, of the float64 network on `x`, and its tensors."""
    tensors, middles = [x.astype(np.float64)], []
    for op in ops:
        if op.kind == lib.BLOCK:
            middle = ref.conv(tensors[op.input], op.weight, op.stride, op.pad, op.groups)
            middles.append(np.abs(middle).max((0, 2, 3)))
        tensors.append(ref.apply(op, tensors))
    flat = [value for t in tensors for value in (t.min(), t.max())]
    return np.concatenate([flat, *middles]).astype(np.float32), tensors


class Scale:
    def __init__(self, low, high):
        self.zero = 0 if low >= 0 else 128
        self.step = max(high / 255, 1e-30) if low >= 0 else max(-low / 128, high / 127, 1e-30)

    def quantize(self, x):
        return np.clip(np.rint(x / self.step + self.zero), 0, 255)

    def numbers(self, q):
        return (q - self.zero) * self.step


def scale_of(ops, ranges, tensor):
    while tensor > 0 and ops[tensor - 1].kind == lib.PERMUTE:
        tensor = ops[tensor - 1].input
    low, high = (float(v) for v in ranges[2 * tensor : 2 * tensor + 2])
    activation = ops[tensor - 1].activation if tensor else None
    return Scale(0 if activation else low, min(high, 6) if activation == "relu6" else high)


def quantized_weights(weight, input_steps, groups):
    """Signed bytes and a step for each output: weight (outputs, inputs / groups, kh, kw)."""
    outputs, each = weight.shape[:2]
    steps = np.asarray(input_steps).reshape(groups, each)[np.arange(outputs) // (outputs // groups)]
    scaled = weight.astype(np.float64) * steps[:, :, None, None]
    step = np.maximum(np.abs(scaled).max((1, 2, 3)) / 127, 1e-30)
    return np.rint(scaled / step[:, None, None, None]), step


def product(q, zero, input_steps, weight, stride, pad, groups):
    """The convolution of bytes `q`, in the numbers that they stand for."""
    w, step = quantized_weights(weight, input_steps, groups)
    return ref.conv(q - zero, w, stride, pad, groups) * step[:, None, None]


def run(ops, x, ranges, units):
    """The result; `units` are a Net's."""
    middle_at, tensors = 2 * (len(ops) + 1), [x.astype(np.float64)]
    for op, unit in zip(ops, units):
        middle = None
        if op.kind == lib.BLOCK:
            middle = ranges[middle_at : middle_at + op.channels].astype(np.float64)
            middle_at += op.channels
        if unit == lib.FLOAT32_UNIT:
            tensors.append(ref.apply(op, tensors))
            continue
        scale = scale_of(ops, ranges, op.input)
        q = scale.quantize(tensors[op.input])
        steps = np.full(q.shape[1], scale.step)
        y = product(q, scale.zero, steps, op.weight, op.stride, op.pad, op.groups)
        if op.kind == lib.BLOCK and op.groups > 1:
            partitions = op.channels // op.groups
            weight2 = op.weight2.reshape(op.channels, op.groups, 1, 1)
            if op.groups > 4 and unit != lib.AMX:
                # One scale for each middle channel, which moves through the permutation with it.
                middle_steps = np.maximum(middle / 127, 1e-30)
                q = np.clip(np.rint(y / middle_steps[:, None, None] + 128), 0, 255)
                moved = middle_steps.reshape(op.groups, partitions).T.ravel()
                factor = scales_of(op).reshape(op.groups, partitions).T.reshape(-1, 1, 1, 1)
                y = product(ref.permute(q, op.groups), 128, moved, weight2 * factor, 1, (0, 0), partitions)
                y = ref.permute(y, partitions)
            else:
                y = ref.conv(ref.permute(y, op.groups), weight2, 1, (0, 0), partitions)
                y = ref.permute(y, partitions) * scales_of(op)[:, None, None]
        else:
            y = y * (scales_of(op) * (op.weight2.ravel() if op.kind == lib.BLOCK else 1))[:, None, None]
        if op.bias is not None:
            y = y + op.bias.reshape(1, -1, 1, 1)
        if op.residual >= 0:
            residual = scale_of(ops, ranges, op.residual)
            y = y + residual.numbers(residual.quantize(tensors[op.residual]))
        if op.activation is not None:
            y = np.clip(y, 0, 6 if op.activation == "relu6" else np.inf)
        if read_as_bytes(ops, units, len(tensors)):
            own = scale_of(ops, ranges, len(tensors))
            y = own.numbers(own.quantize(y))
        tensors.append(y)
    return tensors[-1]


def read_as_bytes(ops, units, tensor):
    """Then an op on bytes writes it as bytes, for all of its readers."""
    return any(
        read_as_bytes(ops, units, i + 1) if op.kind == lib.PERMUTE else units[i] != lib.FLOAT32_UNIT
        for i, op in enumerate(ops)
        if tensor in (op.input, op.residual)
    )


def scales_of(op):
    return np.ones(op.channels) if op.scale is None else op.scale.astype(np.float64)
