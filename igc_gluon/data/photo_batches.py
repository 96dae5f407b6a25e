"""A folder of photographs -> normalized batches, for evaluation: read and prepared in threads as they are needed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np

from igc_gluon.data.batches import Batch
from igc_gluon.data.photos import read_photo
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.data.sharding import evaluation_batches
from igc_gluon.errors import UserError
from igc_gluon.threads import cores


class PhotoEvaluation:
    """Photographs in their own order, each prepared by `preprocessing`.

    paths: of the files. labels: a number for each. batch_size: the last batch is short.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int], preprocessing: Preprocessing, batch_size: int
    ) -> None:
        self._paths, self._labels = list(paths), np.asarray(labels, np.float32)
        self._preprocessing = preprocessing
        self._batches = evaluation_batches(len(self._paths), batch_size, 0, 1)

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yields (float32 (n, 3, H, W), labels float32 (n,)), the same whatever `epoch`. Raises UserError on a file
        that is no image."""
        with ThreadPoolExecutor(cores()) as pool:
            for batch in self._batches[first_batch:]:
                chosen = slice(batch.start, batch.stop)
                pixels = list(pool.map(self._pixels, self._paths[chosen]))
                yield self._preprocessing.normalize(np.stack(pixels)), self._labels[chosen]

    def _pixels(self, path: Path) -> np.ndarray:
        image = read_photo(path)
        try:
            return self._preprocessing.pixels(image)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
