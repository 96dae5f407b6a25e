"""The table of data sets: what they are, the constants they are trained with, their official files.

Constants are those of the authors' code (IGCV1); sizes and splits are those of the papers, section 5.1 of
IGCV1 and section 4.1 of IGCV2.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

from igc_gluon.data import cifar, digits, idx, svhn, tiny_imagenet
from igc_gluon.data.images import Images
from igc_gluon.data.preprocessing import Preprocessing
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
    debian_sha256: Optional[str] = None  # of the file in Debian's package, which is packed differently too
    most: int = 1 << 28  # bytes that a download may have


@dataclass(frozen=True)
class Dataset:
    """One data set of square RGB images.

    read(row, split, paths of its archives) gives the images of one split. read_unpacked(DatasetFiles, split) the same
    from what lies in the archives, or None where none of it is there.
    """

    name: str
    classes: int
    mean: Tuple[float, float, float]  # per channel R, G, B, of pixels 0..255, over the training images
    std: Tuple[float, float, float]
    train_size: int  # of the official files; what is loaded is as large as the files at hand
    test_size: int
    mirror: bool  # whether a mirrored image is still of its class
    augment: bool  # whether it is trained with random crops
    read: Callable[["Dataset", str, List[Path]], Images]
    read_unpacked: Optional[Callable[[Any, str], Optional[Images]]] = None
    size: int = 32  # height and width
    border: int = 0  # black pixels on each side, which the images in its files have not
    short_side: Optional[Tuple[int, int]] = None  # it gets a random length from..to before the crop, unpadded
    splits: Tuple[str, ...] = ("train", "test")
    class_names: Optional[Tuple[str, ...]] = None
    archives: Tuple[Archive, ...] = ()
    debian: Optional[str] = None  # a package of Debian that holds the archives

    @property
    def preprocessing(self) -> Preprocessing:
        """What a network that was trained on it expects."""
        return Preprocessing(
            (self.size, self.size), mean=self.mean, std=self.std, class_names=self.class_names, border=self.border
        )

    @property
    def pads(self) -> bool:
        """Whether its images are padded before the random crop."""
        return self.augment and not self.short_side


_MXNET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset"
_IDX_FILES = (
    ("train-images-idx3-ubyte.gz", "train"),
    ("train-labels-idx1-ubyte.gz", "train"),
    ("t10k-images-idx3-ubyte.gz", "test"),
    ("t10k-labels-idx1-ubyte.gz", "test"),
)


def _cifar(file: str, toronto_sha256: str, mxnet_path: str, mxnet_sha1: str) -> Tuple[Archive, ...]:
    return (
        Archive(
            file,
            ("train", "test"),
            (
                Source(f"https://www.cs.toronto.edu/~kriz/{file}", "sha256", toronto_sha256),
                # MXNet's own copy: the same .bin files without the folder around them, so another digest.
                Source(f"{_MXNET}/{mxnet_path}/{file}", "sha1", mxnet_sha1),
            ),
        ),
    )


def _svhn(file: str, splits: Tuple[str, ...], sha256: str) -> Archive:
    # The official address is plain HTTP, so the md5 sums that others check would not do.
    url = f"http://ufldl.stanford.edu/housenumbers/{file}"
    return Archive(file, splits, (Source(url, "sha256", sha256),), most=1 << 31)


def _idx(
    official: str,
    sha256: Tuple[str, ...],
    mxnet: Optional[str] = None,
    mxnet_sha1: Tuple[Optional[str], ...] = (None,) * 4,
    debian_sha256: Tuple[Optional[str], ...] = (None,) * 4,
) -> Tuple[Archive, ...]:
    """The images and labels of each split, with a digest for each: of the file at `official`, of MXNet's copy in its
    folder `mxnet`, of the one in Debian's package."""
    archives = []
    for (file, split), of_official, of_mxnet, of_debian in zip(_IDX_FILES, sha256, mxnet_sha1, debian_sha256):
        copy = (Source(f"{_MXNET}/{mxnet}/{file}", "sha1", of_mxnet),) if of_mxnet else ()
        archives.append(Archive(file, (split,), (Source(official + file, "sha256", of_official),) + copy, of_debian))
    return tuple(archives)


DIGITS = tuple("0123456789")


def _mnist_like(name: str, mean: float, std: float, archives: Tuple[Archive, ...], **facts: Any) -> Dataset:
    """Gray images of 28x28 pixels within a black border, for networks of 32x32; mean, std: of all 32x32 pixels."""
    return Dataset(
        name,
        classes=10,
        mean=(mean,) * 3,
        std=(std,) * 3,
        train_size=60000,
        test_size=10000,
        augment=True,
        read=idx.read,
        border=2,
        archives=archives,
        **facts,
    )


