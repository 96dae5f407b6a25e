"""Installs igc_gluon. `pip install -e ".[cpu]"` or, with CUDA 11.2, `pip install -e ".[cu112]"`."""
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="igc-gluon",
    version="0.1.0",
    description="Interleaved Group Convolutions (IGCV1, IGCV2, IGCV3) on Apache MXNet / Gluon",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # MXNet 1.9.1 is the last release. It needs a NumPy that still has the aliases removed in 1.24, or the
    # replacements that igc_gluon/__init__.py puts back; NumPy 1.26, the last one with wheels below 2.0, ends
    # at Python 3.12.
    python_requires=">=3.8,<3.13",
    packages=find_packages(include=["igc_gluon", "igc_gluon.*"]),
    package_data={"igc_gluon.paper": ["published.json"]},
    install_requires=[
        "numpy>=1.20,<1.24; python_version<'3.12'",
        "numpy>=1.26,<2; python_version>='3.12'",
        "setuptools; python_version>='3.12'",  # MXNet imports distutils
        "gluoncv==0.10.5.post0",
        "opencv-python<4.12",  # later ones need NumPy 2
        "scikit-learn>=1.0",  # the embedded data set, digits
        "scipy>=1.5",  # its tests write SVHN's .mat files
        "matplotlib>=3.3",
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
    },
    entry_points={"console_scripts": ["igc=igc_gluon.cli:main"]},
)
