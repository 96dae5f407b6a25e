/* igc_file.h - networks in .igc files: load, run, free. examples/classify.c shows it.
 *
 * A file holds a list of igc_op with float32 weights as in igc.h, and what else is needed to classify an
 * image. It is little-endian; sizes in bytes, offsets from its beginning:
 *
 *    0  8       89 'I' 'G' 'C' 0d 0a 1a 0a: a transfer as text damages it
 *    8  uint32  version of the format: 5; older files are of 4, of 3, or of 2 with ranges, 1 without
 *   12  uint32  CRC-32 (that of zlib) of everything from offset 16 on
 *   16  uint64  size of the file
 *   24  int32   channels, height, width of an image
 *   36  int32   1: the result of an image is a row of scores; 0: it is channels x height x width
 *   40  uint32  number of ops
 *   44  uint32  size of the texts, a multiple of 8
 *   48  uint64  number of weights
 *   56  uint32  number of names of classes: that of the scores, or 0
 *   60  uint32  number of ranges, or 0
 *   64  int32   from version 3 on: short side, igc_interpolation, igc_color_order, whether mean and standard
 *               deviation are known (1); from version 4 on: border, fill, see igc_model_info; from version 5 on:
 *               igc_precision (before: IGC_INT8 where there are ranges, else IGC_FLOAT32), 0
 *       float   mean of each channel, then standard deviation of each channel, of pixels 0..255
 *       igc_op  all ops, the first 80 bytes of each: what inference needs. Their parameters lie one after another: weight, weight2, scale, bias
 *       char    texts, UTF-8, each with a 0 at its end: the network's name, the names of classes; then zeros
 *       float   weights, whatever the precision: one file serves every processor
 *       float   ranges, for IGC_INT8: as igc_net_create_in takes them
 *
 * Every size, number and offset is checked before it is used: a file that is damaged, cut off or made up is
 * refused with one line in igc_message().
 */
#ifndef IGC_FILE_H
#define IGC_FILE_H

#include "igc.h"

#ifdef __cplusplus
extern "C" {
#endif

#define IGC_FILE_VERSION 5 /* older ones can be read, too */

/* How an image is resized: to a smaller one, to a larger one. */
typedef enum igc_interpolation {
  IGC_AREA = 0, /* by averages of areas, by cubic splines */
  IGC_BILINEAR = 1,
  IGC_BICUBIC = 2,
  IGC_NEAREST = 3
} igc_interpolation;

typedef enum igc_color_order { IGC_RGB = 0, IGC_BGR = 1 } igc_color_order;

typedef struct igc_model igc_model;

typedef struct igc_model_info {
  const char* name;        /* lives as long as the model, as all pointers here */
  int32_t shape[3];        /* channels, height, width of an image */
  int32_t output_shape[3]; /* channels, height, width of its result */
  int32_t scores;          /* how many scores the result is, 0 if it is no row of scores */
  int32_t named;           /* whether igc_class_name() knows the classes */
  int64_t multiply_adds;   /* of one image, convolutions only */
  const float* mean;       /* of each channel, of pixels 0..255; see igc_normalize */
  const float* deviation;
  int32_t normalized;    /* 0: nobody said what mean and deviation are; then they are 0 and 1 */
  int32_t short_side;    /* of an image, its border with it, before its middle is cut out; 0: nobody said */
  int32_t interpolation; /* igc_interpolation: how it is resized so */
  int32_t color_order;   /* igc_color_order: of the channels, and so of mean and deviation */
  int32_t border; /* pixels on each side of what the network takes that are no part of the image, see below */
  int32_t fill;   /* their brightness, 0..255, in every channel; before mean and deviation */
  int32_t precision; /* igc_precision that the file asks for; igc_get_layer says what runs */
} igc_model_info;

/* An op of the network, and what becomes of it here. */
typedef struct igc_layer {
  igc_op op;         /* its offsets are of no use to others */
  int32_t shape[3];  /* channels, height, width of its result */
  int32_t precision; /* igc_precision in which it runs: IGC_FLOAT32 where the file's gains nothing here */
  int32_t unit;      /* igc_unit that computes it */
} igc_layer;

/* How an image becomes what igc_normalize takes: its shorter side is resized to short_side - 2 * border, the middle
 * (height - 2 * border) x (width - 2 * border) cut out, and border pixels of brightness fill put on each side.
 * examples/classify.c does the last of it. */

/* The model must be given to igc_free(). `data` is not needed afterwards. */
IGC_API int igc_load(const char* path, igc_model** model);
IGC_API int igc_load_buffer(const void* data, int64_t size, igc_model** model);
IGC_API void igc_free(igc_model* model);

IGC_API int igc_get_info(const igc_model* model, igc_model_info* info);
IGC_API const char* igc_class_name(const igc_model* model, int32_t class_index); /* NULL: it has none */

IGC_API int64_t igc_layers(const igc_model* model); /* how many there are */
IGC_API int igc_get_layer(const igc_model* model, int64_t number, igc_layer* layer);

/* pixels: batch x height x width x channels, 0..255, in the model's order of colors -> x: batch x channels x height x width,
 * (pixel - mean) / deviation. */
IGC_API int igc_normalize(const igc_model* model, const uint8_t* pixels, int64_t batch, float* x);

/* A photograph of any size -> what igc_run takes of one image: resized, its middle cut out, with the border, in the model's
 * order of colors, normalized. rgb: height x width x 3, row by row. Resizes as OpenCV does. */
IGC_API int igc_prepare(const igc_model* model, const uint8_t* rgb, int32_t height, int32_t width, float* x);

/* From a photograph, see igc_prepare, to the probability of each of info.scores classes (softmax of the scores). */
IGC_API int igc_classify(igc_model* model, const uint8_t* rgb, int32_t height, int32_t width,
                         float* probabilities);

/* x: batch x channels x height x width, y: batch x the result's size. threads 0: igc_threads(). By several
 * threads at once if need be. */
IGC_API int igc_run(igc_model* model, const float* x, int64_t batch, float* y, int32_t threads);

#ifdef __cplusplus
}
#endif
#endif
