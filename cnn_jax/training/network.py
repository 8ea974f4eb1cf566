"""The network that a config and its data call for."""

from flax import linen as nn

from cnn_jax.config import Config
from cnn_jax.data.spec import Spec
from cnn_jax.models.registry import build_model
from cnn_jax.training.objective import single_logit


def build_network(config: Config, spec: Spec) -> nn.Module:
    """Returns the config's network with an output for each class, or one logit for two.

    >>> from cnn_jax.config import Config, Model
    >>> from cnn_jax.data.spec import Spec
    >>> from cnn_jax.training.network import build_network
    >>> spec = Spec("mnist", (28, 28, 1), class_names=tuple("0123456789"))
    >>> build_network(Config(model=Model("lenet5")), spec).num_classes
    10
    """
    return build_model(
        num_classes=spec.num_classes,
        single_logit=single_logit(config.train, spec),
        **vars(config.model),
    )
