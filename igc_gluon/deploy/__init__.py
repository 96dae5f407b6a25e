"""Whole-network inference: `compile` folds a trained network into a native program, `.igc` files hold it.

fast = igc_gluon.deploy.compile(net)   # any network of the zoo, or what is made of the same layers
scores = fast(images)                  # (N, 3, 32, 32) float32, numpy or NDArray
fast.save("net.igc")
igc_gluon.deploy.load("net.igc")       # needs no MXNet; nor does C: native/include/igc_file.h
"""

from typing import Any, Optional, Sequence

from igc_gluon.deploy.runtime import Compiled, load

__all__ = ["Compiled", "compile", "load"]


def compile(network: Any, input_shape: Optional[Sequence[int]] = None, threads: int = 0, **options: Any) -> Compiled:
    """A `Compiled` network for inference on the CPU: see igc_gluon.deploy.compiler.compile, which this
    imports (and MXNet with it)."""
    # slow: MXNet
    from igc_gluon.deploy import compiler

    return compiler.compile(network, input_shape, threads, **options)
