"""Arguments that say which network is meant, shared by several commands."""

import argparse
from dataclasses import replace
from math import isfinite
from typing import Any, Dict, Tuple, Union

from igc_gluon.errors import UserError

SOURCE = (
    "the folder of a run (its best checkpoint) or of one checkpoint, a .params file with --model, the name of "
    "a model with published weights, or with --dataset one whose weights come with the package (igc models "
    "--pretrained)"
)


def add_option_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_option,
        help="an option of the model, downsample=code for example; may be repeated",
    )


def add_import_argument(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a Python file that registers networks of your own, see docs/python.md; may be repeated",
    )


def add_params_arguments(parser: argparse._ActionsContainer) -> None:
    """What builds the network that a .params file does not name."""
    add_import_argument(parser)
    parser.add_argument("--model", help="of a .params file: cifar_plain_igc20_l24m2 for example")
    add_option_argument(parser)
    parser.add_argument(
        "--classes", type=int, help="of a .params file (default: the data set's; 10, or 1000 for ImageNet)"
    )
    parser.add_argument(
        "--dataset",
        help="that a .params file was trained on, cifar10 for example, for mean, std and "
        "size of the images (default: ImageNet of a model for it); or that the "
        "package's weights of a name were trained on",
    )


def add_normalization_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--mean",
        type=_numbers,
        metavar="R,G,B",
        help="of pixels 0..255, with --std (default: that of the weights, where it is known)",
    )
    parser.add_argument("--std", type=_numbers, metavar="R,G,B", help="see --mean")


def open_source(args: argparse.Namespace) -> Any:
    """The network that the arguments of `add_params_arguments` and `args.network` mean, see `open_network`."""
    # slow: MXNet
    from igc_gluon.engine.saved_networks import open_network

    return open_network(args.network, args.model, args.classes, options(args), args.dataset)


def open_classifier(args: argparse.Namespace) -> Any:
    """As `open_source`, with mean and std: those of `add_normalization_arguments`, or what is known of the weights."""
    # slow: MXNet
    from igc_gluon.model_zoo.attributes import check_normalized

    normalization = (args.mean, args.std)
    if any(normalization) and (
        any(values is None or len(values) != 3 or not all(map(isfinite, values)) for values in normalization)
        or min(args.std) <= 0
    ):
        raise UserError("--mean and --std go together, three numbers each, for R, G and B; --std above 0")
    net = open_source(args)
    if any(normalization):
        net.preprocessing = replace(net.preprocessing, mean=args.mean, std=args.std)
    check_normalized(net)
    return net


def options(args: argparse.Namespace) -> Dict[str, Any]:
    """{name: value} of all --option. Raises UserError on what no text can say of a model."""
    # slow: MXNet, which reads its number of threads as it is imported; so not while flags are parsed
    from igc_gluon.model_zoo.registry import NO_TEXT

    for name, _ in args.option:
        if name in NO_TEXT:
            raise UserError(f"--option {name}: that is not a choice within a model, or has a flag of its own")
    return dict(args.option)


def _option(text: str) -> Tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not value:
        raise argparse.ArgumentTypeError(f"wants NAME=VALUE, downsample=code for example; not {text!r}")
    parts = [_value(part) for part in value.split(",")]
    return name, tuple(parts) if len(parts) > 1 else parts[0]


def _value(text: str) -> Union[int, float, str]:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _numbers(text: str) -> Tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"wants numbers such as 125.3,123.0,113.9; not {text!r}") from None
