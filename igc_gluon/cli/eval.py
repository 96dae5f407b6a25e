"""`igc eval NETWORK --data val.rec`"""
HELP = "top-1 and top-5 accuracy of a network with weights over a record file"


def add_arguments(parser):
    from igc_gluon.cli.networks import SOURCE, add_params_arguments

    parser.add_argument("network", help=SOURCE)
    parser.add_argument("--data", required=True, metavar="FILE.rec", help="as igc data imagenet packs it")
    parser.add_argument("--gpus", help="GPUs to use, e.g. 0,1 (default: the CPU)")
    parser.add_argument("--batch-size", type=int, default=64, help="over all devices (default: 64)")
    add_params_arguments(parser)


def run(args):
    import time

    import mxnet as mx
    import numpy as np
    from tqdm import tqdm

    from igc_gluon.cli.networks import open_source
    from igc_gluon.engine.devices import contexts
    from igc_gluon.engine.evaluation import evaluate
    from igc_gluon.engine.inputs import RecordInput
    from igc_gluon.errors import UserError
    from igc_gluon.model_zoo.expects import image_shape, preprocessing

    if args.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {args.batch_size}")
    devices = contexts(args.gpus)
    net = open_source(args)
    net.collect_params().reset_ctx(devices)
    net.hybridize(static_alloc=True)
    mean, std = preprocessing(net)
    shape = image_shape(net)
    classes = net(mx.nd.zeros((1, *shape), ctx=devices[0])).shape[1]
    data = RecordInput(None, args.data, shape, mean, std, classes, short_side=net.short_side)
    data.prepare()
    batches = data.evaluation(args.batch_size)

    def predict(images):
        pieces = [piece for piece in np.array_split(images, len(devices)) if len(piece)]
        outputs = [net(mx.nd.array(piece, ctx=device)) for device, piece in zip(devices, pieces)]
        return np.concatenate([output.asnumpy() for output in outputs])

    begin = time.monotonic()
    with tqdm(total=data.test_images, unit=" images", dynamic_ncols=True, desc=net.model, leave=False) as bar:
        found = evaluate(predict, batches, lambda seen: bar.update(seen - bar.n))
    seconds = time.monotonic() - begin
    print(f"""{args.network} ({net.model}) on {args.data}: {found.images:,} images
  top-1          {100 * found.accuracy:.2f} %
  top-5          {100 * found.top5:.2f} %
  cross-entropy  {found.loss:.4f}
  {seconds:.1f} s, {found.images / max(seconds, 1e-9):,.0f} images/s; short side {net.short_side}, central \
{shape[1]}x{shape[2]}""")
