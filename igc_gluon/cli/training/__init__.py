"""`igc train` and the scripts train_cifar.py and train_imagenet.py: their flags, and the way from flags to a run."""
