"""`igc info NAME` of a model, `igc info FILE.igc` of a compiled network"""

import argparse

from igc_gluon import deploy
from igc_gluon.cli.network_flags import add_import_argument, add_option_argument, options
from igc_gluon.deploy import runtime
from igc_gluon.errors import UserError, printable
from igc_gluon.native import library
from igc_gluon.text_table import table

_SUFFIX = "_fwd"  # of Gluon, to the names of operators
_SHORT = {"Convolution": "conv", "BatchNorm": "BN", "FullyConnected": "FC"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        help="a model's name, cifar_plain_igc20_l24m2 for example; any valid depth and partition. Or an .igc file: its "
        "layers, and in which precision each runs here",
    )
    parser.add_argument("--classes", type=int, help="(default: 10 of networks for 32x32 images, 1000 for ImageNet)")
    parser.add_argument("--size", type=int, help="height and width of the image (default: 32, or 224 for ImageNet)")
    add_option_argument(parser)
    parser.add_argument("--all", action="store_true", help="reshapes, activations and sums too")
    add_import_argument(parser)


def run(args: argparse.Namespace) -> None:
    if args.name.endswith(".igc"):
        return _run_file(deploy.load(args.name), args.name)
    # slow: MXNet
    from igc_gluon import complexity, native
    from igc_gluon.model_zoo import find_family, get_model

    family, _ = find_family(args.name)
    classes = family.classes if args.classes is None else args.classes
    size = family.input_size if args.size is None else args.size
    if size < 1:
        raise UserError(f"--size must be at least 1, not {size}")
    shape = (3, size, size)
    net = get_model(args.name, classes=classes, **options(args))
    rows = [row for row in complexity.layers(net, shape) if args.all or row.params]
    lines = [
        (
            row.name[: -len(_SUFFIX)] if row.name.endswith(_SUFFIX) else row.name,
            _SHORT.get(row.operator, row.operator),
            "x".join(map(str, row.output_shape)),
            f"{row.params:,}",
            f"{row.multiply_adds:,}",
        )
        for row in rows
    ]
    print(table(("layer", "operator", "output", "parameters", "multiply adds"), lines, left=2))
    totals = complexity.totals(net, shape)
    print(f"""
{args.name.lower()}: {classes} classes, one image of 3x{size}x{size}
  weights of convolutions and FC  {totals.weights:>14,}   ({totals.weights / 1e6:.3f} M)
  multiply-adds of these          {totals.multiply_adds:>14,}   ({totals.multiply_adds / 1e8:.3f} x 10^8)
  all learned parameters          {totals.params:>14,}   (with biases, gamma and beta)
  moving statistics               {totals.aux:>14,}""")
    reason = native.unavailable_reason()
    print("  CPU kernels here                " + (f"not used: {reason}" if reason else native.library.isa()))


def _run_file(compiled: runtime.Compiled, path: str) -> None:
    rows = []
    for number, layer in enumerate(compiled.layers, 1):
        convolves = layer.kind in ("convolution", "IGC block")
        window = ("x".join(map(str, layer.kernel)), str(layer.stride)) if layer.stride else ("", "")
        output = "x".join(map(str, layer.output_shape))
        groups, precision, unit = (layer.groups, layer.precision, layer.unit or "") if convolves else ("", "", "")
        rows.append((str(number), layer.kind, *window, groups, output, precision, unit))
    print(table(("layer", "operator", "kernel", "stride", "groups", "output", "runs in", "on"), rows, left=2))
    print(f"""
{printable(compiled.name or path)}: images {"x".join(map(str, compiled.input_shape))}, \
{compiled.multiply_adds / 1e8:.3f} x 10^8 multiply-adds
  kernels        {library.isa()}
  compiled for   {compiled.precision}""")
    if compiled.precision != "float32":
        reason = runtime.float32_reason(compiled)
        here = f"all in float32: {reason}" if reason else f"{compiled.reduced_layers} layers in it"
        if not reason:
            here += f": {runtime.runs_on(compiled)}"
        print(f"  runs           {here}")
