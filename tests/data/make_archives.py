"""Tiny data sets in the official formats, written independently of the code that reads them."""

import gzip
import io
import struct
import tarfile
import zipfile

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
            train_images[chosen], train_labels[chosen]
        )
    members["cifar-10-batches-bin/test_batch.bin"] = cifar_bin(test_images, test_labels)
    return members, (train_images, train_labels), (test_images, test_labels)


def idx_bytes(array):
    """Of uint8 (N, ...), not compressed."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_folder(folder, counts=(("train", 40), ("t10k", 20))):
    """Writes the four files of MNIST; returns prefix -> (uint8 (N, 28, 28), labels uint8)."""
    random, made = np.random.RandomState(3), {}
    for prefix, count in dict(counts).items():
        gray = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = random.randint(0, 10, count).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(gray)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
        made[prefix] = gray, labels
    return made


def svhn_mat(path, images, labels):
    """labels: as in the official files, 1 to 10."""
    savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": np.asarray(labels, np.uint8)[:, None]}, do_compression=True)


def record_file(path, images, labels, ending=".png"):
    """Written by MXNet itself. labels: numbers, or arrays for several labels in a record."""
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for index, (image, label) in enumerate(zip(images, labels)):
        encoded = cv2.imencode(ending, image[:, :, ::-1])[1].tobytes()
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, index, 0), encoded))
    writer.close()


def jpeg(image, gray=False):
    """Bytes of a JPEG of an RGB image, or of its first channel."""
    return cv2.imencode(".jpg", image[:, :, 0] if gray else image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[
        1
    ].tobytes()


def tiny_imagenet_members(per_class=1, val=20, size=64, seed=0):
    """(members of tiny-imagenet-200.zip, [(bytes of a JPEG, class)] of training, the same of validation).

    The class is the WordNet id. Every seventh image is gray; wnids.txt is not sorted.
    """
    random = np.random.RandomState(seed)
    ids = [f"n{number:08d}" for number in random.permutation(5000)[:200]]
    members = {
        "tiny-imagenet-200/wnids.txt": "".join(f"{i}\n" for i in ids).encode(),
        "tiny-imagenet-200/words.txt": b"n00001740\tentity\n",
    }
    count = 0

    def image():
        nonlocal count
        count += 1
        corners = random.randint(0, 256, (4, 4, 3)).astype(np.uint8)  # smooth, as a JPEG keeps noise badly
        return jpeg(cv2.resize(corners, (size, size), interpolation=cv2.INTER_CUBIC), gray=count % 7 == 0)

    train, validation = [], []
    for identifier in ids:
        folder = f"tiny-imagenet-200/train/{identifier}"
        names = [f"{identifier}_{number}.JPEG" for number in range(per_class)]
        members[f"{folder}/{identifier}_boxes.txt"] = "".join(f"{n}\t0\t10\t63\t58\n" for n in names).encode()
        for name in names:
            train.append((image(), identifier))
            members[f"{folder}/images/{name}"] = train[-1][0]
    annotations = ""
    for number in range(val):
        validation.append((image(), ids[random.randint(200)]))
        annotations += f"val_{number}.JPEG\t{validation[-1][1]}\t0\t32\t44\t62\n"
        members[f"tiny-imagenet-200/val/images/val_{number}.JPEG"] = validation[-1][0]
    members["tiny-imagenet-200/val/val_annotations.txt"] = annotations.encode()
    members["tiny-imagenet-200/test/images/test_0.JPEG"] = image()
    return members, train, validation


def zip_file(path, members):
    """members: name -> bytes. JPEGs are stored, texts compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            compression = zipfile.ZIP_STORED if name.endswith("JPEG") else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, compression)
