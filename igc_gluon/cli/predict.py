"""`igc predict NETWORK PHOTO ...`"""
HELP = "print the likeliest classes of photographs"


def add_arguments(parser):
    from igc_gluon.cli.networks import SOURCE, add_normalisation_arguments, add_params_arguments

    parser.add_argument("network", help=f"{SOURCE}; or an .igc file")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files; the shorter side is resized and the "
                                                                   "middle cropped as the network expects")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="print so many classes (default: 5)")
    add_params_arguments(parser)
    add_normalisation_arguments(parser)


def run(args):
    import sys

    from igc_gluon.data.photos import read_photo
    from igc_gluon.errors import UserError, printable

    if args.top < 1:
        raise UserError(f"--top must be at least 1, not {args.top}")
    scores, expected = _open(args)
    failed = 0
    for path in args.photos:
        try:
            image = expected.prepare(read_photo(path))
        except UserError as error:
            print(f"error: {error}" if printable(path) in str(error) else f"error: {printable(path)}: {error}",
                  file=sys.stderr)
            failed += 1
            continue
        found = _probabilities(scores(image)[0], args.network)
        print(printable(path))
        for number in found.argsort()[::-1][:args.top]:
            name = printable(expected.class_names[number]) if expected.class_names else f"class {number}"
            print(f"  {100 * found[number]:6.2f} %  {name}")
    return 2 if failed else 0


def _open(args):
    """(function from float32 (1, 3, H, W) to scores (1, classes), what it expects, a Preprocessing)."""
    from igc_gluon.errors import UserError

    if not args.network.endswith(".igc"):
        import mxnet as mx

        from igc_gluon.cli.networks import open_classifier

        net = open_classifier(args)
        return lambda image: net(mx.nd.array(image)).asnumpy(), net.preprocessing
    from igc_gluon import deploy  # nothing on this way imports MXNet, which takes seconds and need not be installed

    if args.mean or args.std or args.model or args.option or args.classes is not None or args.dataset:
        raise UserError(f"{args.network} is compiled, with all it needs; leave out what is said about the network")
    net = deploy.load(args.network)
    if net.input_shape[0] != 3 or len(net.output_shape) != 1:
        raise UserError(f"{args.network} is no classifier of photographs: {net.input_shape} -> {net.output_shape}")
    if net.preprocessing.mean is None:
        raise UserError(f"{args.network} was compiled without the mean and std that its images are normalised with; "
                        "compile it again with --mean and --std")
    return net, net.preprocessing


def _probabilities(scores, network):
    import numpy as np

    from igc_gluon.errors import UserError

    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        raise UserError(f"{network} gives scores that are not finite; it has diverged")
    found = np.exp(scores - scores.max())
    return found / found.sum()
