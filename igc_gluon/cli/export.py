"""`igc export NETWORK OUT`: ONNX, an .igc file, or MXNet's symbol and params, by the name of OUT."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import Any, Tuple

import numpy as np

from igc_gluon.cli import compile as compiling
from igc_gluon.cli.network_flags import SOURCE, add_normalization_arguments, add_params_arguments, open_classifier
from igc_gluon.data.classes import read_classes
from igc_gluon.errors import UserError, printable
from igc_gluon.paths import expand

_SYMBOL = "-symbol.json"
_MOST_IMAGES = 1 << 20  # of a batch


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = (
        "OUT.onnx: an ONNX model for ONNX Runtime, OpenVINO, TensorRT and others, compared with ONNX Runtime where "
        "that is installed. OUT.igc: as igc compile. OUT-symbol.json: MXNet's symbol, with OUT-0000.params, as igc "
        "convert."
    )
    parser.add_argument("network", help=SOURCE)
    parser.add_argument("out", help="model.onnx, net.igc or net-symbol.json")
    add_params_arguments(parser)
    add_normalization_arguments(parser)
    parser.add_argument("--size", type=int, help="height and width of the images (default: the model's natural size)")
    parser.add_argument("--class-names", metavar="FILE", help="a text file, in each line the name of a class")
    compiling.add_int8_arguments(parser)
    parser.set_defaults(precision=None)  # of igc compile
    onnx = parser.add_argument_group("of ONNX")
    onnx.add_argument(
        "--normalize",
        nargs="?",
        const="uint8",
        choices=["uint8", "float32"],
        help="the model takes pixels 0..255 of that type (uint8 where none is given) and normalizes them itself "
        "(default: it takes float32 images that are normalized)",
    )
    onnx.add_argument("--softmax", action="store_true", help="the model gives probabilities, not scores")
    onnx.add_argument("--batch-size", type=int, metavar="N", help="images of every call (default: any number)")


def run(args: Namespace) -> None:
    writers = {".onnx": _to_onnx, ".igc": _to_igc, _SYMBOL: _to_symbol}
    ending = next((ending for ending in writers if args.out.endswith(ending)), None)
    if ending is None:
        raise UserError(f"the name of what is written ends in .onnx, .igc or {_SYMBOL}, not as {args.out}")
    flags = {"--normalize": args.normalize, "--softmax": args.softmax, "--batch-size": args.batch_size is not None}
    image_flag = next((flag for flag, value in flags.items() if value), None)
    if image_flag and ending != ".onnx":
        raise UserError(f"{image_flag} goes with OUT.onnx")
    if args.int8 and ending == _SYMBOL:
        raise UserError(f"--int8 goes with OUT.onnx and OUT.igc, not with {_SYMBOL}")
    compiling.precision_of(args)
    if args.batch_size is not None and not 1 <= args.batch_size <= _MOST_IMAGES:
        raise UserError(f"--batch-size must be from 1 to {_MOST_IMAGES}, not {args.batch_size}")
    if args.size is not None and args.size < 1:
        raise UserError(f"--size must be at least 1, not {args.size}")
    writers[ending](args)


def _network(args: Namespace) -> Any:
    """What the arguments mean, with the size and the names of classes that they give."""
    names = None if args.class_names is None else read_classes(args.class_names)
    net = open_classifier(args)
    if args.size is not None:
        net.preprocessing = net.preprocessing.with_crop((args.size, args.size))
    if names is not None:
        classes = next(p.shape[0] for p in net.output.collect_params().values())
        if len(names) != classes:
            raise UserError(f"there are {len(names)} names of classes for {classes} scores")
        # slow: MXNet
        from igc_gluon.model_zoo.attributes import set_attributes

        set_attributes(net, net.model, replace(net.preprocessing, class_names=names))
    return net


def _to_onnx(args: Namespace) -> None:
    try:
        from igc_gluon.export import to_onnx  # optional: the package onnx
    except ImportError as error:
        raise UserError(f"an ONNX model needs the package onnx: {error}; pip install 'igc-gluon[onnx]'") from None
    # slow: MXNet
    from igc_gluon.export.check import check
    from igc_gluon.files import write_atomically

    net = _network(args)
    made = to_onnx.of_network(net, None if args.int8 else args.batch_size, args.normalize, args.softmax)
    checked = check(made, net, args.normalize)
    if args.int8:
        made, checked = _in_int8(args, net, made, checked)
    data = made.SerializeToString()
    with write_atomically(expand(args.out)) as file:
        file.write(data)
    shape = "x".join(map(str, (args.batch_size or "N", *net.preprocessing.image_shape)))
    input_text = (
        f"{args.normalize} pixels 0..255, {net.preprocessing.color_order}" if args.normalize else "normalized float32"
    )
    outputs = made.graph.output[0]
    scores = "x".join(str(axis.dim_value or "N") for axis in outputs.type.tensor_type.shape.dim)
    print(f"""{printable(net.model)}: images {shape}, {input_text} -> {outputs.name} {scores}
  file    {printable(args.out)}, {len(data) / 1e6:.2f} MB, ONNX opset {to_onnx.OPSET}
  images  {net.preprocessing}
  check   {printable(checked)}""")


def _in_int8(args: Namespace, net: Any, made: Any, checked: str) -> Tuple[Any, str]:
    """(the model with 8-bit integers, a line on how far it is from `made`)"""
    try:
        from igc_gluon.export import int8  # optional: ONNX Runtime
    except ImportError as error:
        raise UserError(f"--int8 needs ONNX Runtime's quantizer: {error}; pip install 'igc-gluon[onnx]'") from None
    from igc_gluon.deploy import calibration  # slow: MXNet

    expected = net.preprocessing
    images = calibration.images_of(
        args.calibration or True, expected, expected.image_shape, getattr(net, "dataset", None)
    )
    if args.normalize:  # back to the pixels that they were
        mean, std = (np.asarray(values, np.float64)[:, None, None] for values in (expected.mean, expected.std))
        images = np.rint(images * std + mean).astype(args.normalize)
    result = int8.quantized(made, images)
    same, difference = int8.compared(made, result, images)
    if args.batch_size is not None:
        result = int8.with_batch(result, args.batch_size)
    return result, (
        f"{checked}; with 8-bit integers {100 * same:.1f} % of the {len(images)} images of the calibration keep their "
        f"class, and scores differ by up to {difference:.1e} of the largest"
    )


def _to_igc(args: Namespace) -> None:
    compiling.run(args)


def _to_symbol(args: Namespace) -> None:
    # slow: MXNet
    from igc_gluon.model_zoo.authors import save_module_checkpoint

    net, prefix = _network(args), str(expand(args.out))[: -len(_SYMBOL)]
    save_module_checkpoint(net, prefix, 0)
    print(f"""{printable(net.model)} is in {printable(prefix)}{_SYMBOL} and {printable(prefix)}-0000.params
  in Python   module = mx.mod.Module.load({prefix!r}, 0)""")
