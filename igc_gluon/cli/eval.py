"""`igc eval NETWORK --data val.rec`, or `--data cifar10`"""
HELP = "top-1 and top-5 accuracy of a network with weights over a record file or the test images of a data set"


def add_arguments(parser):
    from igc_gluon.cli.networks import SOURCE, add_normalisation_arguments, add_params_arguments

    parser.add_argument("network", help=SOURCE)
    parser.add_argument("--data", metavar="FILE.rec", help="as igc data imagenet packs it; or the name of a data set, "
                                                           "fashion-mnist for example (default: that of the weights)")
    parser.add_argument("--data-dir", help="folder of the data set's files (default: downloaded to ~/.mxnet/datasets)")
    parser.add_argument("--gpus", help="GPUs to use, e.g. 0,1 (default: the CPU)")
    parser.add_argument("--batch-size", type=int, default=64, help="over all devices (default: 64)")
    add_params_arguments(parser)
    add_normalisation_arguments(parser)


def run(args):
    import time

    import mxnet as mx
    import numpy as np
    from tqdm import tqdm

    from igc_gluon.cli.networks import open_classifier
    from igc_gluon.engine.devices import contexts
    from igc_gluon.engine.evaluation import evaluate
    from igc_gluon.errors import UserError, printable

    if args.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {args.batch_size}")
    devices = contexts(args.gpus)
    net = open_classifier(args)
    net.collect_params().reset_ctx(devices)
    net.hybridize(static_alloc=True)
    expected = net.preprocessing
    classes = net(mx.nd.zeros((1, *expected.image_shape), ctx=devices[0])).shape[1]
    name, images, batches = _batches(args, net, classes)

    def predict(images):
        pieces = [piece for piece in np.array_split(images, len(devices)) if len(piece)]
        outputs = [net(mx.nd.array(piece, ctx=device)) for device, piece in zip(devices, pieces)]
        return np.concatenate([output.asnumpy() for output in outputs])

    begin = time.monotonic()
    with tqdm(total=images, unit=" images", dynamic_ncols=True, desc=net.model, leave=False) as bar:
        found = evaluate(predict, batches, lambda seen: bar.update(seen - bar.n))
    seconds = time.monotonic() - begin
    print(f"""{printable(args.network)} ({net.model}) on {printable(name)}: {found.images:,} images
  top-1          {100 * found.accuracy:.2f} %
  top-5          {100 * found.top5:.2f} %
  cross-entropy  {found.loss:.4f}
  {seconds:.1f} s, {found.images / max(seconds, 1e-9):,.0f} images/s; {expected}""")


def _batches(args, net, classes):
    """(what is evaluated on, number of its images, batches of them). Raises UserError."""
    from igc_gluon.data import DATASETS, Batches, load
    from igc_gluon.data.classes import check_same_classes
    from igc_gluon.engine.inputs import RecordInput
    from igc_gluon.errors import UserError
    from igc_gluon.model_zoo.attributes import class_names

    name, expected, names = args.data or getattr(net, "dataset", None), net.preprocessing, class_names(net)
    if name is None:
        raise UserError(f"nothing says what {net.model} was trained on; give --data, a record file or the name of a data "
                        "set")
    if name.lower() not in DATASETS:
        if args.data_dir:
            raise UserError("--data-dir is the folder of a data set; --data gives the whole path of a record file")
        data = RecordInput(None, name, expected, classes)
        data.compare_classes(names, classes, net.model)
        data.prepare()
        return name, data.test_images, data.evaluation(args.batch_size)
    info = DATASETS[name.lower()]
    if (info.size, info.size) != expected.crop:
        raise UserError(f"{net.model} takes images of {'x'.join(map(str, expected.crop))} pixels, {info.name} has "
                        f"{info.size}x{info.size}")
    if info.classes != classes:
        raise UserError(f"{info.name} has {info.classes} classes, {net.model} {classes}")
    if names and info.class_names:
        check_same_classes(info.class_names, names, info.name, net.model)
    test = load(info.name, "test", args.data_dir)
    return (f"the test images of {info.name}", len(test.labels),
            Batches(*test, args.batch_size, expected.mean, expected.std, train=False))
