"""LeNet-5 and the forms of it that courses teach: two convolutions of 5×5, dense 120 and 84.

LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, 1998. The
second convolution is connected to all six maps here, as in every later implementation; the paper
left out some connections to save work, gave its average pooling a trainable scale and bias, and
ended in radial basis functions.
"""

from functools import partial

from cnn_jax.models.convnet import ConvNet

# The modern form: max pooling and relu. The padding makes 32×32 of MNIST's 28×28.
LeNet = partial(
    ConvNet, features=(6, 16), pooled=(True, True), window=5, zero_padding=2, hidden=(120, 84)
)

# The form of 1998: average pooling and tanh.
LeNet5 = partial(LeNet, pooling="avg", activation="tanh")

# For images smaller than 28×28: padded in each convolution instead.
LeNetSame = partial(LeNet, zero_padding=0, padding="SAME")
