"""What a run trains on. Every kind of input has

    name, classes, image_shape (channels, height, width), mean and std (per channel, of pixels 0..255),
    class_names (or None), top5 (whether top-5 accuracy is reported)
    config()  what the result of a run depends on, for config.json
    prepare() reads or checks the files. Raises UserError
    batches(batch_size, seed, part_index=0, num_parts=1) -> (train, test)
              each with len() and epoch(number, first_batch=0), which yields (float32 (n, 3, H, W), labels (n,)); of
              worker part_index of num_parts, whose shares of a training batch together make the batch of one worker
    validation(part_index=0, num_parts=1) -> as test, of images that are held out to choose the best epoch by, or None
"""
from pathlib import Path

from igc_gluon.data import DATASETS, Batches, has_validation, load, pack, photos, record_batches, records
from igc_gluon.errors import UserError

IMAGENET_CLASSES = 1000
TEST_BATCH = 400  # as the authors'; the result does not depend on it


class ArrayInput:
    """A data set of `igc_gluon.data.DATASETS`, which fits into memory. `pad`: see `Batches`."""
    top5 = False
    class_names = None

    def __init__(self, dataset, pad="mean", data_dir=None):
        self._info, self._pad, self._data_dir = DATASETS[dataset], pad, data_dir
        self.name, self.classes, self.mean, self.std = dataset, self._info.classes, self._info.mean, self._info.std
        self.image_shape = (3, self._info.size, self._info.size)
        self._images = self._validation = None

    def config(self):
        held_out = {"validation_images": len(self._validation.labels)} if self._validation else {}
        return {"pad": self._pad, **held_out}

    def prepare(self):
        if has_validation(self.name, self._data_dir):
            self._validation = load(self.name, "validation", data_dir=self._data_dir)
        self._images = tuple(load(self.name, split, data_dir=self._data_dir) for split in ("train", "test"))

    def batches(self, batch_size, seed, part_index=0, num_parts=1):
        info, (train, test) = self._info, self._images
        share = {"part_index": part_index, "num_parts": num_parts}
        return (Batches(train.images, train.labels, batch_size, info.mean, info.std, augment=info.augment,
                        mirror=info.mirror, pad_value=self._pad, seed=seed, short_side=info.short_side, **share),
                Batches(test.images, test.labels, TEST_BATCH, info.mean, info.std, train=False, **share))

    def validation(self, part_index=0, num_parts=1):
        if self._validation is None:
            return None
        return Batches(self._validation.images, self._validation.labels, TEST_BATCH, self._info.mean, self._info.std,
                       train=False, part_index=part_index, num_parts=num_parts)


class RecordInput:
    """RecordIO files, which are read as they are needed.

    train, val: paths of FILE.rec with FILE.idx beside it; train may be None where only val is evaluated. classes: None
    to take the number of lines in classes.txt beside the file, or 1000. augment: one of `record_batches.AUGMENTS`.
    short_side: of the image that the center crop comes from.
    """
    name, top5 = "imagenet", True

    def __init__(self, train, val, image_shape, mean, std, classes=None, augment="authors", short_side=None):
        self._train, self._val = train and Path(train), Path(val)
        self.image_shape, self.mean, self.std = tuple(image_shape), tuple(mean), tuple(std)
        self._augment = augment
        self._short_side = short_side or photos.natural_short_side(min(image_shape[1:]))
        names = pack.read_classes(self._val.with_name(pack.CLASS_FILE))
        self.classes = classes or (len(names) if names else IMAGENET_CLASSES)
        self.class_names = tuple(names) if names and len(names) == self.classes else None
        self._structures = None

    def config(self):
        train, val = self._structures
        return {"augment": self._augment, "short_side": self._short_side, "train_images": train.records,
                "test_images": val.records, "class_names": self.class_names}

    def prepare(self):
        """Raises UserError on files that are not there or damaged, whose labels are no classes or whose images are
        too small."""
        for path in filter(None, (self._train, self._val)):
            if not path.is_file():
                raise UserError(f"there is no file {path}; igc data imagenet --root FOLDER makes it from folders of "
                                "images")
        self._structures = [path and records.structure(path) for path in (self._train, self._val)]
        for path, found in zip((self._train, self._val), self._structures):
            if found and found.largest_label >= self.classes:
                advice = f"give --num-classes {found.largest_label + 1:.0f}, or another file" if self._train else \
                    "it is not of the data that the network was trained on"
                raise UserError(f"{path} has labels up to {found.largest_label:.0f}, too many for {self.classes} "
                                f"classes; {advice}")
            if found:
                record_batches.check_size(path, self.image_shape)

    @property
    def test_images(self):
        return self._structures[1].records

    def batches(self, batch_size, seed, part_index=0, num_parts=1):
        train = record_batches.RecordTraining(self._train, batch_size, self.image_shape, self._augment, self.mean,
                                              self.std, seed, part_index, num_parts, self._short_side)
        return train, self.evaluation(batch_size, part_index, num_parts)

    def validation(self, part_index=0, num_parts=1):
        return None

    def evaluation(self, batch_size, part_index=0, num_parts=1):
        """The second of `batches` alone."""
        return record_batches.RecordEvaluation(self._val, batch_size, self.image_shape, self._short_side, self.mean,
                                               self.std, part_index, num_parts)
