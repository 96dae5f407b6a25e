"""Where the files of a data set lie on this machine, and how they come there."""

import functools
import logging
import os
from pathlib import Path
from typing import List, Optional, Union

from igc_gluon import downloads, files
from igc_gluon.data.registry import DATASETS, Archive, Dataset
from igc_gluon.errors import UserError
from igc_gluon.paths import expand

logger = logging.getLogger(__name__)

DEBIAN = Path("/usr/share/datasets")  # where Debian's packages of data sets put <name>/<archive>


def default_folder(name: str) -> Path:
    """Where data set `name` is kept unless the user says otherwise; Gluon keeps its own copies there too."""
    return expand(Path(os.environ.get("MXNET_HOME") or "~/.mxnet", "datasets", name))


class DatasetFiles:
    """Finds the files of one data set in one folder and in its sub-folder of the data set's name.

    dataset: row of DATASETS. data_dir: the user's folder, or None for `default_folder` and, for what is not there, the
    folder of Debian's package.
    """

    def __init__(self, dataset: Dataset, data_dir: Union[str, Path, None] = None) -> None:
        self.dataset = dataset
        self.folder = expand(data_dir) if data_dir else default_folder(dataset.name)
        if data_dir and not self.folder.exists() and not self.folder.parent.exists():
            raise UserError(
                f"there is no folder {self.folder}; make it, or name the one that holds the files of {dataset.name}"
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is not a folder; name the one that holds the files of {dataset.name}")
        self._folders = [self.folder, self.folder / dataset.name]
        if dataset.debian and not data_dir:
            self._folders.append(DEBIAN / dataset.name)

    def find(self, name: str) -> Optional[Path]:
        """Path of the file `name` ("folder/name" to look a level deeper), or None."""
        return next((folder / name for folder in self._folders if (folder / name).is_file()), None)

    def has_archives(self, split: str) -> bool:
        """Whether one of the archives of `split` is there."""
        return any(self.find(archive.name) for archive in self._archives(split))

    def archive_paths(self, split: str, download: bool) -> List[Path]:
        """Paths of the archives of `split`, see `_fetch`."""
        return [self._fetch(archive, download) for archive in self._archives(split)]

    def _archives(self, split: str) -> List[Archive]:
        return [archive for archive in self.dataset.archives if split in archive.splits]

    def find_record(self, split: str) -> Optional[Path]:
        """Path of the authors' RecordIO file for `split`, or None when there is no such file for any split.

        Raises UserError when there is one, but not for `split`.
        """
        records = {name: self.find(f"{name}.rec") for name in ("train", "test")}
        present = [str(path) for path in records.values() if path]
        if present and not records.get(split):
            raise UserError(f"{present[0]} is there, but there is no {split}.rec beside it")
        return records.get(split)

    def _fetch(self, archive: Archive, download: bool) -> Path:
        """Path of the archive's file, downloaded if it is missing and `download` says so.

        A file that the user put there need not be the official one: it is used after a warning.
        Raises UserError, which says what to put where, when it is neither there nor to be had, or is that of another
        data set, whose files may have the same names.
        """
        path = self.find(archive.name)
        if path:
            status = path.stat()
            _check_official(path, self.dataset.name, archive, status.st_size, status.st_mtime_ns)
            return path
        if not download:
            raise UserError(
                f"{self.dataset.name}: there is no {archive.name} in {self.folder}; get "
                f"{archive.sources[0].url} and put it there{self._alternatives()}"
            )
        path = self.folder / archive.name
        first_error = None
        for source in archive.sources:
            try:
                return downloads.download([source.url], path, source.algorithm, source.digest, archive.most)
            except UserError as error:
                first_error = first_error or error
        raise UserError(f"{self.dataset.name}: {first_error}{self._alternatives()}") from first_error

    def _alternatives(self) -> str:
        others = [archive.name for archive in self.dataset.archives if not self.find(archive.name)]
        return (
            (f"; it needs {', '.join(others)} in {self.folder}" if len(others) > 1 else "")
            + (f"; Debian's package {self.dataset.debian} holds them" if self.dataset.debian else "")
            + ("; train.rec and test.rec there do as well, and --dataset digits needs no files at all")
        )


@functools.lru_cache(maxsize=None)  # once for each state of a file: hashing 1.3 GB takes seconds
def _check_official(path: Path, name: str, archive: Archive, size: int, modified: int) -> None:
    """Warns of a file that is not the official one. Raises UserError if it is another data set's than `name`'s."""
    digests = {source.algorithm: files.digest(path, source.algorithm) for source in archive.sources}
    if (
        archive.debian_sha256
        and digests["sha256"] == archive.debian_sha256
        or any(digests[source.algorithm] == source.digest for source in archive.sources)
    ):
        return
    for other in DATASETS.values():
        if any(digests.get(source.algorithm) == source.digest for of in other.archives for source in of.sources):
            raise UserError(f"{path} is a file of {other.name}, not of {name}; name another folder")
    logger.warning(
        "%s is not the official file (%s of %s is another); it is used as it is",
        path,
        archive.sources[0].algorithm,
        archive.sources[0].url,
    )
