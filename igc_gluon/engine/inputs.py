"""What a run trains on. Every kind of input has

    name, classes, image_shape (channels, height, width), mean and std (per channel, of pixels 0..255),
    class_names (or None), top5 (whether top-5 accuracy is reported)
    config()  what the result of a run depends on, for config.json
    prepare() reads or checks the files. Raises UserError
    batches(batch_size, seed, part_index=0, num_parts=1) -> (train, test)
              each with len() and epoch(number, first_batch=0), which yields (float32 (n, 3, H, W), labels (n,)); of
              worker part_index of num_parts, whose shares of a training batch together make the batch of one worker
"""
from igc_gluon.data import DATASETS, Batches, load

TEST_BATCH = 400  # as the authors'; the result does not depend on it


class ArrayInput:
    """A data set of `igc_gluon.data.DATASETS`, which fits into memory. `pad`: see `Batches`."""
    top5 = False
    class_names = None

    def __init__(self, dataset, pad="mean", data_dir=None):
        self._info, self._pad, self._data_dir = DATASETS[dataset], pad, data_dir
        self.name, self.classes, self.mean, self.std = dataset, self._info.classes, self._info.mean, self._info.std
        self.image_shape = (3, self._info.size, self._info.size)
        self._images = None

    def config(self):
        return {"pad": self._pad}

    def prepare(self):
        self._images = tuple(load(self.name, split, data_dir=self._data_dir) for split in ("train", "test"))

    def batches(self, batch_size, seed, part_index=0, num_parts=1):
        info, (train, test) = self._info, self._images
        share = {"part_index": part_index, "num_parts": num_parts}
        return (Batches(train.images, train.labels, batch_size, info.mean, info.std, augment=info.augment,
                        mirror=info.mirror, pad_value=self._pad, seed=seed, short_side=info.short_side, **share),
                Batches(test.images, test.labels, TEST_BATCH, info.mean, info.std, train=False, **share))
