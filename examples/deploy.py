"""A trained network in one file, which runs without MXNet, in Python here and in C by examples/classify.c.

python examples/deploy.py net.igc image.png
"""

import argparse

import igc_gluon


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", help="file.igc")
    parser.add_argument("photo", nargs="*", help="images to name the class of")
    args = parser.parse_args(argv)

    # Where it was trained: this one came with the package; `igc compile RUN net.igc` does it with a run of yours.
    net = igc_gluon.get_model("cifar_plain_igc8_l24m2", pretrained="fashion-mnist")
    igc_gluon.deploy.compile(net).save(args.output)

    # Where it is used: needs NumPy, OpenCV and the kernels. The file says how a photograph becomes an image for it.
    loaded = igc_gluon.deploy.load(args.output)
    for path in args.photo:
        for name, probability in loaded.classify(path, top=3):
            print(f"{path}: {100 * probability:6.2f} %  {name}")


if __name__ == "__main__":
    main()
