/* igc.h - the C interface of the IGC kernel library.
 *
 * A network is a list of igc_op over tensors in NCHW order with float32 weights in MXNet's order (output
 * channel, input channel of the group, row, column), for inference as for training (igc_train.h).
 * igc_net_create plans it once: it folds scales into weights, chooses an interleaved layout for every tensor (src/layout.h) and packs the weights for the
 * instruction set in use. igc_net_run then takes and gives NCHW. The library knows nothing of MXNet and
 * needs a C++17 run time and its threads.
 *
 * Every function that can fail returns an igc_status; igc_message() says in one line, for the calling thread,
 * what was wrong. No argument makes the library crash, provided that pointers lead to as many numbers as the
 * sizes beside them promise. A net may be run by several threads at once; results are equal bit for bit for a
 * given instruction set, whatever the number of threads or the batch.
 */
#ifndef IGC_H
#define IGC_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define IGC_API __declspec(dllexport)
#else
#define IGC_API __attribute__((visibility("default")))
#endif

/* Grows with every change of a struct, of the functions or of the meaning of one. */
#define IGC_ABI 13

typedef enum igc_status {
  IGC_OK = 0,
  IGC_BAD_ARGUMENT = 1, /* igc_message() names it */
  IGC_NO_MEMORY = 2,
  IGC_NO_SUCH_ISA = 3, /* unknown, not built in, or not supported by this processor */
  IGC_FAILED = 4
} igc_status;

typedef enum igc_kind {
  /* Group convolution: groups, kernel, stride, pad; weight, scale, bias, residual, activation. */
  IGC_CONV = 1,
  /* Primary group convolution (groups = L, kernel, stride, pad; weight), permutation, secondary 1x1 group
   * convolution (M = channels / L partitions; weight2), inverse permutation, then scale, bias, residual,
   * activation. */
  IGC_BLOCK = 2,
  /* out[j * groups + i] = in[i * (C / groups) + j]; costs nothing at run time. */
  IGC_PERMUTE = 3,
  /* Kernel, stride, pad; padding never wins. */
  IGC_MAX_POOL = 4,
  /* Over the whole image: H = W = 1. */
  IGC_MEAN_POOL = 5
} igc_kind;

typedef enum igc_activation { IGC_LINEAR = 0, IGC_RELU = 1, IGC_RELU6 = 2 } igc_activation;

/* Op number i writes tensor i + 1; tensor 0 is the input of the network, the last op writes its output.
 * A fully connected layer is a 1x1 convolution after IGC_MEAN_POOL. */
typedef struct igc_op {
  int32_t kind;
  int32_t input;    /* tensor that is read */
  int32_t residual; /* tensor that is added before the activation, -1: none */
  int32_t channels; /* output channels; pooling and permutation: 0 or those of the input */
  int32_t groups;
  int32_t kernel_h, kernel_w, stride, pad_h, pad_w;
  int32_t activation;
  int32_t
      normalized; /* 1: batch normalization follows, by the statistics of the batch; in training only, see below */
  int64_t weight; /* where a parameter starts, counted in floats from the weights; -1: none */
  int64_t weight2;
  int64_t scale; /* per output channel, multiplies the convolution's result (a folded batch normalization) */
  int64_t bias;  /* per output channel */
  /* Of training only, in inference 0 or 1: there IGC_PERMUTE permutes, and a normalization is folded into scale and
   * bias. Branches that channels are permuted from, as by IGC_PERMUTE, 0 and 1: not. */
  int32_t permute;         /* behind the convolution, before the normalization */
  int32_t reorder;         /* behind the normalization, before the residual is added */
  float epsilon, momentum; /* of the normalization */
} igc_op;

typedef struct igc_net igc_net;

IGC_API int igc_abi(void);
IGC_API const char* igc_message(void);
/* How many threads a call takes that does not say: OMP_NUM_THREADS, of a list the first number, else the cores that
 * affinity and the control group's quota allow; at most MXNET_OMP_MAX_THREADS and 1024. */
IGC_API int igc_threads(void);

/* Instruction sets: "avx512", "avx2", "portable". The first network chooses the best that the processor has,
 * or what the environment variable IGC_NATIVE_ISA names. igc_use_isa(NULL) chooses anew. Nets that exist keep
 * theirs. */
