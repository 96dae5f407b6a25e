"""`igc models`"""
HELP = "list the models that get_model knows by the papers' tables"


def add_arguments(parser):
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this")


def run(args):
    from igc_gluon import complexity
    from igc_gluon.errors import UserError
    from igc_gluon.model_zoo import get_model, get_model_list

    names = [name for name in get_model_list() if args.filter.lower() in name]
    if not names:
        raise UserError(f"no model's name contains {args.filter!r}; `igc models` lists them all")
    width = max(map(len, names))
    print(f"{'model':{width}}  {'weights, M':>10}  {'multiply-adds, 10^8':>19}")
    for name in names:
        totals = complexity.totals(get_model(name))
        print(f"{name:{width}}  {totals.weights / 1e6:10.3f}  {totals.multiply_adds / 1e8:19.3f}")
    print(f"{len(names)} models; weights of convolutions and FC, 10 classes, one 32x32 image. Other depths and partitions "
          "work too: see `igc info`.")
