"""`igc models`"""

import numpy as np

from igc_gluon.cli.network_flags import add_import_argument
from igc_gluon.errors import UserError


def add_arguments(parser):
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this")
    parser.add_argument("--pretrained", action="store_true", help="those with weights, and what they reach")
    add_import_argument(parser)


def run(args):
    return _pretrained(args) if args.pretrained else _all(args)


def _pretrained(args):
    # slow: MXNet
    from igc_gluon.model_zoo.gluoncv2 import RELEASES
    from igc_gluon.model_zoo.published import PUBLISHED
    from igc_gluon.model_zoo.shipped import shipped

    rows = [
        (
            row.model,
            row.dataset,
            f"{row.accuracy:.2f}",
            _spread(row.seeds),
            f"{row.epochs}",
            f"{row.path.stat().st_size / 1e6:.2f} MB",
        )
        for row in shipped().values()
        if args.filter.lower() in row.model
    ]
    rows += [
        (name, "imagenet", "-", "-", "-", "to be downloaded from the authors")
        for name in PUBLISHED
        if args.filter.lower() in name
    ]
    rows += [
        (name, "imagenet", f"{100 - row.top1:.2f}", "-", "-", "to be downloaded from gluoncv2")
        for name, row in RELEASES.items()
        if args.filter.lower() in name
    ]
    if not rows:
        raise UserError(
            f"no model with weights has {args.filter!r} in its name; `igc models --pretrained` lists them all"
        )
    head = ("model", "trained on", "accuracy, %", "of seeds", "epochs", "size")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
    print(
        "accuracy: of these weights, over the test images; of seeds: mean, standard deviation and number of all that "
        'were trained.\nget_model(NAME, pretrained="fashion-mnist"), igc eval NAME --dataset fashion-mnist; '
        'of imagenet pretrained=True, of gluoncv2 pretrained="gluoncv2" with the accuracy that is published there.'
    )


def _spread(accuracies):
    if len(accuracies) == 1:
        return "(1)"
    return f"{np.mean(accuracies):.2f} +- {np.std(accuracies, ddof=1):.2f} ({len(accuracies)})"


def _all(args):
    # slow: MXNet
    from igc_gluon import complexity
    from igc_gluon.model_zoo import find_family, get_model, get_model_list

    names = [name for name in get_model_list() if args.filter.lower() in name]
    if not names:
        raise UserError(f"no model's name contains {args.filter!r}; `igc models` lists them all")
    width = max(map(len, names))
    print(f"{'model':{width}}  {'image':>7}  {'weights, M':>10}  {'multiply-adds, 10^8':>19}")
    for name in names:
        size = find_family(name)[0].input_size
        totals = complexity.totals(get_model(name), (3, size, size))
        print(
            f"{name:{width}}  {f'{size}x{size}':>7}  {totals.weights / 1e6:10.3f}  {totals.multiply_adds / 1e8:19.3f}"
        )
    print(
        f"{len(names)} models; weights of convolutions and FC, for 10 classes, or 1000 with images of 224x224. Other "
        "depths and partitions work too: see `igc info`."
    )
