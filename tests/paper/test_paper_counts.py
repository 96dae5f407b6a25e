"""Every computed number of every table against a count by hand: the papers' formulas on NumPy arrays, no network.

A layer is np.array([weights, multiply-adds]). Convolutions with `groups` groups have cin * cout * k^2 / groups
weights, each of which is used once per output position.
"""

import numpy as np
import pytest

from igc_gluon.paper import compare, published

UNITS = {"": 1, "M": 1e6, "10^7": 1e7, "10^8": 1e8, "10^9": 1e9}


def conv(cin, cout, k, groups, size):
    weights = cin * cout * k * k / groups
    return np.array([weights, weights * size * size])


def fc(cin, classes):
    return conv(cin, classes, 1, 1, 1)


def named(total, width=None, dense=None):
    weights, multiply_adds = total
    counts = {
        "params": weights,
        "multiply-adds": multiply_adds,
        "params of a block": weights,
        "multiply-adds of a block": multiply_adds,
        "width": width,
    }
    return {**counts, "non-sparsity": weights / dense} if dense else counts


def stages(width):
    """(input width, width, size) of the three stages for 32x32 images."""
    return [(width, width, 32), (width, 2 * width, 16), (2 * width, 4 * width, 8)]


# IGCV1 and its supplementary.


def block(label):
    """9 L M^2 + M L^2, or with a dense 1x1 convolution 9 L M^2 + (L M)^2."""
    L, M = label["L"], label["M"]
    pointwise = (L * M) ** 2 if label.get("model") == "GPC block" else M * L**2
    weights = 9 * L * M**2 + pointwise
    return named((weights, weights * 1024), width=L * M)


