/* Prints the likeliest classes of a photograph, as `igc predict net.igc photo` does: ./classify net.igc photo.png
 * To build it in the folder above (JPEG, PNG, BMP and PPM with Debian's package libstb-dev; else binary PPM only):
 *   lib=igc_gluon/native/_lib
 *   cc examples/classify.c -Iigc_gluon/native/include -L$lib -ligc -Wl,-rpath,$PWD/$lib -lm -o classify
 */
#include <igc_file.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__has_include)
#if __has_include(<stb/stb_image.h>)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#endif
#endif

#define TOP 5

static int failed(const char* what) { return fprintf(stderr, "error: %s\n", what), 2; }

/* The pixels of an image file, height x width x 3, RGB; NULL if it cannot be read. To be freed. */
static unsigned char* read_image(const char* path, int* height, int* width) {
#ifdef STB_IMAGE_IMPLEMENTATION
  int channels;
  return stbi_load(path, width, height, &channels, 3);
#else
  FILE* file = fopen(path, "rb");
  unsigned char* pixels = NULL;
  if (file && fscanf(file, "P6 %d %d 255", width, height) == 2 && fgetc(file) != EOF && *width > 0 && *height > 0 &&
      *width < 1 << 15 && *height < 1 << 15) {
    const size_t size = (size_t)3 * *width * *height;
    pixels = malloc(size);
    if (pixels && fread(pixels, 1, size, file) != size) free(pixels), pixels = NULL;
  }
  if (file) fclose(file);
  return pixels;
#endif
}

int main(int argc, char** argv) {
  igc_model* model;
  igc_model_info info;
  int height, width;
  if (argc != 3) return failed("give a network and an image: classify net.igc photo");
  if (igc_load(argv[1], &model) != IGC_OK || igc_get_info(model, &info) != IGC_OK) return failed(igc_message());
  if (!info.scores) return failed("the network gives no scores");
  float* probabilities = malloc(info.scores * sizeof(float));
  unsigned char* pixels = read_image(argv[2], &height, &width);
  if (!pixels || !probabilities) return failed("there is no such image, it is of another format, or too large");
  if (igc_classify(model, pixels, height, width, probabilities) != IGC_OK) return failed(igc_message());
  for (int place = 0; place < TOP && place < info.scores; place++) {
    int best = 0;
    for (int i = 1; i < info.scores; i++) best = probabilities[i] > probabilities[best] ? i : best;
    printf("  %6.2f %%  ", 100 * probabilities[best]);
    if (info.named) puts(igc_class_name(model, best));
    else printf("class %d\n", best);
    probabilities[best] = -1;
  }
  free(pixels), free(probabilities), igc_free(model);
  return 0;
}
