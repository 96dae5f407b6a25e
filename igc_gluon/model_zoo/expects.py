"""What a network that has weights expects and means, as attributes of it.

    model        its name, as `get_model` takes it
    mean, std    per channel R, G, B, of pixels 0..255: it takes (pixel - mean) / std. None where nobody said
    crop         height and width of the image it takes
    short_side   the length that a photograph's shorter side gets before the central crop
    classes      the name of each score, as in GluonCV's networks; None where nobody said
    classes_long, synset
                 of ImageNet's classes also the long names and WordNet's numbers
"""
from igc_gluon.data.photos import natural_short_side
from igc_gluon.errors import UserError


def expect(net, model, crop, short_side=None, mean=None, std=None, classes=None):
    """Sets the attributes of `net`, see the module, and returns it.

    classes: names, or "imagenet" for the 1000 of ImageNet in the order of their WordNet numbers, as which such numbers
    are taken too: they are the names of the folders that a network was trained on. Without `short_side` it is
    crop * 8/7 from 128 on, 256 for 224, and below it the crop itself: small images are whole.
    """
    net.model, net.crop = model, crop
    net.short_side = short_side or usual_short_side(crop)
    net.mean, net.std = mean and tuple(map(float, mean)), std and tuple(map(float, std))
    net.classes, net.classes_long, net.synset = classes and list(classes), None, None
    if classes == "imagenet" or (classes and len(classes) == 1000):
        from gluoncv.data.imagenet.classification import ImageNet1kAttr

        names = ImageNet1kAttr()
        if classes != "imagenet" and list(classes) != names.synset:
            return net
        net.classes, net.classes_long, net.synset = names.classes, names.classes_long, names.synset
    return net


def usual_short_side(crop):
    """Where nobody said, see `expect`."""
    return natural_short_side(crop) if crop >= 128 else crop


def image_shape(net):
    """(channels, height, width) of the image that `net` takes."""
    return 3, net.crop, net.crop


def preprocessing(net):
    """(mean, std) of `net`. Raises UserError where they are not known."""
    if net.mean is None or net.std is None:
        raise UserError(f"nothing says how {net.model} wants its images normalised; give --dataset or --mean and --std")
    return net.mean, net.std
