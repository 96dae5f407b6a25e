/* Classifies an image: ./classify net.igc image.ppm
 * The image is a binary PPM (P6) of the network's size, without the border that some networks want. To build it in the folder above:
 *   lib=igc_gluon/native/_lib
 *   cc examples/classify.c -Iigc_gluon/native/include -L$lib -ligc -Wl,-rpath,$PWD/$lib -o classify
 */
#include <igc_file.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char* what) { return fprintf(stderr, "error: %s\n", what), 2; }

int main(int argc, char** argv) {
  igc_model* model;
  igc_model_info info;
  int width, height;
  if (argc != 3) return failed("give a network and an image: classify net.igc image.ppm");
  if (igc_load(argv[1], &model) != IGC_OK || igc_get_info(model, &info) != IGC_OK)
    return failed(igc_message());
  /* As floats a pixel of three channels is 12 bytes. */
  if (!info.scores || info.shape[0] != 3 || info.shape[1] > INT_MAX / 12 / info.shape[2])
    return failed("the network gives no scores, or its images are too large or not in colour");
  const int size = 3 * info.shape[1] * info.shape[2];
  unsigned char* pixels = malloc(size);
  float *x = malloc(size * sizeof(float)), *scores = malloc(info.scores * sizeof(float));
  const int border = info.border, high = info.shape[1] - 2 * border, wide = info.shape[2] - 2 * border;
  FILE* image = fopen(argv[2], "rb");
  if (!image || !pixels || !x || !scores) return failed("there is no such image, or no memory");
  memset(pixels, info.fill, size);
  int whole = fscanf(image, "P6 %d %d 255", &width, &height) == 2 && fgetc(image) != EOF && height == high &&
              width == wide;
  for (int row = border; whole && row < border + high; row++)
    whole = fread(pixels + 3 * (row * info.shape[2] + border), 3, wide, image) == (size_t)wide;
  if (!whole) return fprintf(stderr, "error: the image is not a whole binary PPM of %dx%d pixels\n", wide, high), 2;
  if (igc_normalise(model, pixels, 1, x) != IGC_OK || igc_run(model, x, 1, scores, 0) != IGC_OK)
    return failed(igc_message());
  int best = 0;
  for (int i = 1; i < info.scores; i++) best = scores[i] > scores[best] ? i : best;
  printf("class %d %s, score %g\n", best, info.named ? igc_class_name(model, best) : "", scores[best]);
  fclose(image), free(pixels), free(x), free(scores), igc_free(model);
  return 0;
}
