"""Tiny data sets in the official formats, written independently of the code that reads them."""
import io
import tarfile

import cv2
import mxnet as mx
import numpy as np
from scipy.io import savemat


def random_images(count, classes, seed=0):
    """uint8 (count, 32, 32, 3) noise and labels that go round the classes."""
    images = np.random.RandomState(seed).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return images, np.arange(count) % classes


def cifar_bin(images, labels, coarse=None):
    """Bytes of a .bin file; coarse: labels of CIFAR-100's first byte, None for CIFAR-10."""
    content = b""
    for index, (image, label) in enumerate(zip(images, labels)):
        content += bytes([label]) if coarse is None else bytes([coarse[index], label])
        for channel in range(3):
            content += image[:, :, channel].tobytes()
    return content


def tar(path, members, mode="w:gz"):
    """members: name -> bytes."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def cifar10_members(train=50, test=10):
    """(members of cifar-10-binary.tar.gz, training images and labels, test images and labels)."""
    train_images, train_labels = random_images(train, 10)
    test_images, test_labels = random_images(test, 10, seed=1)
    members = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n"}
    for part in range(5):
        chosen = slice(part * train // 5, (part + 1) * train // 5)
        members[f"cifar-10-batches-bin/data_batch_{part + 1}.bin"] = cifar_bin(
            train_images[chosen], train_labels[chosen])
    members["cifar-10-batches-bin/test_batch.bin"] = cifar_bin(test_images, test_labels)
    return members, (train_images, train_labels), (test_images, test_labels)


def svhn_mat(path, images, labels):
    """labels: as in the official files, 1 to 10."""
    savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": np.asarray(labels, np.uint8)[:, None]},
            do_compression=True)


def record_file(path, images, labels, ending=".png"):
    """Written by MXNet itself. labels: numbers, or arrays for several labels in a record."""
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for index, (image, label) in enumerate(zip(images, labels)):
        encoded = cv2.imencode(ending, image[:, :, ::-1])[1].tobytes()
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, index, 0), encoded))
    writer.close()
