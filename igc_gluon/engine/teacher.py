"""A network with weights that another one learns from."""

from typing import Sequence

import mxnet as mx

from igc_gluon.data.classes import check_same_classes
from igc_gluon.engine.inputs import Input
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.attributes import class_names
from igc_gluon.model_zoo.authors import arrays_of, digest_of


def teacher_name(net: mx.gluon.HybridBlock) -> str:
    """The model of `net` and a digest of its parameters, by which a resumed run knows its teacher."""
    return f"{net.model} {digest_of(arrays_of(net))}"


def prepare_teacher(net: mx.gluon.HybridBlock, data: Input, devices: Sequence[mx.Context]) -> None:
    """Puts the teacher `net` on `devices`. Raises UserError unless it scores the classes of `data` and expects its
    images as they are."""
    expected, offered = net.preprocessing, data.preprocessing
    if (expected.crop, expected.mean, expected.std) != (offered.crop, offered.mean, offered.std):
        raise UserError(
            f"--teacher {net.model} expects images of {expected.crop[1]}x{expected.crop[0]} pixels with mean "
            f"{expected.mean} and std {expected.std}, {data.name} has {offered.crop[1]}x{offered.crop[0]}, "
            f"{offered.mean} and {offered.std}; take a teacher that was trained on {data.name}"
        )
    names, own = class_names(net), offered.class_names
    if names and own:
        check_same_classes(names, own, f"--teacher {net.model}", "the data")
    net.collect_params().reset_ctx(list(devices))
    net.hybridize(static_alloc=True)
    scores = net(mx.nd.zeros((1, *offered.image_shape), ctx=devices[0])).shape[1]
    if scores != data.classes:
        raise UserError(f"--teacher {net.model} has {scores} classes, {data.name} {data.classes}")
