"""Reads the layers of Gluon blocks for the training kernels: what has kernels, and in which order it comes.

Blocks are taken apart to convolutions, permutations, batch normalizations and activations; only those that
add something up (residual blocks, IGCV3's, summation fusion) are known by name or attribute.
"""
from mxnet.gluon import HybridBlock, nn

from igc_gluon.native import training
from igc_gluon.nn import ChannelPermutation, IGCV3Block, ReLU6, SumFusion
from igc_gluon.nn.basic import Native


class NotNative(Exception):
    """One line why a network or a call is left to MXNet's operators."""


def require(condition, reason):
    if not condition:
        raise NotNative(reason)


class Reader:
    """The layers (training.Layer) of `blocks`, which end in global average pooling and perhaps flattening; with `maps`
    they do not.

    parameters: those of the layers, in the order of igc_train.h, each a (Parameter, branches): with branches
    above 1, that many equal parts of it are added up. running: moving means and variances. `flat`: whether
    the features are flattened. Raises NotNative.
    """

    def __init__(self, blocks, maps=False):
        self.layers, self.parameters, self.running = [], [], []
        self._open = None  # the layer that may still get something behind it, whose value is not made yet
        self.flat = bool(blocks) and type(blocks[-1]) is nn.Flatten
        if not maps:
            blocks = blocks[:-1] if self.flat else blocks
            require(len(blocks) > 1 and type(blocks[-1]) is nn.GlobalAvgPool2D,
                    "the features do not end in global average pooling")
            blocks = blocks[:-1]
        for block in blocks:
            self._add(block)
        self._close()

    def _add(self, block):
        require(type(block).forward in (HybridBlock.forward, Native.forward) and
                (not isinstance(block, nn.Conv2D) or type(block).hybrid_forward is nn.Conv2D.hybrid_forward),
                f"{type(block).__name__} has no native kernel")
        if hasattr(block, "shortcut") and hasattr(block, "body"):
            self._residual(block)
        elif type(block) is IGCV3Block:
            value = self._close()
            self._add(block.body)
            if block._shortcut:
                self._sum(value, None)
        elif type(block) is SumFusion:
            self._convolution(block.conv, block._branches)
            self._normalization(block.bn)
            self._activation("relu")
        elif isinstance(block, nn.Conv2D):
            self._convolution(block)
        elif type(block) is nn.MaxPool2D:
            self._max_pool(block)
        elif isinstance(block, nn.BatchNorm):
            self._normalization(block)
        elif type(block) is ChannelPermutation:
            self._permutation(block._branch_factor)
        elif type(block) is ReLU6:
            self._activation("relu6")
        elif type(block) is nn.Activation:
            self._activation(block._act_type)
        else:
            require(isinstance(block, nn.HybridSequential) and
                    type(block).hybrid_forward is nn.HybridSequential.hybrid_forward,
                    f"{type(block).__name__} has no native kernel")
            for part in block._children.values():
                self._add(part)

    def _residual(self, block):
        """`body`, and `shortcut` beside it (None: the identity), which are added, ReLU."""
        value = shortcut = self._close()
        if block.shortcut is not None:
            self._add(block.shortcut)
            shortcut = self._close()
        for i, part in enumerate(block.body):
            if i == 0:
                self._source = value
            self._add(part)
        if getattr(block, "_has_shortcut", True):
            self._sum(shortcut, "relu")
        else:
            self._activation("relu")

    _source = None  # the value that the next convolution reads, where it is not the last one

    def _convolution(self, conv, branches=1):
        _check_convolution(conv)
        options = conv._kwargs
        kernel, stride = options["kernel"][0], options["stride"][0]
        channels = options["num_filter"] // branches
        if self._open is not None and not self._open.normalised:
            require(kernel == stride == 1, "a spatial convolution behind another one without a normalization "
                                           "between them has no native kernel")
        value = self._close(normalised=False)
        value, self._source = (value if self._source is None else self._source), None
        self._open = training.Layer(value, channels, options["num_group"], kernel, stride, activation=None,
                                    normalised=False)
        self.parameters.append((conv.weight, branches))

    def _permutation(self, branches):
        require(self._open is not None and self._open.residual < 0, "a permutation here has no native kernel")
        if branches in (1, self._open.channels):
            return
        field = "reorder" if self._open.normalised else "permute"
        require(getattr(self._open, field) == 1, "two permutations in a row have no native kernel")
        self._open = self._open._replace(**{field: branches})

    def _normalization(self, norm):
        require(type(norm) is nn.BatchNorm, f"{type(norm).__name__} has no native kernel")
        options = norm._kwargs
        require(options["axis"] == 1 and not options["fix_gamma"] and not options["use_global_stats"],
                "BatchNorm with other options than epsilon and momentum has no native kernel")
        require(self._open is not None and not self._open.normalised,
                "a normalization that does not follow a convolution has no native kernel")
        self._open = self._open._replace(normalised=True, epsilon=options["eps"],
                                         momentum=options["momentum"])
        self.parameters += [(norm.gamma, 1), (norm.beta, 1)]
        self.running += [norm.running_mean, norm.running_var]

    def _max_pool(self, pool):
        options = pool._kwargs
        kernel = options["kernel"]
        value = self._close()
        require(value > 0 and self._source is None and len(set(kernel)) == 1 and kernel[0] % 2 == 1 and
                options["pad"] == (kernel[0] // 2,) * 2 and options["stride"] in ((1, 1), (2, 2)) and
                options["pooling_convention"] == "valid" and options.get("layout", "NCHW") == "NCHW",
                "max pooling of this form has no native kernel")
        self.layers.append(training.Layer.max_pool(value, self.layers[-1].channels, kernel[0],
                                                   options["stride"][0]))

    def _activation(self, kind):
        require(kind in ("relu", "relu6"), "another activation than ReLU has no native kernel")
        require(self._open is not None and self._open.normalised and self._open.activation is None and
                (self._open.residual < 0 or kind == "relu"),
                "an activation that does not follow a normalization has no native kernel")
        self._open = self._open._replace(activation=kind)

    def _sum(self, value, activation):
        require(self._open is not None and self._open.normalised and self._open.activation is None,
                "a sum that does not follow a normalization has no native kernel")
        self._open = self._open._replace(residual=value, activation=activation)

    def _close(self, normalised=True):
        """Number of the value made so far. normalised: whether it must be."""
        if self._open is not None:
            require(self._open.normalised or not normalised,
                    "a convolution without a normalization behind it has no native kernel")
            self.layers.append(self._open)
            self._open = None
        return len(self.layers)


def _check_convolution(conv):
    options = conv._kwargs
    kernel = options["kernel"]
    require(conv.bias is None and conv.act is None and
            options["layout"] == "NCHW" and len(set(kernel)) == 1 and kernel[0] % 2 == 1 and
            options["pad"] == (kernel[0] // 2,) * 2 and
            options["dilate"] == (1, 1) and options["stride"] in ((1, 1), (2, 2)),
            "a convolution of this form has no native kernel")
