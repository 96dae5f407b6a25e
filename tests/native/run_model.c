/* Runs a model on images, for processors that are emulated: run_model net.igc BATCH < images > scores, float32. */
#include <igc_file.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  igc_model* model;
  igc_model_info info;
  if (argc != 3 || igc_load(argv[1], &model) != IGC_OK || igc_get_info(model, &info) != IGC_OK)
    return fprintf(stderr, "%s\n", igc_message()), 2;
  const size_t batch = (size_t)atoi(argv[2]), size = batch * info.shape[0] * info.shape[1] * info.shape[2];
  float *x = malloc(size * sizeof(float)), *y = malloc(batch * info.scores * sizeof(float));
  if (!x || !y || fread(x, sizeof(float), size, stdin) != size) return fprintf(stderr, "too few numbers\n"), 2;
  if (igc_run(model, x, (int64_t)batch, y, 2) != IGC_OK) return fprintf(stderr, "%s\n", igc_message()), 2;
  fwrite(y, sizeof(float), batch * info.scores, stdout);
  fprintf(stderr, "%s\n", igc_isa());
  return 0;
}
