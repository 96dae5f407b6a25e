/* igc_train.h - the C interface for training: a whole network body, forward and backward.
 *
 * A network is a list of igc_op: a convolution (IGC_CONV; its kernel square and odd, padded by half of it, stride 1 or
 * 2), batch normalization, perhaps a sum with an earlier tensor, an activation (not IGC_RELU6 of a sum); or
 * IGC_MAX_POOL, likewise padded, whose result is as good as normalized. With IGC_MEAN_POOL as the last op the output is
 * batch x channels, without it the last tensor as it is, batch x channels x height x width. Several convolutions in a
 * row without normalization between them, as in an IGC block, follow each other: all but the last with normalized = 0,
 * without sum, activation and reorder, all but the first 1x1 with stride 1, the result of each read by the next only.
 * Parameters are given to each pass, an op's offsets into weights are not read. Arrays are float32 in MXNet's order
 * (NCHW; output channel, input channel of the group, row, column). Everything between them is interleaved
 * (src/layout.h).
 *
 * A net holds what forward leaves for backward: one pass at a time. Results are equal bit for bit for a given
 * instruction set and number of threads. Status codes and igc_message() as in igc.h.
 */
#ifndef IGC_TRAIN_H
#define IGC_TRAIN_H

#include "igc.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct igc_train igc_train;

IGC_API int igc_train_create(const igc_op* ops, int64_t n_ops, int32_t channels, int32_t height,
                             int32_t width, igc_train** net);
/* Whether igc_train_create would succeed. */
IGC_API int igc_train_check(const igc_op* ops, int64_t n_ops, int32_t channels, int32_t height,
                            int32_t width);
/* parameters: of every convolution its weight, then gamma and beta if it is normalized.
 * running: of every normalized op moving mean and moving variance, which are updated; null: not kept.
 * threads 0: igc_threads(). */
IGC_API int igc_train_forward(igc_train* net, const float* x, int64_t batch, const float* const* parameters,
                              float* const* running, float* y, int32_t threads);
/* After forward with the same x. gradients: where the gradient of each parameter is written, null: nowhere.
 * dx: gradient of x, or null. */
IGC_API int igc_train_backward(igc_train* net, const float* x, const float* dy, float* const* gradients,
                               float* dx, int32_t threads);
/* With the moving statistics, without a trace for backward, for images of any size. Parameters as for forward. They are
 * packed once, while they stay the same, and what a size of image takes is kept for the next call, 8 MB in all beside
 * the last one. */
IGC_API int igc_train_infer(igc_train* net, const float* x, int64_t batch, int32_t height, int32_t width,
                            const float* const* parameters, const float* const* running, float* y,
                            int32_t threads);
IGC_API void igc_train_free(igc_train* net);
/* What it holds: activations, packed weights, workspaces. */
IGC_API int64_t igc_train_bytes(const igc_train* net);
/* Calls work(context, part) for each of `parts` parts, shared by the threads that the kernels use. */
IGC_API void igc_share(int64_t parts, void (*work)(void* context, int64_t part), void* context);

#ifdef __cplusplus
}
#endif
#endif
