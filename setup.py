"""Installs igc_gluon. `pip install -e ".[cpu]"` or, with CUDA 11.2, `pip install -e ".[cu112]"`."""
import importlib.util
from pathlib import Path

from setuptools import Distribution, find_packages, setup
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


setup(
    name="igc-gluon",
    version="0.2.0",
    description="Interleaved Group Convolutions (IGCV1, IGCV2, IGCV3) on Apache MXNet / Gluon",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="igc-gluon developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["deep learning", "convolutional neural networks", "group convolution", "IGC", "MXNet", "Gluon"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    # MXNet 1.9.1 is the last release. It needs a NumPy that still has the aliases removed in 1.24, or the
    # replacements that igc_gluon/__init__.py puts back; NumPy 1.26, the last one with wheels below 2.0, ends
    # at Python 3.12.
    python_requires=">=3.8,<3.13",
    py_modules=["igc_command"],
    packages=find_packages(include=["igc_gluon", "igc_gluon.*"]),
    # The sources too, so that `python -m igc_gluon.native.build` works where the package is installed.
    package_data={"igc_gluon.native": ["include/*.h", "src/*.h", "src/*.cpp", "src/kernels/*.h",
                                       "src/kernels/*.cpp", "src/kernels/int8/*.h", "src/kernels/int8/*.cpp",
                                       "src/mxnet/*.h", "src/mxnet/*.cpp"],
                  "igc_gluon.model_zoo": ["weights/*"],
                  "igc_gluon.paper": ["published.json"],
                  "igc_gluon.report": ["style.css"],
                  "igc_gluon.bench": ["peak.cpp"]},
    distclass=PlatformDistribution,
    cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel},
    install_requires=[
        "numpy>=1.20,<1.24; python_version<'3.12'",
        "numpy>=1.26,<2; python_version>='3.12'",
        "setuptools; python_version>='3.12'",  # MXNet imports distutils
        "gluoncv==0.10.5.post0",
        "opencv-python<4.12",  # later ones need NumPy 2
        "scikit-learn>=1.0",  # the embedded data set, digits
        "scipy>=1.5",  # its tests write SVHN's .mat files
        "matplotlib>=3.7",
        "tensorboardX>=2.6.2,<3",
        "tqdm>=4.60",
        "requests>=2.20",
        "portalocker>=2.0",
        "pytest>=7",
        "hypothesis>=6",
    ],
    extras_require={
        "cpu": ["mxnet==1.9.1"],
        "cu112": ["mxnet-cu112==1.9.1"],
        # What `igc bench` times beside us: into an environment of its own, as GluonCV refuses to be imported where
        # PyTorch 2 is installed. These run on the NumPy that MXNet needs.
        "bench": ["torch==2.13.0; python_version>='3.10'", "onnx>=1.16", "onnxruntime>=1.20", "openvino>=2024.0"],
        "docs": ["mkdocs>=1.5", "mkdocs-material>=9", "mkdocstrings[python]>=0.24"],
    },
    entry_points={"console_scripts": ["igc=igc_command:main"]},
)