def _cifar_like(
    name: str, classes: int, mean: Tuple, std: Tuple, archives: Tuple[Archive, ...], **facts: Any
) -> Dataset:
    return Dataset(
        name,
        classes=classes,
        mean=mean,
        std=std,
        train_size=50000,
        test_size=10000,
        mirror=True,
        augment=True,
        read=cifar.read,
        read_unpacked=cifar.read_unpacked,
        archives=archives,
        **facts,
    )


DATASETS = {
    dataset.name: dataset
    for dataset in (
        _cifar_like(
            "cifar10",
            classes=10,
            mean=(125.307, 122.950, 113.865),
            std=(62.993, 62.089, 66.705),
            class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            archives=_cifar(
                "cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                "cifar10",
                "fab780a1e191a7eda0f345501ccd62d20f7ed891",
            ),
        ),
        _cifar_like(
            "cifar100",
            classes=100,
            mean=(129.304, 124.070, 112.434),
            std=(68.170, 65.392, 70.418),
            archives=_cifar(
                "cifar-100-binary.tar.gz",
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                "cifar100",
                "a0bb982c76b83111308126cc779a992fa506b90b",
            ),
        ),
        # 73,257 + 531,131 images less the 6,000 held out; the authors' code counts all 604,388.
        Dataset(
            "svhn",
            classes=10,
            mean=(111.609, 113.161, 120.565),
            std=(50.498, 51.259, 50.244),
            train_size=598388,
            test_size=26032,
            mirror=False,
            augment=False,
            read=svhn.read,
            splits=("train", "validation", "test"),
            class_names=DIGITS,
            archives=(
                _svhn(
                    "train_32x32.mat",
                    ("train", "validation"),
                    "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
                ),
                _svhn(
                    "extra_32x32.mat",
                    ("train", "validation"),
                    "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
                ),
                _svhn("test_32x32.mat", ("test",), "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
            ),
        ),
        # IGCV2, section 4.1, normalizes by constants that it does not print. These are the authors' for ImageNet,
        # of which this is a part; they have not been measured on it.
        Dataset(
            "tiny-imagenet",
            classes=200,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            train_size=100000,
            test_size=10000,
            mirror=True,
            augment=True,
            read=tiny_imagenet.read,
            read_unpacked=tiny_imagenet.read_unpacked,
            size=64,
            short_side=(64, 80),
            archives=(
                Archive(
                    "tiny-imagenet-200.zip",
                    ("train", "test"),
                    (
                        Source(
                            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                            "sha256",
                            "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
                        ),
                    ),
                ),
            ),
        ),
        Dataset(
            "digits",
            classes=10,
            mean=(77.866, 77.866, 77.866),
            std=(82.586, 82.586, 82.586),
            train_size=1437,
            test_size=360,
            mirror=False,
            augment=True,
            read=digits.read,
            class_names=DIGITS,
        ),
        # Fashion-MNIST's constants were measured here; MNIST's and Kuzushiji-MNIST's follow from what is published of
        # their 28x28 pixels, 33.31842 and 78.56749, and 0.1918 * 255 and 0.3483 * 255.
        _mnist_like(
            "fashion-mnist",
            mean=55.845,
            std=84.612,
            mirror=True,
            debian="dataset-fashion-mnist",
            class_names=(
                "T-shirt/top",
                "trouser",
                "pullover",
                "dress",
                "coat",
                "sandal",
                "shirt",
                "sneaker",
                "bag",
                "ankle boot",
            ),
            archives=_idx(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                (
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ),
                "fashion-mnist",
                (
                    "0cf37b0d40ed5169c6b3aba31069a9770ac9043d",
                    "236021d52f1e40852b06a4c3008d8de8aef1e40b",
                    "626ed6a7c06dd17c0eec72fa3be1740f146a2863",
                    "17f9ab60e7257a1620f4ad76bbbaf857c3920701",
                ),
                (
                    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                ),
            ),
        ),
        _mnist_like(
            "mnist",
            mean=25.509,
            std=70.180,
            mirror=False,
            class_names=DIGITS,
            archives=_idx(
                "http://yann.lecun.com/exdb/mnist/",
                (
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
                "mnist",
                (
                    "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
                    "2a80914081dc54586dbdf242f9805a6b8d2a15fc",
                    "c3a25af1f52dad7f726cce8cacb138654b760d48",
                    "763e7fa3757d93b0cdec073cef058b2004252c17",
                ),
            ),
        ),
        _mnist_like(
            "kmnist",
            mean=37.45,
            std=80.43,
            mirror=False,
            class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            archives=_idx(
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
                (
                    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                    "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
                ),
            ),
        ),
    )
}


def find_dataset(name: str) -> Dataset:
    """The row of DATASETS for `name`, case-insensitive. Raises UserError with the names that exist."""
    try:
        return DATASETS[name.lower()]
    except KeyError:
        raise UserError(f"there is no data set {name!r}; there are {', '.join(DATASETS)}") from None
