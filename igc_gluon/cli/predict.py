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

    from igc_gluon.data.photos import central_crop, read_photo
    from igc_gluon.errors import UserError, printable

    if args.top < 1:
        raise UserError(f"--top must be at least 1, not {args.top}")
    probabilities, names, short_side, height, width = _open(args)
    failed = 0
    for path in args.photos:
        try:
            image = central_crop(read_photo(path), short_side, height, width)
        except UserError as error:
            print(f"error: {error}" if printable(path) in str(error) else f"error: {printable(path)}: {error}",
                  file=sys.stderr)
            failed += 1
            continue
        found = probabilities(image)
        print(printable(path))
        for number in found.argsort()[::-1][:args.top]:
            print(f"  {100 * found[number]:6.2f} %  {printable(names[number]) if names else f'class {number}'}")
    return 2 if failed else 0


def _open(args):
    """(function from a uint8 image to probabilities, names of classes or None, short side, height, width)."""
    import numpy as np

    from igc_gluon.cli.networks import open_classifier
    from igc_gluon.errors import UserError
    from igc_gluon.model_zoo.expects import usual_short_side

    if args.network.endswith(".igc"):
        from igc_gluon import deploy

        if args.mean or args.std or args.model or args.option or args.classes is not None or args.dataset:
            raise UserError(f"{args.network} is compiled, with all it needs; leave out what is said about the network")
        net = deploy.load(args.network)
        (channels, height, width), names = net.input_shape, net.class_names
        if channels != 3 or len(net.output_shape) != 1:
            raise UserError(f"{args.network} is no classifier of photographs: {net.input_shape} -> {net.output_shape}")
        short_side = usual_short_side(max(height, width))

        def scores(image):
            return net(net.normalise(image[None]))[0]
    else:
        import mxnet as mx

        net = open_classifier(args)
        names, short_side, height, width = net.classes, net.short_side, net.crop, net.crop
        mean, std = (np.asarray(values, np.float32) for values in (net.mean, net.std))

        def scores(image):
            return net(mx.nd.array(((image - mean) / std).transpose(2, 0, 1)[None])).asnumpy()[0]

    def probabilities(image):
        found = scores(image).astype(np.float64)
        if not np.isfinite(found).all():
            raise UserError(f"{args.network} gives scores that are not finite; it has diverged")
        found = np.exp(found - found.max())
        return found / found.sum()
    return probabilities, names, short_side, height, width
