"""Names and sizes that configuration and models share; imports nothing, so both may know it."""

ENCODER_SIZES = {
    "CompactEncoder": 128,
    "ResNet18Encoder": 512,
    "ResNet34Encoder": 512,
    "ResNet50Encoder": 2048,
    "ResNet152Encoder": 2048,
}
BACKBONES_WITH_CLF = ("AlexNet", "ResNet18", "ResNet34")
ALEXNET_MIN_PIXELS = 63  # rows and columns; below, its pooling layers run out of them
PUBLISHED_STEM_STRIDE = 2  # of an encoder's first convolution [L22]
AKNES_PRE_TRIGGER_S = 3.0  # from the beginning of an event of the public archive to its trigger
WHITENING_GROUP_SIZE = 64  # features of the projector that IterNorm whitens together
