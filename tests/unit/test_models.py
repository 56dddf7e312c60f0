"""Models have the sizes of their papers, one head, and features that are never negative."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from errata.errors import ErrataError, SettingsError
from errata.models import build_model, default_model, find_head, model_names

GREY, COLOUR, PHOTO = (1, 28, 28), (3, 32, 32), (3, 64, 64)


def num_weights(model):
    return sum(weights.numel() for weights in model.parameters())


def conv_weights(inputs, outputs, side=3):
    return inputs * outputs * side * side


def norm_weights(channels):
    return 2 * channels


def block_weights(inputs, outputs):
    shortcut = conv_weights(inputs, outputs, 1) if inputs != outputs else 0
    inner = conv_weights(inputs, outputs) + conv_weights(outputs, outputs)
    return norm_weights(inputs) + norm_weights(outputs) + inner + shortcut


def test_conv_has_the_weights_counted_by_hand():
    by_hand = 25 * 32 + 64 + 9 * 32 * 64 + 128 + 9 * 64 * 128 + 256 + 128 * 10 + 10
    assert by_hand == 94_698
    assert num_weights(build_model("conv", GREY, 10)) == by_hand


def test_conv_photo_has_one_block_more_than_conv():
    more = conv_weights(128, 128) + norm_weights(128)
    with torch.device("meta"):
        conv, photo = (build_model(name, PHOTO, 10) for name in ("conv", "conv-photo"))
    assert num_weights(photo) - num_weights(conv) == more


def test_mlp_has_two_hidden_layers_of_256():
    by_hand = 784 * 256 + 512 + 256 * 256 + 512 + 256 * 10 + 10
    assert num_weights(build_model("mlp", GREY, 10)) == by_hand


def test_resnet18_has_the_weights_counted_by_hand():
    blocks = [(64, 64), (64, 64), (64, 128), (128, 128)]
    blocks += [(128, 256), (256, 256), (256, 512), (512, 512)]
    body = conv_weights(3, 64) + sum(block_weights(*pair) for pair in blocks) + norm_weights(512)
    with torch.device("meta"):
        model = build_model("resnet18", COLOUR, 10)
    assert num_weights(model) == body + 512 * 10 + 10
    assert num_weights(model) / 1e6 == pytest.approx(11.17, abs=0.005)


# Table 5 of Zagoruyko and Komodakis 2016, in millions.
@pytest.mark.parametrize(
    ("name", "millions"),
    [("wrn-28-10", 36.5), ("wrn-16-8", 11.0), ("wrn-40-4", 8.9), ("wrn-16-10", 17.1)],
)
def test_wide_residual_nets_have_the_weights_of_their_paper(name, millions):
    with torch.device("meta"):
        model = build_model(name, COLOUR, 10)
    assert num_weights(model) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", (5,)),
        ("mlp", GREY),
        ("conv", (1, 8, 8)),
        ("conv", (2, 9, 13)),
        ("conv-photo", (3, 48, 50)),
        ("resnet18", (3, 16, 16)),
        ("wrn-10-1", (1, 16, 16)),
    ],
)
def test_logits_are_the_head_of_non_negative_features(name, shape):
    model = build_model(name, shape, 7)
    entered = []
    model.head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    logits = model(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    assert entered[0].shape == (3, model.head.in_features)
    assert (entered[0] >= 0).all()
    assert find_head(model) is model.head


@pytest.mark.parametrize("name", ["mlp", "conv", "conv-photo", "resnet18", "wrn-10-1"])
def test_every_weight_learns(name):
    model = build_model(name, (1, 16, 16), 3)
    model(torch.randn(4, 1, 16, 16)).logsumexp(1).sum().backward()
    for weights in model.parameters():
        assert weights.grad is not None
        assert weights.grad.isfinite().all()
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["mlp", "conv", "conv-photo", "wrn-10-1"])
def test_models_run_in_float64_in_bf16_and_in_channels_last(name):
    images = torch.randn(4, 3, 16, 16)
    model = build_model(name, (3, 16, 16), 3).eval()
    plain = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(images)
    assert half.dtype == torch.bfloat16
    # bf16 carries 8 bits, and the logits are sums over many rounded values.
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.1)
    channels_last = model.to(memory_format=torch.channels_last)
    last = channels_last(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)
    assert model.double()(images.double()).dtype == torch.float64


@pytest.mark.parametrize("name", ["mlp", "conv", "conv-photo", "resnet18", "wrn-10-1"])
def test_models_are_one_graph_for_the_compiler(name):
    # Traced without generating code, which takes a compiler and much longer.
    model = torch.compile(build_model(name, (1, 16, 16), 3), backend="eager", fullgraph=True)
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 3)


def test_same_seed_gives_same_weights_and_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    weights = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            weights.append(build_model("conv", GREY, 10).state_dict())
    for name, first in weights[0].items():
        assert torch.equal(first, weights[1][name]), name
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_reference_net_starts_as_plain_torch_does():
    torch.manual_seed(3)
    ours = build_model("conv", GREY, 10).body[0].weight
    torch.manual_seed(3)
    assert torch.equal(ours, torch.nn.Conv2d(1, 32, 5, padding=2, bias=False).weight)


def test_he_starts_convolutions_by_fan_out():
    # 73,728 draws: the standard deviation is known to 0.3 %.
    weight = build_model("conv-he", GREY, 10).body[8].weight
    assert weight.shape == (128, 64, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((64,), "mlp"),
        ((1, 4, 4), "mlp"),
        ((1, 8, 8), "conv"),
        ((3, 47, 200), "conv"),
        ((3, 48, 48), "conv-photo"),
    ],
)
def test_default_model_follows_the_shape_and_fits_it(shape, name):
    assert default_model(shape) == name
    assert build_model(name, shape, 2)(torch.randn(2, *shape)).shape == (2, 2)


def test_names_list_every_model():
    assert model_names() == ("mlp", "conv", "conv-he", "conv-photo", "resnet18", "wrn-28-10")


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet-18", "resnet18"), ("cnv", "conv"), ("wrn-28", "wrn-28-10")]
)
def test_mistyped_name_is_refused_with_the_nearest(name, hint):
    with pytest.raises(SettingsError, match=f"did you mean `{hint}`"):
        build_model(name, COLOUR, 10)


@pytest.mark.parametrize("name", ["wrn-27-10", "wrn-4-1", "wrn-28-0"])
def test_impossible_wide_nets_are_refused(name):
    with pytest.raises(SettingsError, match=r"6 n \+ 4"):
        build_model(name, COLOUR, 10)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("conv", (64,)), ("conv", (1, 7, 28)), ("conv-photo", (3, 15, 64)), ("resnet18", (5,))],
)
def test_samples_that_do_not_fit_are_refused_with_a_model_that_does(name, shape):
    with pytest.raises(SettingsError, match="does not fit") as caught:
        build_model(name, shape, 10)
    assert default_model(shape) in caught.value.hint


class Users(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)
        self.first = nn.Linear(4, 8)


def test_head_is_found_by_its_name_first():
    model = Users()
    model.fc = nn.Linear(8, 5)
    model.late = nn.Linear(1, 1)
    assert find_head(model) is model.fc


def test_head_is_else_the_last_linear_layer():
    model = Users()
    model.head = nn.Sequential(nn.Linear(8, 5), nn.ReLU())
    assert find_head(Users()).in_features == 4
    assert find_head(model) is model.head[0]


def test_module_without_linear_layer_has_no_head():
    with pytest.raises(ErrataError, match="`Sequential` has no linear layer"):
        find_head(nn.Sequential(nn.Conv2d(1, 1, 1)))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_missing_library_is_named_with_its_command(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SettingsError, match=f"pip install {library}"):
        build_model(f"{library}:resnet18", COLOUR, 10)


def fake_torchvision(monkeypatch):
    def get_model(name, *, weights, num_classes):
        assert weights is None
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, num_classes))

    models = SimpleNamespace(list_models=lambda module: ["resnet18"], get_model=get_model)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))


def test_torchvision_models_see_grey_images_as_colour(monkeypatch):
    fake_torchvision(monkeypatch)
    model = build_model("torchvision:resnet18", (1, 32, 32), 4)
    grey = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model(grey), model.net(torch.cat([grey] * 3, 1)))
    assert find_head(model).out_features == 4


def test_torchvision_models_refuse_other_names_and_channels(monkeypatch):
    fake_torchvision(monkeypatch)
    with pytest.raises(SettingsError, match="did you mean `resnet18`"):
        build_model("torchvision:resnet81", COLOUR, 4)
    with pytest.raises(SettingsError, match="allowed: 1 or 3"):
        build_model("torchvision:resnet18", (2, 32, 32), 4)


def test_timm_models_take_any_number_of_channels(monkeypatch):
    def create_model(name, *, pretrained, num_classes, in_chans):
        assert not pretrained
        return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * 32 * 32, num_classes))

    fake = SimpleNamespace(
        is_model="small".__eq__, list_models=lambda: ["small"], create_model=create_model
    )
    monkeypatch.setitem(sys.modules, "timm", fake)
    assert build_model("timm:small", (5, 32, 32), 4)(torch.rand(2, 5, 32, 32)).shape == (2, 4)
    with pytest.raises(SettingsError, match="did you mean `small`"):
        build_model("timm:smal", COLOUR, 4)
