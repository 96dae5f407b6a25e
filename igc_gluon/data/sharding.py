"""How batches and data sets are divided among workers, and batches among devices."""

from typing import List


def shard(total: int, index: int, count: int) -> range:
    """The positions of part `index` of `count` of `total`; a part of a part is cut where the whole is."""
    return range(total * index // count, total * (index + 1) // count)


def training_batches(images: int, batch_size: int, index: int, count: int) -> List[range]:
    """Of each batch of an epoch over `images` the positions that worker `index` of `count` gets. Every batch is full:
    positions from `images` on are the epoch's first again."""
    mine = shard(batch_size, index, count)
    return [range(first + mine.start, first + mine.stop) for first in range(0, images, batch_size)]


def evaluation_batches(images: int, batch_size: int, index: int, count: int) -> List[range]:
    """The batches of worker `index` of `count`, of whose part of the images the last batch may be short."""
    mine = shard(images, index, count)
    return [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]
