"""`igc models`"""
HELP = "list the models that get_model knows by the papers' tables"


def add_arguments(parser):
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this")


def run(args):
    from igc_gluon import complexity
    from igc_gluon.errors import UserError
    from igc_gluon.model_zoo import find_family, get_model, get_model_list

    names = [name for name in get_model_list() if args.filter.lower() in name]
    if not names:
        raise UserError(f"no model's name contains {args.filter!r}; `igc models` lists them all")
    width = max(map(len, names))
    print(f"{'model':{width}}  {'image':>7}  {'weights, M':>10}  {'multiply-adds, 10^8':>19}")
    for name in names:
        size = find_family(name)[0].input_size
        totals = complexity.totals(get_model(name), (3, size, size))
        print(f"{name:{width}}  {f'{size}x{size}':>7}  {totals.weights / 1e6:10.3f}  {totals.multiply_adds / 1e8:19.3f}")
    print(f"{len(names)} models; weights of convolutions and FC, for 10 classes, or 1000 with images of 224x224. Other "
          "depths and partitions work too: see `igc info`.")
