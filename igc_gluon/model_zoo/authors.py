"""Parameters and symbols in the authors' form (Module API), to and from Gluon: the one place of this conversion.

The Gluon networks name their parameters as the authors' symbols do, but for the running statistics of BN, which Gluon
calls `running_mean`, `running_var` and the Module API `moving_mean`, `moving_var`, and keeps as auxiliary states.
"""

import hashlib
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon import params_file
from igc_gluon.errors import UserError
from igc_gluon.files import write_atomically
from igc_gluon.graph import json_of
from igc_gluon.model_zoo.attributes import preprocessing_attribute, write_preprocessing

_GLUON_TO_AUTHORS = {"_running_mean": "_moving_mean", "_running_var": "_moving_var"}


def authors_name(gluon_name: str) -> str:
    """`g0_bn_running_mean` -> `g0_bn_moving_mean`; other names stay."""
    for ours, theirs in _GLUON_TO_AUTHORS.items():
        if gluon_name.endswith(ours):
            return gluon_name[: -len(ours)] + theirs
    return gluon_name


def to_module_params(net: HybridBlock) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """(arg_params, aux_params) of `net` under the authors' names: dicts of NDArray on CPU, for `mx.mod.Module`."""
    arg_params: Dict[str, Any] = {}
    aux_params: Dict[str, Any] = {}
    for name, parameter in net.collect_params().items():
        name_there = authors_name(name[len(net.prefix) :])
        (aux_params if name_there != name[len(net.prefix) :] else arg_params)[name_there] = parameter.data(
            parameter.list_ctx()[0]
        ).as_in_context(mx.cpu())
    return arg_params, aux_params


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """16 hexadecimal digits of the SHA-256 of arrays and their names, in whatever order they come."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        state.update(f"{name} {arrays[name].shape}\n".encode())
        state.update(np.ascontiguousarray(arrays[name]).tobytes())
    return state.hexdigest()[:16]


def arrays_of(net: HybridBlock) -> Dict[str, np.ndarray]:
    """The values of the parameters of `net`, by the authors' names."""
    return {
        authors_name(p.name[len(net.prefix) :]): p.data(p.list_ctx()[0]).asnumpy()
        for p in net.collect_params().values()
    }


def check_parameters(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises UserError, which names all that is missing, left over or of another shape, unless `given` fits `wanted`.

    Both are dicts of name to what has a shape.
    """
    problems = (
        [f"missing {name}" for name in wanted if name not in given]
        + [f"left over {name}" for name in given if name not in wanted]
        + [
            f"{name} is {tuple(given[name].shape)}, not {tuple(p.shape)}"
            for name, p in wanted.items()
            if name in given and tuple(given[name].shape) != tuple(p.shape)
        ]
    )
    if problems:
        raise UserError("these parameters are not this network's: " + "; ".join(problems))


def from_module_params(
    net: HybridBlock, arg_params: Dict[str, Any], aux_params: Dict[str, Any], ctx: Any = mx.cpu()
) -> None:
    """Sets the parameters of `net` to those of a Module-API network; the opposite of `to_module_params`.

    Raises UserError that names every parameter that is missing, left over or of another shape; `net` is then as
    before.
    """
    arrays = {**arg_params, **aux_params}
    parameters = {authors_name(name[len(net.prefix) :]): p for name, p in net.collect_params().items()}
    check_parameters(arrays, parameters)
    for name, parameter in parameters.items():
        if parameter._data is None:
            parameter.initialize(ctx=ctx)
        parameter.set_data(arrays[name])


def by_authors_names(net: HybridBlock, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The arrays of a `.params` file for `net` under the authors' names; they have names of any kind that
    `set_parameters` takes."""
    own_names = {
        name: authors_name(parameter.name[len(net.prefix) :])
        for name, parameter in net._collect_params_with_prefix().items()
    }
    return {own_names.get(name) or authors_name(name.split(":", 1)[-1]): array for name, array in arrays.items()}


def set_parameters(net: HybridBlock, arrays: Mapping[str, np.ndarray], path: Union[str, Path], ctx: Any = None) -> None:
    """Gives `net` the numpy arrays of the `.params` file at `path`, under any of three kinds of names: Gluon's
    save_parameters (`features.0.weight`), its parameters' own (`g0_conv_weight`), Module's (`arg:g0_conv_weight`).

    Raises UserError, see `from_module_params`.
    """
    gluon_arrays = {
        name: mx.nd.array(array, dtype=array.dtype) for name, array in by_authors_names(net, arrays).items()
    }
    try:
        from_module_params(net, gluon_arrays, {}, ctx or mx.cpu())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def to_module_symbol(net: HybridBlock) -> Any:
    """The symbol of `net` for the Module API: the authors' parameter names, a SoftmaxOutput called `softmax` on top.
    What `net` expects of an image, where it is known, is an attribute of `data`."""
    json_text = json_of(net(mx.sym.var("data", attr=preprocessing_attribute(net))))
    for ours, theirs in _GLUON_TO_AUTHORS.items():
        json_text = json_text.replace(ours + '"', theirs + '"')
    return mx.sym.SoftmaxOutput(mx.sym.load_json(json_text), name="softmax")


def save_module_checkpoint(net: HybridBlock, prefix: str, epoch: int) -> None:
    """Writes `prefix-symbol.json` and `prefix-0010.params` as MXNet's Module does, under the authors' names."""
    arg_params, aux_params = to_module_params(net)
    arrays = {
        **{f"arg:{k}": v.asnumpy() for k, v in arg_params.items()},
        **{f"aux:{k}": v.asnumpy() for k, v in aux_params.items()},
    }
    with write_atomically(f"{prefix}-symbol.json", "w") as file:
        file.write(json_of(to_module_symbol(net)))
    with write_atomically(f"{prefix}-{epoch:04d}.params") as file:
        file.write(params_file.dumps(arrays))


def save_parameters(net: HybridBlock, path: Union[str, Path]) -> None:
    """Writes what `net.load_parameters(path)` reads, whole or not at all, and PATH.json, see `write_preprocessing`."""
    arrays = {
        name: parameter.data(parameter.list_ctx()[0]).asnumpy()
        for name, parameter in net._collect_params_with_prefix().items()
    }
    with write_atomically(path) as file:
        file.write(params_file.dumps(arrays))
    write_preprocessing(net, path)
