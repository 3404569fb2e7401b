"""Constants that both configuration and models use; this file imports nothing."""

ENCODER_SIZES = {  # number of features of each encoder
    "CompactEncoder": 128,
    "ResNet18Encoder": 512,
    "ResNet34Encoder": 512,
    "ResNet50Encoder": 2048,
    "ResNet152Encoder": 2048,
}
BACKBONES_WITH_CLF = ("AlexNet", "ResNet18", "ResNet34")
ALEXNET_MIN_PIXELS = 63  # rows and columns; its pooling layers need at least so many
PUBLISHED_STEM_STRIDE = 2  # of the encoder's first convolution [L22]
AKNES_PRE_TRIGGER_S = 3.0  # from the start of a record of the public archive to the trigger
WHITENING_GROUP_SIZE = 64  # features of the projector that IterNorm whitens together
