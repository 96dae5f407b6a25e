"""What networks in half precision compute, in plain numpy: what is rounded to bfloat16 is, all else is float64."""

import native_reference as ref
import numpy as np

from igc_gluon.native import library as lib


def bfloat16(x):
    """Rounded to nearest even, subnormal numbers to zero; float64."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1) >> 16 << 16).astype(np.uint32)
    rounded = np.where(bits & 0x7F800000, rounded, 0).astype(np.uint32)
    return rounded.view(np.float32).astype(np.float64)


def run(ops, x, units):
    """The tensors; `units` are a Net's."""
    tensors = [x.astype(np.float64)]
    for op, unit in zip(ops, units):
        if unit == lib.FLOAT32_UNIT:
            tensors.append(ref.apply(op, tensors))
            continue
        scale = np.ones(op.channels, np.float32) if op.scale is None else op.scale
        factor = scale.reshape(-1, 1, 1, 1)
        weight, middle = op.weight, op.kind == lib.BLOCK and op.groups > 1
        if op.kind == lib.BLOCK and not middle:
            factor = factor * op.weight2.reshape(factor.shape)
        y = bfloat16(tensors[op.input])
        y = ref.conv(y, bfloat16(weight if middle else weight * factor), op.stride, op.pad, op.groups)
        if middle:
            partitions = op.channels // op.groups
            on_sums = op.groups <= 4 or unit == lib.AMX  # the secondary works on them, in float32
            y = ref.permute(y if on_sums else bfloat16(y), op.groups)
            # Output l * M + m has row m * L + l of the secondary's weights.
            weight2 = op.weight2.reshape(op.channels, op.groups, 1, 1)
            weight2 = weight2 * factor.reshape(op.groups, partitions).T.reshape(-1, 1, 1, 1)
            y = ref.conv(y, weight2 if on_sums else bfloat16(weight2), 1, (0, 0), partitions)
            y = ref.permute(y, partitions)
        if op.bias is not None:
            y = y + op.bias.reshape(1, -1, 1, 1)
        if op.residual >= 0:
            y = y + bfloat16(tensors[op.residual])
        if op.activation is not None:
            y = np.clip(y, 0, 6 if op.activation == "relu6" else np.inf)
        tensors.append(bfloat16(y) if read_in_half(ops, units, len(tensors)) else y)
    return tensors


def read_in_half(ops, units, tensor):
    """Then an op in half precision writes it so, for all of its readers."""
    return any(
        read_in_half(ops, units, i + 1) if op.kind == lib.PERMUTE else units[i] != lib.FLOAT32_UNIT
        for i, op in enumerate(ops)
        if tensor in (op.input, op.residual)
    )
