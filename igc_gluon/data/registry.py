"""The table of data sets: what they are, the constants they are trained with, their official files.

Constants are those of the authors' code (IGCV1); sizes and splits are those of the papers, section 5.1 of
IGCV1 and section 4.1 of IGCV2.
"""
from dataclasses import dataclass
from typing import Optional, Tuple

from igc_gluon.errors import UserError


# Per channel R, G, B, of pixels 0..255.
IMAGENET_MEAN, IMAGENET_STD = (123.370, 112.757, 99.406), (68.998, 66.093, 68.292)


@dataclass(frozen=True)
class Source:
    """One place to download a file from, and the digest of what lies there (see igc_gluon.files.digest)."""
    url: str
    algorithm: str
    digest: str


@dataclass(frozen=True)
class Archive:
    """A file that a data set is read from. Its sources hold the same images, perhaps packed differently."""
    name: str
    splits: Tuple[str, ...]
    sources: Tuple[Source, ...]


@dataclass(frozen=True)
class Dataset:
    """One data set of square RGB images."""
    name: str
    classes: int
    mean: Tuple[float, float, float]  # per channel R, G, B, of pixels 0..255, over the training images
    std: Tuple[float, float, float]
    train_size: int  # of the official files; what is loaded is as large as the files at hand
    test_size: int
    mirror: bool  # whether a mirrored image is still of its class
    augment: bool  # whether it is trained with random crops
    size: int = 32  # height and width
    short_side: Optional[Tuple[int, int]] = None  # it gets a random length from..to before the crop, unpadded
    splits: Tuple[str, ...] = ("train", "test")
    class_names: Optional[Tuple[str, ...]] = None
    archives: Tuple[Archive, ...] = ()

    @property
    def pads(self):
        """Whether its images are padded before the random crop."""
        return self.augment and not self.short_side


def _cifar(file, toronto_sha256, mxnet_path, mxnet_sha1):
    return (Archive(file, ("train", "test"), (
        Source(f"https://www.cs.toronto.edu/~kriz/{file}", "sha256", toronto_sha256),
        # MXNet's own copy: the same .bin files without the folder around them, so another digest.
        Source("https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/"
               f"{mxnet_path}/{file}", "sha1", mxnet_sha1))),)


def _svhn(file, splits, sha256):
    # The official address is plain HTTP, so the md5 sums that others check would not do.
    url = f"http://ufldl.stanford.edu/housenumbers/{file}"
    return Archive(file, splits, (Source(url, "sha256", sha256),))


DIGITS = tuple("0123456789")

DATASETS = {dataset.name: dataset for dataset in (
    Dataset("cifar10", classes=10, mean=(125.307, 122.950, 113.865), std=(62.993, 62.089, 66.705),
            train_size=50000, test_size=10000, mirror=True, augment=True, class_names=(
                "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            archives=_cifar(
                "cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                "cifar10", "fab780a1e191a7eda0f345501ccd62d20f7ed891")),
    Dataset("cifar100", classes=100, mean=(129.304, 124.070, 112.434), std=(68.170, 65.392, 70.418),
            train_size=50000, test_size=10000, mirror=True, augment=True, archives=_cifar(
                "cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                "cifar100", "a0bb982c76b83111308126cc779a992fa506b90b")),
    # 73,257 + 531,131 images less the 6,000 held out; the authors' code counts all 604,388.
    Dataset("svhn", classes=10, mean=(111.609, 113.161, 120.565), std=(50.498, 51.259, 50.244),
            train_size=598388, test_size=26032, mirror=False, augment=False,
            splits=("train", "validation", "test"), class_names=DIGITS, archives=(
                _svhn("train_32x32.mat", ("train", "validation"),
                      "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
                _svhn("extra_32x32.mat", ("train", "validation"),
                      "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3"),
                _svhn("test_32x32.mat", ("test",),
                      "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"))),
    # IGCV2, section 4.1, normalises by constants that it does not print. These are the authors' for ImageNet,
    # of which this is a part; they have not been measured on it.
    Dataset("tiny-imagenet", classes=200, mean=IMAGENET_MEAN, std=IMAGENET_STD,
            train_size=100000, test_size=10000, mirror=True, augment=True, size=64, short_side=(64, 80),
            archives=(Archive("tiny-imagenet-200.zip", ("train", "test"), (
                Source("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "sha256",
                       "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"),)),)),
    Dataset("digits", classes=10, mean=(77.866, 77.866, 77.866), std=(82.586, 82.586, 82.586),
            train_size=1437, test_size=360, mirror=False, augment=True, class_names=DIGITS),
)}


def find_dataset(name):
    """The row of DATASETS for `name`, case-insensitive. Raises UserError with the names that exist."""
    try:
        return DATASETS[name.lower()]
    except KeyError:
        raise UserError(f"there is no data set {name!r}; there are {', '.join(DATASETS)}") from None
