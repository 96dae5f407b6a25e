"""Variables of the environment that MXNet, OpenCV and the kernels read, checked before any of them is loaded.

On what they cannot read they raise C++ errors, some of them while they load, where the process is aborted; some
numbers they divide by or allocate. Which variables: MXNet 1.9.1's env_var.md, and the calls of getenv by its library,
its Python files and OpenCV's library. Those of a distributed run: `igc_gluon.launch.variables`.
"""

import contextlib
import os
import re
from dataclasses import dataclass
from typing import Dict, Optional, Tuple, Union

from igc_gluon.errors import UserError

MOST_THREADS = 1024  # as of the kernels
INT = (1 << 31) - 1
_MAGIC = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")  # of Linux, Windows, macOS
_TYPE = "(float16|float32|float64|int8|uint8|int32|int64)"


@dataclass(frozen=True)
class Number:
    """A whole number; `several`: for each level of nested loops one, of which the first counts."""

    least: int = 0
    most: int = INT
    what: str = "a whole number"
    several: bool = False

    def read(self, text: str) -> Optional[str]:
        """`text` as it is meant, or None."""
        parts = text.split(",") if self.several else [text]
        if all(
            re.fullmatch(r"\s*[+-]?[0-9]{1,10}\s*", part) and self.least <= int(part) <= self.most for part in parts
        ):
            return str(int(parts[0]))
        return None

    def __str__(self) -> str:
        return f"{self.what} from {self.least} to {self.most}"


@dataclass(frozen=True)
class Switch:
    """On or off."""

    off: Tuple[str, ...] = ("0", "false")
    on: Tuple[str, ...] = ("1", "true")

    def read(self, text: str) -> Optional[str]:
        """0 or 1, which MXNet reads as a number and as a truth value, or None."""
        word = text.strip().lower()
        return "0" if word in self.off else "1" if word in self.on else None

    def __str__(self) -> str:
        return f"{', '.join(self.off)} or {', '.join(self.on)}"


@dataclass(frozen=True)
class SharedLibrary:
    """A file that the system's loader takes for a library."""

    def read(self, text: str) -> Optional[str]:
        """`text`, or None."""
        with contextlib.suppress(OSError, ValueError):
            if os.path.isfile(text):
                with open(text, "rb") as file:
                    return text if file.read(4).startswith(_MAGIC) else None
        return None

    def __str__(self) -> str:
        return "the path of a shared library"


@dataclass(frozen=True)
class Words:
    """One of `words`, or what `pattern` matches, which `more` describes."""

    words: Tuple[str, ...]
    pattern: str = "(?!)"
    more: str = ""

    def read(self, text: str) -> Optional[str]:
        """`text` without spaces around it, or None."""
        word = text.strip()
        return word if word in self.words or re.fullmatch(self.pattern, word) else None

    def __str__(self) -> str:
        return " or ".join(filter(None, [", ".join(self.words), self.more]))


Kind = Union[Number, Switch, Words, SharedLibrary]

THREADS = Number(1, max(MOST_THREADS, os.cpu_count() or 1), "a number of threads")
SWITCH = Switch()
COPIES = Number(1, 1024)
DECIMAL = Words((), r"[0-9]{1,9}(\.[0-9]{0,9})?", "a number such as 0.7")
OPENCV_SWITCH = Words(("0", "1", "False", "True"), "FALSE|TRUE|false|true")
OPENCV_SIZE = Words((), "[0-9]{1,12}([MK][Bb]|[mk]b)?", "a whole number, also of KB or MB")

