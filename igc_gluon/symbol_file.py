"""MXNet's symbol JSON (`prefix-symbol.json`), read without MXNet.

Such files come from strangers, and MXNet believes what stands in them: an index out of range ends the process. Here
every index, size and attribute is checked before it is used, and only the operators of image classifiers are known.

Three generations of the format are read: attributes under "param" (before NNVM, with implicit moving statistics of
BatchNorm, and with the authors' operator `Reorder`), "attr", and "attrs".
"""

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from igc_gluon.errors import UserError
from igc_gluon.files import open_file
from igc_gluon.paths import expand

MAX_BYTES = 16 << 20
MAX_NODES = 10000
MAX_TEXT = 256  # characters of a name or an attribute
MAX_CHANNELS = 1 << 20
MAX_SIDE = 1 << 12  # of a kernel, in pixels


# The attribute of a network's input that holds what it expects of an image, `Preprocessing.to_json`.
PREPROCESSING = "__preprocessing__"


class Node(NamedTuple):
    """An operator or, where `op` is "null", an array, whose only attribute may be PREPROCESSING. `inputs`: numbers of
    nodes, all of them smaller than its own."""

    op: str
    name: str
    attributes: Dict[str, Any]
    inputs: Tuple[int, ...]


class Graph(NamedTuple):
    """`nodes` in an order of execution; `head` is the number of the one whose result is the graph's."""

    nodes: List[Node]
    head: int


Kind = Callable[[str], Any]  # of an attribute: takes the text and returns the value, or raises ValueError


def _whole(least: int, largest: int) -> Kind:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[-+]?\d{1,10}", text):
            raise ValueError("a whole number")
        if not least <= int(text) <= largest:
            raise ValueError(f"a whole number from {least} to {largest}")
        return int(text)

    return parse


def _pair(least: int) -> Kind:
    """One number for each of two axes."""
    axes = _numbers(least, MAX_SIDE, 2)

    def parse(text: str) -> Optional[Tuple[int, ...]]:
        values = axes(text)
        if len(values) not in (0, 2):  # () is MXNet's way to write the default
            raise ValueError("two whole numbers")
        return values or None

    return parse


def _numbers(least: int, largest: int, most: int) -> Kind:
    number = _whole(least, largest)

    def parse(text: str) -> Tuple[int, ...]:
        parts = [part.strip() for part in text.strip().strip("()[]").split(",") if part.strip()]
        if len(parts) > most:
            raise ValueError(f"at most {most} whole numbers")
        return tuple(number(part.rstrip("lL")) for part in parts)

    return parse


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) <= 1e30:
        raise ValueError("a number")
    return value


