"""Shapes are checked at run time in tests, which holds only if the hook came before the imports."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from errata.losses import expected_loss
from errata.methods.odd import loss_variance_of_head


def test_a_loss_refuses_shapes_that_do_not_agree():
    with pytest.raises(TypeCheckError):
        expected_loss(torch.zeros(2, 3), torch.zeros(2, 4))


def test_a_method_refuses_a_shape_it_does_not_name():
    with pytest.raises(TypeCheckError):
        loss_variance_of_head(torch.zeros(3))
