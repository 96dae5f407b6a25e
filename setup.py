"""Builds the kernels, and a wheel for one platform. All that is only said of the package is in pyproject.toml."""

import importlib.util
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).parent


def _native_build():
    """igc_gluon/native/build.py, by path: the package itself needs NumPy, which an isolated build has not."""
    path = ROOT / "igc_gluon" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("igc_native_build", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithKernels(build_py):
    """Compiles the kernels with the compiler that is there. Without one the package works, only slower."""

    def run(self):
        super().run()
        native = _native_build()
        target = ROOT if getattr(self, "editable_mode", False) else Path(self.build_lib)
        try:
            native.build(target / "igc_gluon" / "native" / "_lib")
        except (native.BuildError, OSError) as error:
            self.warn(f"igc_gluon: no kernel library: {error}; MXNet's own operators will run")


class PlatformDistribution(Distribution):
    """Holds machine code, though not as an extension module."""

    def has_ext_modules(self):
        return True


class PlatformWheel(bdist_wheel):
    """A wheel for any Python of one platform: the kernels are reached through ctypes."""

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(distclass=PlatformDistribution, cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel})