def _flag(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError("True or False") from None


def _word(*words: str) -> Kind:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(" or ".join(words))
        return text

    return parse


class _Operator(NamedTuple):
    """name: what it is called in the Graph; data: how many inputs, arrays: names of the parameters that follow them;
    required, optional: {attribute: kind} and {attribute: (kind, default)}. What changes no result may be left out by
    the kind None; it is then not in the Graph."""

    name: str
    data: Tuple[int, ...]
    arrays: Tuple[str, ...] = ()
    required: dict = {}
    optional: dict = {}


_CHANNELS = _whole(1, MAX_CHANNELS)
_LAYOUT = (_word("None", "NCHW"), "NCHW")
_ADD = _Operator("add", (2,))
_RESHAPE = _Operator(
    "Reshape", (1,), required={"shape": _numbers(-4, 1 << 30, 8)}, optional={"reverse": (_word("False", "0"), False)}
)
_SWAP = _Operator("SwapAxis", (1,), optional={"dim1": (_whole(0, 7), 0), "dim2": (_whole(0, 7), 0)})
_FLATTEN = _Operator("Flatten", (1,))
_SOFTMAX = _Operator(
    "SoftmaxOutput",
    (1, 2),
    optional=dict.fromkeys(
        "grad_scale ignore_label multi_output use_ignore preserve_shape normalization out_grad smooth_alpha".split(),
        None,
    ),
)

OPERATORS = {
    "Convolution": _Operator(
        "Convolution",
        (1,),
        ("weight", "bias"),
        {"num_filter": _CHANNELS, "kernel": _pair(1)},
        {
            "stride": (_pair(1), (1, 1)),
            "pad": (_pair(0), (0, 0)),
            "dilate": (_pair(1), (1, 1)),
            "num_group": (_CHANNELS, 1),
            "no_bias": (_flag, False),
            "layout": _LAYOUT,
            "workspace": None,
            "cudnn_tune": None,
            "cudnn_off": None,
        },
    ),
    "BatchNorm": _Operator(
        "BatchNorm",
        (1,),
        ("gamma", "beta", "moving_mean", "moving_var"),
        optional={
            "eps": (_number, 1e-3),
            "momentum": (_number, 0.9),
            "fix_gamma": (_flag, True),
            "use_global_stats": (_flag, False),
            "axis": (_word("1"), "1"),
            "output_mean_var": (_word("False", "0"), "False"),
            "cudnn_off": None,
        },
    ),
    "Activation": _Operator(
        "Activation", (1,), required={"act_type": _word("relu", "sigmoid", "tanh", "softrelu", "softsign")}
    ),
    "clip": _Operator("clip", (1,), required={"a_min": _number, "a_max": _number}),
    "Pooling": _Operator(
        "Pooling",
        (1,),
        optional={
            "pool_type": (_word("max", "avg"), "max"),
            "kernel": (_pair(1), None),
            "stride": (_pair(1), (1, 1)),
            "pad": (_pair(0), (0, 0)),
            "global_pool": (_flag, False),
            "pooling_convention": (_word("valid", "full"), "valid"),
            "count_include_pad": (_word("True", "False", "1", "0", "None"), "True"),
            "layout": _LAYOUT,
            "cudnn_off": None,
            "p_value": None,
        },
    ),
    "Reorder": _Operator("Reorder", (1,), required={"branch_factor": _CHANNELS}, optional={"workspace": None}),
    "FullyConnected": _Operator(
        "FullyConnected",
        (1,),
        ("weight", "bias"),
        {"num_hidden": _CHANNELS},
        {"no_bias": (_flag, False), "flatten": (_word("True", "1"), "True")},
    ),
    "sum": _Operator(
        "sum",
        (1,),
        required={"axis": _numbers(0, 7, 1)},
        optional={"keepdims": (_flag, False), "exclude": (_word("False", "0"), "False")},
    ),
    "Dropout": _Operator(
        "Dropout",
        (1,),
        optional={"p": (_number, 0.5), "mode": (_word("training"), "training"), "axes": None, "cudnn_off": None},
    ),
    "Reshape": _RESHAPE,
    "reshape": _RESHAPE,
    "SwapAxis": _SWAP,
    "swapaxes": _SWAP,
    "Flatten": _FLATTEN,
    "flatten": _FLATTEN,
    "SoftmaxOutput": _SOFTMAX,
    "Softmax": _SOFTMAX,
    "_Plus": _ADD,
    "_plus": _ADD,
    "elemwise_add": _ADD,
    "_copy": _Operator("identity", (1,)),
    "identity": _Operator("identity", (1,)),
}


def load(path: Union[str, Path]) -> Graph:
    """The Graph of the file at `path`. Raises UserError, which names the file and what is wrong in it."""
    try:
        with open_file(expand(path)) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        return loads(data)
    except UserError as error:
        raise UserError(f"{path} is no symbol that can be read here: {error}") from None


def loads(data: bytes) -> Graph:
    """The Graph of the bytes of a symbol file. Raises UserError where they are not one."""
    if len(data) > MAX_BYTES:
        raise UserError(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        document = json.loads(data.decode("utf-8"), parse_int=_small_integer)
    except RecursionError:
        raise UserError("it is nested too deeply") from None
    except ValueError:  # also of what is not UTF-8
        raise UserError("it is not JSON") from None
    entries = document.get("nodes") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_NODES:
        raise UserError(f"it has no list of 1 to {MAX_NODES} nodes")
    nodes: List[Node] = []
    for entry in entries:
        nodes.append(_node(entry, nodes))
    names = [node.name for node in nodes if node.op == "null"]
    if len(set(names)) != len(names):
        raise UserError("two of its arrays have the same name")
    heads = document.get("heads")
    if not isinstance(heads, list) or len(heads) != 1:
        raise UserError("it does not have one result")
    return Graph(nodes, _reference(heads[0], len(nodes), "its result"))


def _small_integer(text: str) -> int:
    if len(text) > 18:
        raise ValueError("too large a number")
    return int(text)


def _node(entry: Any, before: Sequence[Node]) -> Node:
    """The Node of a JSON object; `before` are the nodes that it may read."""
    if not isinstance(entry, dict) or not _is_text(entry.get("op")) or not _is_text(entry.get("name")):
        raise UserError(f"node {len(before)} has no name or no operator")
    op, name, inputs = entry["op"], entry["name"], entry.get("inputs")
    if not isinstance(inputs, list):
        raise UserError(f"{name} has no list of inputs")
    inputs = tuple(_reference(i, len(before), f"{name}'s input") for i in inputs)
    if op == "null":
        if inputs:
            raise UserError(f"{name} is an array and has inputs")
        texts: Any = next((entry[key] for key in ("attrs", "attr") if isinstance(entry.get(key), dict)), {})
        text = texts.get(PREPROCESSING)
        return Node(op, name, {PREPROCESSING: text} if isinstance(text, str) else {}, ())
    if op not in OPERATORS:
        raise UserError(f"{name} is a {op}, an operator that is not known here")
    operator = OPERATORS[op]
    texts = next((entry[key] for key in ("param", "attrs", "attr") if entry.get(key)), {})
    attributes = _attributes(name, operator, texts)
    _check_inputs(name, operator, attributes, inputs, before)
    return Node(operator.name, name, attributes, inputs)


def _reference(reference: Any, limit: int, what: str) -> int:
    """The number in [number, output] or [number, output, version]."""
    if (
        not isinstance(reference, list)
        or len(reference) not in (2, 3)
        or any(type(number) is not int for number in reference)
        or not 0 <= reference[0] < limit
    ):
        raise UserError(f"{what} is not the number of a node before it")
    if reference[1] != 0:
        raise UserError(f"{what} is a node's second result, which is not known here")
    return reference[0]


def _attributes(name: str, operator: _Operator, texts: Any) -> Dict[str, Any]:
    if not isinstance(texts, dict) or not all(
        _is_text(key) and (text == "" or _is_text(text)) for key, text in texts.items()
    ):
        raise UserError(f"{name}'s attributes are not texts of at most {MAX_TEXT} characters")
    values = {key: default for key, (_, default) in ((key, rule) for key, rule in operator.optional.items() if rule)}
    for key, text in texts.items():
        kind = _kind(name, operator, key)
        if kind is None:
            continue
        try:
            value = kind(text)
        except ValueError as error:
            reason = "a number" if kind is _number else error
            raise UserError(f"{key} of {name} must be {reason}, not {text}") from None
        if value is not None or key in operator.required:
            values[key] = value
    missing = [key for key in operator.required if values.get(key) is None]
    if missing:
        raise UserError(f"{name} has no attribute {missing[0]}")
    if operator.name == "Pooling" and values["kernel"] is None and not values["global_pool"]:
        raise UserError(f"{name} has no attribute kernel")
    return values


def _kind(name: str, operator: _Operator, key: str) -> Optional[Kind]:
    """What makes a value of the text of an attribute; None of one that tells nothing."""
    if key in operator.required:
        return operator.required[key]
    if key in operator.optional:
        rule = operator.optional[key]
        return rule and rule[0]
    if key.startswith("__") or key in ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage"):
        return None
    raise UserError(f"{name} has the attribute {key}, which a {operator.name} does not have here")


def _check_inputs(
    name: str, operator: _Operator, attributes: Mapping[str, Any], inputs: Sequence[int], before: Sequence[Node]
) -> None:
    """Raises UserError unless the inputs are data, then the operator's parameters."""
    arrays = [part for part in operator.arrays if not (part == "bias" and attributes["no_bias"])]
    numbers = {count + len(arrays) for count in operator.data}
    if operator.name == "BatchNorm":
        numbers.add(3)  # before NNVM the moving statistics were implicit
    if len(inputs) not in numbers:
        raise UserError(
            f"{name}, a {operator.name}, has {len(inputs)} inputs, not {' or '.join(map(str, sorted(numbers)))}"
        )
    for number in inputs[max(operator.data) if arrays else len(inputs) :]:
        if before[number].op != "null":
            raise UserError(f"{name} takes the result of {before[number].name} for a parameter")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()