# Prefix and names, with a space between: what each may be.
_TABLE: Tuple[Tuple[str, str, Kind], ...] = (
    ("", "OMP_NUM_THREADS", Number(1, THREADS.most, THREADS.what, several=True)),
    (
        "",
        "OMP_STACKSIZE GOMP_STACKSIZE",
        Words((), "[0-9]{1,6} *[Kk]?|[0-9]{1,9} *[Bb]|[0-9]{1,3} *[Mm]", "a size up to 999M"),
    ),
    (
        "MXNET_",
        "OMP_MAX_THREADS CPU_WORKER_NTHREADS CPU_PRIORITY_NTHREADS CPU_NNPACK_NTHREADS GPU_WORKER_NTHREADS "
        "GPU_COPY_NTHREADS MP_WORKER_NTHREADS KVSTORE_REDUCTION_NTHREADS USE_NUM_CORES_OPERATOR_TUNING",
        THREADS,
    ),
    ("MXNET_", "MP_OPENCV_NUM_THREADS", Number(0, THREADS.most, THREADS.what)),
    (
        "MXNET_",
        "CPU_TEMP_COPY CPU_PARALLEL_RAND_COPY GPU_TEMP_COPY GPU_PARALLEL_RAND_COPY GPU_CUDNN_DROPOUT_STATE_COPY "
        "EXEC_NUM_TEMP",
        COPIES,
    ),
    ("MXNET_", "GPU_WORKER_NSTREAMS", Number(1, 2)),
    ("MXNET_", "CUDNN_AUTOTUNE_DEFAULT", Number(0, 2)),
    ("MXNET_", "OPTIMIZER_AGGREGATION_SIZE UPDATE_AGGREGATION_SIZE", Number(1, 60)),
    ("MXNET_", "GPU_MEM_POOL_RESERVE", Number(0, 100)),
    ("MXNET_", "GPU_MEM_POOL_ROUND_LINEAR_CUTOFF", Number(0, 62)),
    ("MXNET_", "MKLDNN_CACHE_NUM", Number(-1)),
    (
        "MXNET_",
        "EXEC_BULK_EXEC_MAX_NODE_TRAIN EXEC_BULK_EXEC_MAX_NODE_TRAIN_FWD EXEC_BULK_EXEC_MAX_NODE_TRAIN_BWD "
        "EXEC_INPLACE_GRAD_SUM_CAP",
        Number(0, 1_000_000),
    ),
    (
        "MXNET_",
        "KVSTORE_BIGARRAY_BOUND KVSTORE_TREE_ARRAY_BOUND KVSTORE_SLICE_THRESHOLD "
        "CPU_PARALLEL_SIZE CPU_PARALLEL_COPY_SIZE GPU_MEM_LARGE_ALLOC_ROUND_SIZE",
        Number(),
    ),
    ("NNVM_", "EXEC_MATCH_RANGE EXEC_NUM_TEMP", Number(0, 1 << 16)),
    ("NNVM_", "AUTO_SEARCH_MATCH_RANGE", SWITCH),
    ("MXNET_", "KVSTORE_TREE_LINK_USAGE_PENALTY TUNING_WEIGHT_SCALE", DECIMAL),
    (
        "MXNET_",
        "BACKWARD_DO_MIRROR CUDA_ALLOW_TENSOR_CORE CUDA_LIB_CHECKING CUDA_TENSOR_OP_MATH_ALLOW_CONVERSION "
        "CUDNN_LIB_CHECKING DISABLE_MKLDNN_CONV_OPT DISABLE_MKLDNN_FC_OPT DISABLE_MKLDNN_FUSE_CONV_BN "
        "DISABLE_MKLDNN_FUSE_CONV_RELU DISABLE_MKLDNN_FUSE_CONV_SUM DISABLE_MKLDNN_FUSE_FC_ELTWISE "
        "DISABLE_MKLDNN_QEM_FLOAT_OUTPUT DISABLE_MKLDNN_QEM_FUSE_ALL DISABLE_MKLDNN_QFC_FLOAT_OUTPUT "
        "DISABLE_MKLDNN_QFC_FUSE_ALL DISABLE_MKLDNN_QTRANSFORMER_FLOAT_OUTPUT DISABLE_MKLDNN_QTRANSFORMER_FUSE_ALL "
        "DISABLE_MKLDNN_TRANSFORMER_OPT ELIMINATE_COMMON_EXPR ENABLE_CYTHON ENABLE_GPU_P2P ENFORCE_CYTHON "
        "ENFORCE_DETERMINISM ENGINE_INFO EXEC_BULK_EXEC_INFERENCE EXEC_BULK_EXEC_TRAIN EXEC_ENABLE_INPLACE "
        "EXEC_VERBOSE_LOGGING FUSION_VERBOSE INFER_STORAGE_TYPE_VERBOSE_LOGGING KVSTORE_DIST_ROW_SPARSE_VERBOSE "
        "KVSTORE_LOGTREE KVSTORE_SERIAL_PUSH KVSTORE_TREE_BACKTRACK KVSTORE_USETREE MEM_PLAN_VERBOSE_LOGGING "
        "MKLDNN_DEBUG MKLDNN_ENABLED MKLDNN_FORCE_FC_AB_FORMAT MKLDNN_QFC_DYNAMIC_PARAMS OUTPUT_TUNING_DATA "
        "PROFILER_AUTOSTART PROFILER_MODE QUANTIZATION_VERBOSE RNN_USE_WEIGHT_CACHE SAFE_ACCUMULATION "
        "STORAGE_FALLBACK_LOG_VERBOSE SUBGRAPH_VERBOSE UPDATE_ON_KVSTORE USE_FUSION USE_MKLDNN_RNN VERBOSE_TUNING_INFO",
        SWITCH,
    ),
    ("MXNET_", "ENGINE_TYPE", Words(("NaiveEngine", "ThreadedEngine", "ThreadedEnginePerDevice"))),
    ("MXNET_", "LIBRARY_PATH", SharedLibrary()),
    ("IGC_", "NATIVE", Switch(("0", "no", "false", "off"), ("1", "yes", "true", "on"))),
    ("IGC_", "NATIVE_ISA", Words(("avx512", "avx2", "portable"))),
    ("IGC_", "NATIVE_INT8", Words(("avx2", "emulate"))),
    ("IGC_", "NATIVE_HALF", Words(("on", "off", "emulate"))),
    ("IGC_", "NATIVE_AMX", Words(("off", "emulate"))),
    ("DMLC_", "PS_VAN_TYPE", Words(("zmq", "p3"))),
    ("MXNET_", "GPU_MEM_POOL_TYPE", Words(("Naive", "Round", "Unpooled"))),
    (
        "MXNET_",
        "USE_OPERATOR_TUNING",
        Words(("0", "1"), rf"{_TYPE}(,{_TYPE})*", "a list of types, such as float32,float64"),
    ),
    (
        "OPENCV_",
        "BUFFER_AREA_ALWAYS_SAFE DUMP_CONFIG DUMP_ERRORS ENABLE_MEMALIGN OPENCL_CACHE_CLEANUP OPENCL_CACHE_ENABLE "
        "OPENCL_CACHE_LOCK_ENABLE OPENCL_CACHE_WRITE OPENCL_DISABLE_BUFFER_RECT_OPERATIONS "
        "OPENCL_ENABLE_MEM_USE_HOST_PTR OPENCL_VALIDATE_BINARY_PROGRAMS SKIP_CPU_BASELINE_CHECK TRACE "
        "TRACE_ITT_ENABLE TRACE_ITT_PARENT TRACE_SYNC_OPENCL VIDEOCAPTURE_DEBUG VIDEOIO_DEBUG VIDEOWRITER_DEBUG",
        OPENCV_SWITCH,
    ),
    (
        "OPENCV_",
        "FOR_THREADS_NUM IMGCODECS_WEBP_MAX_FILE_SIZE IO_MAX_IMAGE_HEIGHT IO_MAX_IMAGE_PARAMS IO_MAX_IMAGE_PIXELS "
        "IO_MAX_IMAGE_WIDTH KMEANS_PARALLEL_GRANULARITY OPENCL_ALIGNMENT_MEM_USE_HOST_PTR THREAD_POOL_ACTIVE_WAIT_MAIN "
        "THREAD_POOL_ACTIVE_WAIT_PAUSE_LIMIT THREAD_POOL_ACTIVE_WAIT_THREADS_LIMIT THREAD_POOL_ACTIVE_WAIT_WORKER "
        "TRACE_DEPTH_OPENCV TRACE_MAX_CHILDREN TRACE_MAX_CHILDREN_OPENCV",
        OPENCV_SIZE,
    ),
)
KINDS: Dict[str, Kind] = {prefix + name: kind for prefix, names, kind in _TABLE for name in names.split()}


def check() -> None:
    """Writes every variable as it is meant, and takes away those that are empty.

    Raises UserError on the first that says something else, with what it may say.
    """
    for name in sorted(KINDS.keys() & os.environ.keys()):
        meant = read(name)
        if meant is None:
            del os.environ[name]
        else:
            os.environ[name] = meant


def take_away_what_nothing_needs() -> None:
    """Of variables whose nonsense ends matplotlib and tqdm in a traceback while they are imported: pictures go to files
    alone, and progress bars say themselves how they look."""
    os.environ["MPLBACKEND"] = "agg"
    for name in [name for name in os.environ if name.startswith("TQDM_") and name != "TQDM_DISABLE"]:
        del os.environ[name]


def read(name: str) -> Optional[str]:
    """What the variable means, None where it is not set or empty. Raises UserError as `check`."""
    value = os.environ.get(name, "")
    if not value.strip():
        return None
    meant = KINDS[name].read(value)
    if meant is None:
        raise UserError(f"{name} must be {KINDS[name]}, not {value!r}")
    return meant
