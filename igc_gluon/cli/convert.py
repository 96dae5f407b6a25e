"""`igc convert`: checkpoints of the authors' code, or of any Module, to a Gluon network and back."""

import argparse
import shlex
from pathlib import Path

from igc_gluon.cli.network_flags import SOURCE, add_params_arguments, open_source, options
from igc_gluon.errors import UserError, printable
from igc_gluon.paths import expand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = (
        "igc convert PREFIX EPOCH OUT.params [--model MODEL [--option NAME=VALUE ...]]\n"
        "       igc convert NETWORK PREFIX [--model MODEL ...]"
    )
    parser.description = (
        "With three arguments: PREFIX-symbol.json and PREFIX-0095.params (EPOCH 95), of MXNet's Module or of the "
        "authors' code with its Reorder operators, become OUT.params for a network of this package, which is found by "
        "the graph. With two: NETWORK becomes PREFIX-symbol.json and PREFIX-0000.params, which mx.mod.Module loads on "
        "the stock wheel."
    )

    parser.add_argument(
        "network", metavar="PREFIX or NETWORK", help=f"PREFIX: a path without '-symbol.json'. NETWORK: {SOURCE}"
    )
    parser.add_argument("rest", nargs="+", metavar="EPOCH OUT.params or PREFIX", help="see above")
    add_params_arguments(parser)


def run(args: argparse.Namespace) -> None:
    if len(args.rest) > 2:
        raise UserError("give PREFIX EPOCH OUT.params, or NETWORK PREFIX")
    if len(args.rest) == 1:
        return _to_module(args, args.rest[0])
    epoch, out = args.rest
    if not epoch.isdigit() or len(epoch) > 9:
        raise UserError(f"EPOCH is a number, 95 of PREFIX-0095.params, not {epoch!r}")
    return _from_module(args, int(epoch), out)


def _from_module(args: argparse.Namespace, epoch: int, out: str) -> None:
    # slow: MXNet
    from igc_gluon.model_zoo import find_family
    from igc_gluon.model_zoo.attributes import read_preprocessing, set_attributes
    from igc_gluon.model_zoo.authors import save_parameters
    from igc_gluon.model_zoo.convert import read_checkpoint

    if args.dataset or args.classes is not None:
        raise UserError("the checkpoint itself says its classes; leave out --classes and --dataset")
    if args.option and not args.model:
        raise UserError("--option goes with --model")
    net, model, model_options = read_checkpoint(args.network, epoch, args.model, options(args))
    expected = read_preprocessing(expand(f"{args.network}-{epoch:04d}.params"))
    if expected:
        set_attributes(net, model, expected)
    out = str(expand(out))
    save_parameters(net, Path(out))
    classes = next(p.shape[0] for p in net.output.collect_params().values())
    flags = "".join(
        " --option " + shlex.quote(f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}")
        for name, value in model_options.items()
    )
    if expected is None and find_family(model)[0].mean is None:
        flags += " --dataset DATASET"
    keywords = "".join(f", {name}={value!r}" for name, value in model_options.items())
    print(f"""{printable(out)}: {len(net._collect_params_with_prefix())} arrays of {model}, {classes} classes
  in Python   net = igc_gluon.get_model({model!r}, classes={classes}{keywords}); net.load_parameters({out!r})
  here        igc predict {printable(shlex.quote(out))} --model {model}{flags} --classes {classes} photo.jpg""")


def _to_module(args: argparse.Namespace, prefix: str) -> None:
    # slow: MXNet
    from igc_gluon.model_zoo.authors import save_module_checkpoint

    prefix = str(expand(prefix))
    net = open_source(args)
    save_module_checkpoint(net, prefix, 0)
    shown = printable(prefix)
    print(f"""{net.model} is in {shown}-symbol.json and {shown}-0000.params
  in Python   module = mx.mod.Module.load({prefix!r}, 0)""")