IGC_API int igc_use_isa(const char* name);
IGC_API const char* igc_isa(
    void); /* NULL if IGC_NATIVE_ISA names what this processor cannot run: see igc_message() */

/* In what a network computes. Layers that gain nothing by it, and all of them where the instruction set in use or the
 * processor has no kernels for it, stay in float32.
 *   IGC_HALF: activations and weights are rounded to bfloat16 (to nearest even), which has the range of float32, sums
 *             are of float32. On processors with AVX512-BF16 whose VDPBF16PS is faster than float32; this is measured
 *             once in a process. The environment variable IGC_NATIVE_HALF says otherwise: "on", where the instructions
 *             exist, however slow; "off"; "emulate", the same bits in plain C++, very slowly, for tests.
 *   IGC_INT8: bytes, on processors with VNNI, by what calibration found. IGC_NATIVE_INT8 "emulate": as above.
 * Layers for which that is faster run on AMX, where the processor has it and the system grants its use, which is asked for
 * when the first such network is made. IGC_NATIVE_AMX: "off"; "emulate", the same bits in plain C++, on any processor. */
typedef enum igc_precision { IGC_FLOAT32 = 0, IGC_HALF = 1, IGC_INT8 = 2 } igc_precision;

/* What computes a layer. */
typedef enum igc_unit {
  IGC_IN_FLOAT32 = 0, /* not in the network's precision */
  IGC_ON_VECTORS = 1, /* vectors of bytes or bfloat16 */
  IGC_ON_AMX = 2,     /* Intel's matrix unit */
  IGC_ON_BOTH = 3     /* of an IGC block the primary on vectors, the secondary on AMX */
} igc_unit;

/* In IGC_FLOAT32. */
IGC_API int igc_net_create(const igc_op* ops, int64_t n_ops, const float* weights, int64_t n_weights,
                           int32_t channels, int32_t height, int32_t width, igc_net** net);
/* In any igc_precision (src/planner_reduced.cpp says which layers gain). `ranges` are what calibration found, for IGC_INT8
 * only, in this order: of each tensor, from the input on, the lowest and the highest value; then of each IGC_BLOCK, in
 * order, for each of its channels the largest absolute value between its two convolutions. NaN counts as a value below
 * all others in IGC_INT8. */
IGC_API int igc_net_create_in(int32_t precision, const igc_op* ops, int64_t n_ops, const float* weights,
                              int64_t n_weights, const float* ranges, int64_t n_ranges, int32_t channels,
                              int32_t height, int32_t width, igc_net** net);
/* 1 where the instruction set in use and the processor have kernels for an igc_precision; 0 where not, and
 * igc_message() says why. */
IGC_API int igc_has(int32_t precision);
/* Which instructions an igc_unit is, in an igc_precision, with the instruction set in use: "AMX-BF16"; NULL where there is
 * none, and igc_message() says why. */
IGC_API const char* igc_unit_name(int32_t precision, int32_t unit);
/* How many ops run in the network's precision where that is not float32; `units`, if not NULL, gets the igc_unit of each
 * op. */
IGC_API int64_t igc_net_reduced_ops(const igc_net* net, uint8_t* units);
IGC_API int igc_net_output_shape(const igc_net* net, int32_t shape[3]); /* channels, height, width */
IGC_API int64_t igc_net_multiply_adds(const igc_net* net);              /* of one image, convolutions only */
/* x: batch x channels x height x width, y: batch x the output's. threads 0: igc_threads(). */
/* A process has one pool of threads, which its calls share, and a forked child one of its own. */
IGC_API int igc_net_run(igc_net* net, const float* x, int64_t batch, float* y, int32_t threads);
IGC_API void igc_net_free(igc_net* net);

/* The interleaved layout of L groups of M channels: how many positions a pixel takes, and which channel
 * (l * M + m) each holds, -1 for padding. channel_at may be NULL. */
IGC_API int igc_layout(int32_t groups, int32_t members, int32_t* positions, int32_t* channel_at);

#ifdef __cplusplus
}
#endif
#endif
