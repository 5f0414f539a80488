"""Nets: the paper's ConvNet, small families, softplus copies; training them and calling them.

>>> import torch
>>> from atexlib import nets
>>> nets.predict(nets.with_softplus(nets.small("vgg19"), beta=10), torch.rand(2, 1, 32, 32)).shape
torch.Size([2, 10])
"""

from .centred import Centred
from .convnet import ConvNet, with_beta
from .efficientnet import efficientnet_lite0
from .families import LAYERS, MODELS, small
from .pooling import SmoothMaxPool2d, with_pooling
from .running import accuracy, evaluating, frozen, logits_of, of_class, plain, predict
from .softplus import SoftplusReLU6, with_softplus
from .training import Fitted, fit

__all__ = [
    "LAYERS",
    "MODELS",
    "Centred",
    "ConvNet",
    "Fitted",
    "SmoothMaxPool2d",
    "SoftplusReLU6",
    "accuracy",
    "efficientnet_lite0",
    "evaluating",
    "fit",
    "frozen",
    "logits_of",
    "of_class",
    "plain",
    "predict",
    "small",
    "with_beta",
    "with_pooling",
    "with_softplus",
]
