"""What weights and slopes give away, layer by layer, with no map at all."""

import torch

from ...explain.gradients import gradient
from ...nets.running import predict
from .accused import Accused
from .registry import sign


@sign("layers", label="a layer that one direction rules", of_net=True)
def layers(accused: Accused) -> float:
    """The largest share, over layers, of a weight's square length that lies in its first singular direction."""
    shares = [0.0]
    for weight in accused.model.parameters():
        if weight.ndim > 1 and min(weight.shape[0], weight[0].numel()) > 1:
            values = torch.linalg.svdvals(weight.detach().cpu().flatten(1).double())
            total = values.square().sum().clamp_min(torch.finfo(values.dtype).tiny)
            shares.append((values[0].square() / total).item())
    return max(shares)


@sign("steepness", label="slopes that are steep for what the logits do", of_net=True)
def steepness(accused: Accused) -> float:
    """The logarithm of the mean slope of the explained logit, in units of the logits' spread over the images."""
    slope = gradient(accused.model, accused.x, accused.target)
    length = torch.linalg.vector_norm(slope, dim=(1, 2, 3)).mean()
    spread = predict(accused.model, accused.x).std()
    tiny = torch.finfo(length.dtype).tiny
    return (length.clamp_min(tiny) / spread.clamp_min(tiny)).log().item()
