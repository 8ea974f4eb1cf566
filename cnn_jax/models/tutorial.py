"""The small networks with which courses and Keras's tutorials teach convolution.

All start as Keras starts its layers: Glorot-uniform kernels, zero biases.
"""

from functools import partial

from cnn_jax.models.convnet import ConvNet

# For 28×28×1: conv 16, 32, 64 of 3×3, pooling after the first two, dense 64.
MnistConvNet = partial(ConvNet, features=(16, 32, 64), pooled=(True, True, False), hidden=(64,))

# For 32×32×3: conv 50, pooling, conv 50, pooling, dense 50; without either pooling or the dense
# layer; and with a third convolution behind the last pooling.
CifarTutorial = partial(ConvNet, features=(50, 50), pooled=(True, True), hidden=(50,))
CifarTutorialSmall = partial(ConvNet, features=(50, 50), pooled=(False, False))
CifarTutorialDeep = partial(
    ConvNet, features=(50, 50, 50), pooled=(True, True, False), hidden=(50,)
)

# For 28×28×1: four 7×7 kernels and eight hidden units do for clothes.
FashionConvNet = partial(
    ConvNet, features=(4,), pooled=(True,), window=7, padding="SAME", hidden=(8,)
)

# For photographs, 150×150×3: four times conv and pooling, dropout, dense 512.
CatsDogs = partial(
    ConvNet,
    features=(32, 64, 128, 128),
    pooled=(True, True, True, True),
    padding="SAME",
    dropout=0.5,
    hidden=(512,),
)
