"""`igc compile NETWORK OUT.igc`"""

import argparse

from igc_gluon import deploy
from igc_gluon.cli.network_flags import SOURCE, add_normalization_arguments, add_params_arguments, open_classifier
from igc_gluon.data.classes import read_classes
from igc_gluon.deploy import runtime
from igc_gluon.errors import UserError, printable
from igc_gluon.native import library
from igc_gluon.paths import expand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", help=SOURCE)
    parser.add_argument("out", help="the file to write, net.igc for example")
    add_params_arguments(parser)
    add_normalization_arguments(parser)
    parser.add_argument("--size", type=int, help="height and width of the images (default: the model's natural size)")
    parser.add_argument("--class-names", metavar="FILE", help="a text file, in each line the name of a class")
    parser.add_argument(
        "--precision",
        choices=library.PRECISIONS,
        help="what layers run in that gain by it, where the processor has the instructions; elsewhere the same file "
        "runs in float32. half: bfloat16, with AVX512-BF16; int8: 8-bit integers, with VNNI (default: float32)",
    )
    add_int8_arguments(parser)


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--int8",
        action="store_true",
        help="8-bit integers: an .igc file runs on them the layers that gain by it, where the processor has AVX-512 "
        "with VNNI, and elsewhere in float32",
    )
    parser.add_argument(
        "--calibration",
        metavar="DATA",
        help="with int8: the name of a data set, of which 256 training images are taken, or a "
        ".npy file of uint8 images (N, height, width, 3) (default: the run's data set)",
    )


def precision_of(args: argparse.Namespace) -> str:
    """The precision that the flags mean. Raises UserError where they exclude each other."""
    if args.int8 and args.precision not in (None, "int8"):
        raise UserError(f"--int8 and --precision {args.precision} exclude each other")
    precision = "int8" if args.int8 else args.precision or "float32"
    if args.calibration is not None and precision != "int8":
        raise UserError("--calibration goes with --int8")
    return precision


def run(args: argparse.Namespace) -> None:
    precision = precision_of(args)
    if args.size is not None and args.size < 1:
        raise UserError(f"--size must be at least 1, not {args.size}")
    out = expand(args.out)
    shape = None if args.size is None else (3, args.size, args.size)
    names = None if args.class_names is None else read_classes(args.class_names)
    compiled = deploy.compile(
        open_classifier(args), shape, class_names=names, precision=precision, calibration=args.calibration
    )
    compiled.save(out)
    print(f"""{printable(compiled.name)}: images {"x".join(map(str, compiled.input_shape))} -> \
{"x".join(map(str, compiled.output_shape))}
  file    {printable(args.out)}, {out.stat().st_size / 1e6:.2f} MB
  images  {compiled.preprocessing}""")
    if compiled.native:
        print(
            f"  runs    natively, {compiled.multiply_adds / 1e8:.3f} x 10^8 multiply-adds"
            + (f", {compiled.reduced_layers} layers in {precision}" if precision != "float32" else "")
            + (f": {runtime.runs_on(compiled)}" if compiled.reduced_layers else "")
        )
