"""What a network that has weights says of itself, as attributes of it.

model          its name, as `get_model` takes it
preprocessing  what it expects of an image and what its scores mean, see `igc_gluon.data.preprocessing`
classes        the name of each score, as in GluonCV's networks; None where nobody said
classes_long, synset
               of ImageNet's classes also the long names and WordNet's numbers
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple, Union

from mxnet.gluon import HybridBlock

from igc_gluon import symbol_file
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError
from igc_gluon.files import destination, read_text, write_atomically
from igc_gluon.symbol_file import PREPROCESSING

_IMAGENET = 1000


def set_attributes(net: HybridBlock, model: str, preprocessing: Preprocessing) -> HybridBlock:
    """Sets the attributes of `net`, see the module, and returns it.

    Classes that are called by ImageNet's 1000 WordNet numbers, as the folders of its images are, get their names.
    """
    net.classes_long = net.synset = None
    if preprocessing.class_names and len(preprocessing.class_names) == _IMAGENET:
        names = _imagenet()
        if list(preprocessing.class_names) == names.synset:
            net.classes_long, net.synset = names.classes_long, names.synset
            preprocessing = replace(preprocessing, class_names=names.classes)
    net.model, net.preprocessing = model, preprocessing
    net.classes = preprocessing.class_names and list(preprocessing.class_names)
    return net


def wordnet_numbers() -> Tuple[str, ...]:
    """The WordNet numbers of ImageNet's 1000 classes, in their order."""
    return _imagenet().synset


def _imagenet() -> Any:
    from gluoncv.data.imagenet.classification import ImageNet1kAttr  # slow: seconds

    return ImageNet1kAttr()


def class_names(net: HybridBlock) -> Optional[Sequence[str]]:
    """The names of the classes as the folders of their images are called, or None."""
    return net.synset or net.classes


def preprocessing_attribute(net: HybridBlock) -> Dict[str, str]:
    """{name: text} of the attribute that says in a symbol what `net` expects, see `symbol_file`; {} where it is not
    known. Classes are called there as the folders of their images are."""
    expected = getattr(net, "preprocessing", None)
    return {} if expected is None else {PREPROCESSING: replace(expected, class_names=class_names(net)).to_json()}


def write_preprocessing(net: HybridBlock, params: Union[str, Path]) -> None:
    """Writes what `net` expects beside the file of its weights at `params`, to PARAMS.json, since a .params file has no
    place for it. Where it is not known, such a file of other weights goes."""
    if not destination(params)[1]:  # a device or a pipe, /dev/null for example
        return
    for text in preprocessing_attribute(net).values():
        with write_atomically(f"{params}.json", "w") as file:
            file.write(text + "\n")
            return
    Path(f"{params}.json").unlink(missing_ok=True)


def read_preprocessing(params: Path) -> Optional[Preprocessing]:
    """The Preprocessing of the network whose weights are in the file at `params`, a Path: in PARAMS.json beside it, or
    of PREFIX-0095.params in PREFIX-symbol.json; None where there is none. Raises UserError where it is damaged."""
    beside = params.with_name(f"{params.name}.json")
    if beside.is_file():
        try:
            return Preprocessing.from_json(read_text(beside))
        except UserError as error:
            raise UserError(f"{beside}: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {beside}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    match = re.fullmatch(r"(.+)-\d{4,}\.params", params.name, re.DOTALL)
    symbol = match and params.with_name(f"{match[1]}-symbol.json")
    if not symbol or not symbol.is_file():
        return None
    try:
        nodes = symbol_file.load(symbol).nodes
    except UserError:  # of a network that is none of ours; its weights need not be, and will be looked at
        return None
    text = next((node.attributes[PREPROCESSING] for node in nodes if PREPROCESSING in node.attributes), None)
    return Preprocessing.from_json(str(text)) if text else None


def check_normalized(net: HybridBlock) -> None:
    """Raises UserError where it is not known how `net` wants its images normalized."""
    if net.preprocessing.mean is None:
        raise UserError(f"nothing says how {net.model} wants its images normalized; give --dataset or --mean and --std")