def plain(label, classes=10):
    """3B + 2 layers; IGC-LxMy has L groups in every stage, and M doubles with the width."""
    kind, _, name = label["model"].partition("-")
    if kind == "RegConv":
        width, layer = int(name[1:]), lambda cin, cout, size: conv(cin, cout, 3, 1, size)
    else:
        L, M = map(int, name[1:].split("M"))
        width = L * M

        def layer(cin, cout, size):
            return conv(cin, cout, 3, L, size) + conv(cout, cout, 1, cout // L, size)

    total = conv(3, width, 3, 1, 32) + fc(4 * width, classes)
    for cin, cout, size in stages(width):
        total = total + layer(cin, cout, size) + ((label["depth"] - 2) // 3 - 1) * layer(cout, cout, size)
    return named(total)


def resnet_18(label):
    """Multiply-adds without those of the shortcuts. L100M2 doubles L and has a stem of half its first width."""
    model = label["model"]
    if "ResNet" in model:
        stem = width = int(model.split("C=")[1].rstrip(")"))
        partitions = [1] * 4
    else:
        L, M = map(int, model.split()[0].split("-L")[1].split("M"))
        width = L * M
        stem, partitions = (width // 2, [L * 2**i for i in range(4)]) if M == 2 else (width, [L] * 4)

    def layer(cin, cout, L, size):
        return conv(cin, cout, 3, L, size) + (conv(cout, cout, 1, cout // L, size) if "IGC" in model else 0)

    total, cin = conv(3, stem, 7, 1, 112), stem
    for stage, L in enumerate(partitions):
        cout, size = width * 2**stage, 56 >> stage
        total = total + layer(cin, cout, L, size) + 3 * layer(cout, cout, L, size)
        if cin != cout:
            total = total + conv(cin, cout, 1, L, size) * [1, 0]
        cin = cout
    return named(total + fc(cin, 1000))


# IGCV2.


def flat(label):
    """C channels: Xception 9C + C^2, IGCV1 of two partitions 18C + C^2/2, IGCV2 9C + 2CK, IGCV2 I 18C + 2CK."""
    C, model = label["C"], label["model"]
    K = label.get("K2", {144: 12, 256: 16, 361: 19}.get(C, 0))
    weights = {
        "Xception": 9 * C + C * C,
        "IGCV1": 18 * C + C * C // 2,
        "IGCV2": 9 * C + 2 * C * K,
        "IGCV2 I": 18 * C + 2 * C * K,
        "IGCV2 II": 9 * C + 2 * C * K,
    }[model]
    return named((weights, weights * 1024))


def design(label):
    """Figure 3: C channels, one channel-wise convolution and L - 1 group convolutions with K channels a branch."""
    L, K = label["L"], label["K"]
    C = {64: 64, 12: 144, 6: 174, 4: 184}.get(K) or {6: 195, 7: 174, 8: 156, 9: 188, 10: 174}[L]
    assert K ** (L - 1) >= C > (K - 1) ** (L - 1) and 4600 <= 9 * C + (L - 1) * C * K <= 4752
    weights = 9 * C + (L - 1) * C * K
    return named((weights, weights * 1024), width=C, dense=9 * C * C)


def table_1(label, depth=20):
    """Convolutions alone, without the fully connected layer."""
    model, C = label["model"].split("-")[0], label.get("C", 416)
    depth = label.get("depth", depth)
    stem = {"Xception": 35, "IGCV2*": 64}.get(model, C)
    total = conv(3, stem, 3, 1, 32)
    for stage, (cin, cout, size) in enumerate(stages(C)):
        cin = cin if stage else stem
        pointwise = 1
        while 8**pointwise < cout:
            pointwise += 1
        K = {64: (8, 16, 32), 80: (10, 16, 20)}[C][stage] if model == "IGCV2" else 8
        groups = {"Xception": 1, "IGCV1": C // 2}.get(model, cin // 2)  # of the shortcut

        def layer(cin, cout, size=size, pointwise=pointwise, K=K):
            if model == "IGCV1":
                return conv(cin, cout, 3, C // 2, size) + conv(cout, cout, 1, cout // (C // 2), size)
            channelwise = conv(cin, cin, 3, cin, size)
            if model == "Xception":
                return channelwise + conv(cin, cout, 1, 1, size)
            inner = (2 if model == "IGCV2" else pointwise) - 1
            return channelwise + inner * conv(cin, cin, 1, cin // K, size) + conv(cin, cout, 1, cin // K, size)

        total = total + layer(cin, cout) + ((depth - 2) // 3 - 1) * layer(cout, cout)
        if stage:
            total = total + conv(cin, cout, 1, groups, size)
    return named(total)


def mobile_1(label):
    """MobileNetV1, and IGCV2 of twice its width with two 1x1 convolutions of 8 branches and a head of 2."""
    m = label["multiplier"]
    igcv2 = label["model"] == "IGCV2"
    double = 2 if igcv2 else 1
    cin, size = int(32 * double * m), 112
    total = conv(3, cin, 3, 1, size)
    for cout, stride in zip((64, 128, 128, 256, 256, *[512] * 6, 1024, 1024), (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1)):
        cout, size = int(cout * double * m), size // stride
        total = total + conv(cin, cin, 3, cin, size)
        total = total + (
            conv(cin, cin, 1, 8, size) + conv(cin, cout, 1, 8, size) if igcv2 else conv(cin, cout, 1, 1, size)
        )
        cin = cout
    return named(total + fc(cin, 1000) / double)


def even(channels):
    return round(channels) + round(channels) % 2


def mobile_2(label, classes=1000, multiplier=1.0):
    """MobileNetV2; IGCV3 has two branches and more blocks, an expansion in its first block too, and gamma, beta
    and the last layer's biases are counted."""
    m = label.get("multiplier", multiplier)
    if label["model"] == "MobileNetV1":
        return mobile_1(label)
    igcv3 = label["model"].startswith("IGCV3")
    blocks = (
        {0.5: (1, 2, 2, 3, 2, 2, 1), 0.7: (1, 2, 4, 4, 3, 4, 1), 1.0: (1, 4, 6, 8, 6, 6, 1)}[label.get("s", 1.0)]
        if igcv3
        else (1, 2, 3, 4, 3, 3, 1)
    )
    g = 2 if igcv3 else 1
    cin, size = even(32 * m), 112
    total, normalized = conv(3, cin, 3, 1, size), cin
    for (t, cout, stride), count in zip(
        ((1, 16, 1), (6, 24, 2), (6, 32, 2), (6, 64, 2), (6, 96, 1), (6, 160, 2), (6, 320, 1)), blocks
    ):
        cout = even(cout * m)
        for i in range(count):
            inner, out = t * cin, size // (1 if i else stride)
            if t > 1 or igcv3:
                total, normalized = total + conv(cin, inner, 1, g, size), normalized + inner
            total = total + conv(inner, inner, 3, inner, out) + conv(inner, cout, 1, g, out)
            normalized += inner + cout
            cin, size = cout, out
    last = even(1280 * m)
    total = total + conv(cin, last, 1, 1, size) + fc(last, classes)
    return named(total + (np.array([2 * (normalized + last) + classes, 0]) if igcv3 else 0))


COUNTS = {
    "IGCV1 1": block,
    "IGCV1 3": plain,
    "IGCV1 6": resnet_18,
    "README results": resnet_18,
    "IGCV1 7": lambda label: plain(label, 100),
    "Supplementary 1": block,
    "IGCV2 2": flat,
    "IGCV2 3": table_1,
    "IGCV2 4": table_1,
    "IGCV2 5": flat,
    "IGCV2 6": table_1,
    "IGCV2 7": table_1,
    "IGCV2 9": mobile_1,
    "IGCV2 11": mobile_2,
    "IGCV2 Figure 3": design,
    "IGCV3 CIFAR": lambda label: mobile_2(label, 100),
    "IGCV3 ImageNet": mobile_2,
}
# Structures, which are compared with the printed text itself; widths in the label; no numbers.
OTHERS = {"IGCV1 2", "IGCV2 1", "IGCV2 8", "IGCV2 10", "IGCV2 Figure 2"} | {
    table.id for table in published.load_tables() if not any(row.numbers for row in table.rows)
}


def test_every_table_is_counted():
    assert set(COUNTS) | OTHERS == {table.id for table in published.load_tables()}
    assert not set(COUNTS) & OTHERS


@pytest.mark.parametrize("id", COUNTS)
def test_computed_is_what_the_formulas_give(id):
    (table,) = published.find_tables(id)
    for row in compare.compare(table).rows:
        if row.network is None:
            continue
        expected = COUNTS[id](row.label)
        for number in row.numbers:
            what, _, unit = number.quantity.partition(", ")
            value = expected[what] / UNITS[unit]
            if "e" in number.computed or what == "non-sparsity":
                assert float(number.computed) == pytest.approx(value, rel=5e-3), (row.label, number)
            else:
                decimals = len(number.computed.partition(".")[2])
                assert number.computed == f"{value:.{decimals}f}", (row.label, number)


def test_nothing_in_proportion_to_the_width_fits_both_c64_and_c80():
    """What Tables 4 and 6 leave for the shortcuts: multiply-adds that no a C at 32x32, b C at 16x16, c C at 8x8 has."""
    left = {}
    for id, C in (("IGCV2 4", 64), ("IGCV2 6", 80)):
        lows, highs = [], []
        (table,) = published.find_tables(id)
        for row in table.rows:
            if row.label["model"] != "IGCV2":
                continue
            ((text, unit),) = [
                (text, UNITS[what.split(", ")[1]])
                for what, text in row.numbers.items()
                if what.startswith("multiply-adds")
            ]
            printed, half = float(text) * unit, 10.0 ** -len(text.split(".")[1]) / 2 * unit
            shortcuts = conv(C, 2 * C, 1, C // 2, 16) + conv(2 * C, 4 * C, 1, C, 8)
            rest = table_1(row.label)["multiply-adds"] - shortcuts[1]
            lows.append((printed - half - rest) / C)
            highs.append((printed + half - rest) / C)
        left[C] = max(lows), min(highs)
        assert left[C][0] < left[C][1]  # the three rows fit each other
    assert left[64][1] < left[80][0]
