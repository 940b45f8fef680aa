"""Modules of heed.nn that are a score: each against its formula, and the articles' examples."""

import math

import pytest
import torch
import torch.nn.functional as F
from score_modules import CASES, sensitive_formula
from torch import Tensor, nn

import heed
from heed.nn.additive_attention import AdditiveAttention
from heed.nn.content_location_attention import ContentLocationAttention
from heed.nn.cosine_attention import CosineAttention
from heed.nn.dot_attention import DotAttention
from heed.nn.general_attention import GeneralAttention
from heed.nn.kernel_regression import KernelRegression
from heed.nn.location_attention import LocationAttention
from heed.nn.location_sensitive_attention import LocationSensitiveAttention

B, T, S, Dv = 3, 5, 7, 4
LENGTHS = torch.tensor([7, 2, 4])


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all keys", "lengths"])
def test_outputs_weights_and_gradients_are_those_of_the_formula(case, lengths):
    module, exact = case.module(), case.make(6).double()
    exact.load_state_dict(module.state_dict())
    inputs = case.inputs()
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    output, weights = case.run(module, inputs, lengths, return_weights=True)
    expected, expected_weights = case.formula(exact, exact_inputs, lengths)
    close = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(output, expected, **close)
    torch.testing.assert_close(weights, expected_weights, **close)
    assert not weights.requires_grad

    direction = torch.randn_like(output)
    ours = torch.autograd.grad((output * direction).sum(), [*inputs, *module.parameters()])
    theirs = torch.autograd.grad((expected * direction).sum(), [*exact_inputs, *exact.parameters()])
    for gradient, expected_gradient in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            gradient, expected_gradient, rtol=1e-4, atol=2e-5, check_dtype=False
        )


def test_gradients_are_finite_differences(case):
    module, inputs = case.module(dtype=torch.float64), case.inputs(dtype=torch.float64)
    inputs = [x[:2, :3].detach().requires_grad_() for x in inputs]
    parameters = dict(module.named_parameters())

    def function(*tensors):
        named = dict(zip(parameters, tensors[len(inputs) :], strict=True))
        call = _Calling(case, module)
        return torch.func.functional_call(
            call,
            {f"module.{name}": x for name, x in named.items()},
            (tensors[: len(inputs)], torch.tensor([3, 2])),
        )

    torch.autograd.gradcheck(function, (*inputs, *parameters.values()), fast_mode=True)


class _Calling(nn.Module):
    """keys() and forward() in one call, for functional_call."""

    def __init__(self, case, module):
        super().__init__()
        self.case, self.module = case, module

    def forward(self, inputs, lengths):
        return self.case.run(self.module, inputs, lengths)


def test_without_asking_there_are_no_weights(case):
    assert isinstance(case.run(case.module(), case.inputs()), Tensor)


def test_what_lies_beyond_the_length_is_not_read(case):
    module, inputs = case.module(), [x.detach() for x in case.inputs()]
    before = case.run(module, inputs, LENGTHS)
    beyond = torch.arange(S) >= LENGTHS.view(-1, 1)
    for x in inputs[1:]:
        x[beyond] = math.nan
    after = case.run(module, inputs, LENGTHS)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    if case.parameters and not hasattr(module, "keys"):  # which reads all memory
        after.sum().backward()
        assert all(p.grad.isfinite().all() for p in module.parameters())


def test_an_element_without_keys_gives_0(case):
    output, weights = case.run(
        case.module(), case.inputs(), torch.tensor([0, 1, 7]), return_weights=True
    )
    assert output[0].eq(0).all() and weights[0].eq(0).all()
    assert output[1:].ne(0).all()


def test_names_and_sizes_of_parameters(case):
    assert {n: list(p.shape) for n, p in case.make(6).state_dict().items()} == case.parameters


def test_half_precision(case):
    module, inputs = case.module(dtype=torch.bfloat16), case.inputs(dtype=torch.bfloat16)
    output = case.run(module, inputs)
    exact_inputs = [x.detach().float() for x in inputs]
    expected, _ = case.formula(module.float(), exact_inputs)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.05)


def test_reset_parameters_forgets_what_was_learnt(case):
    learnt, fresh = case.module(), case.make(6)
    for module in (learnt, fresh) if case.parameters else ():
        torch.manual_seed(1)
        module.reset_parameters()
    for name, x in learnt.state_dict().items():
        assert x.equal(fresh.state_dict()[name]), name


# Location-sensitive attention goes from step to step.


def sensitive_module(dtype=torch.float32):
    module = LocationSensitiveAttention(query_size=6, key_size=5, size=9, filters=2, width=3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.1, 0.7)
    return module.to(dtype)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all keys", "lengths"])
def test_location_sensitive_steps_and_their_gradients_are_those_of_the_formula(lengths):
    module = sensitive_module()
    exact = sensitive_module(torch.float64)
    exact.load_state_dict(module.state_dict())
    inputs = [torch.randn(size, requires_grad=True) for size in [(B, T, 6), (B, S, 5), (B, S, Dv)]]
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]

    def steps(step, inputs):
        query, memory, values = inputs
        outputs, weights = [], [None]
        for t in range(T):
            output, weight = step(query[:, t : t + 1], memory, values, weights[-1])
            outputs.append(output)
            weights.append(weight)
        return torch.cat(outputs, 1), torch.cat(weights[1:], 1)

    ours = steps(lambda q, m, v, p: module(q, module.keys(m), v, p, lengths), inputs)
    theirs = steps(lambda q, m, v, p: sensitive_formula(exact, q, m, v, p, lengths), exact_inputs)
    close = {"rtol": 1e-5, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(ours, theirs, **close)
    # The loss asks for weights too: a gradient goes through all steps before.
    directions = [torch.randn_like(x) for x in ours]

    def gradients(results, leaves):
        loss = sum((x * d).sum() for x, d in zip(results, directions, strict=True))
        return torch.autograd.grad(loss, leaves)

    for gradient, expected in zip(
        gradients(ours, [*inputs, *module.parameters()]),
        gradients(theirs, [*exact_inputs, *exact.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=5e-5, check_dtype=False)


def test_location_sensitive_gradients_are_finite_differences():
    module = sensitive_module(torch.float64)
    inputs = [
        torch.randn(size, dtype=torch.float64, requires_grad=True)
        for size in [(2, 1, 6), (2, 4, 9), (2, 4, 3), (2, 1, 4)]
    ]

    def step(*inputs):
        return module(*inputs, torch.tensor([4, 2]))

    torch.autograd.gradcheck(step, inputs)


def test_location_sensitive_padding_leaks_nowhere():
    module = sensitive_module()
    keys, values = torch.randn(B, S, 9), torch.randn(B, S, Dv)
    query, previous = torch.randn(B, 1, 6), torch.rand(B, 1, S)
    lengths = torch.tensor([7, 0, 4])
    before = module(query, keys, values, previous, lengths)
    beyond = torch.arange(S) >= lengths.view(-1, 1)
    keys[beyond] = math.nan
    values[beyond] = math.nan
    output, weights = module(query, keys, values, previous, lengths)
    torch.testing.assert_close((output, weights), before, rtol=0, atol=0)
    assert output[1].eq(0).all() and weights[1].eq(0).all()
    (output.sum() + weights.square().sum()).backward()
    assert all(p.grad.isfinite().all() for n, p in module.named_parameters() if n[:3] != "key")


def test_location_sensitive_names_and_sizes_of_parameters():
    assert {n: list(p.shape) for n, p in sensitive_module().state_dict().items()} == {
        "score_weight": [1, 9],
        "query_projection.weight": [9, 6],
        "query_projection.bias": [9],
        "key_projection.weight": [9, 5],
        "location_convolution.weight": [2, 1, 3],
        "location_projection.weight": [9, 2],
    }


# Where training starts, as in the papers.


def test_start_of_each():
    additive = AdditiveAttention(query_size=50, key_size=50, size=50)
    assert additive.score_weight.eq(0).all() and additive.query_projection.bias.eq(0).all()
    assert additive.query_projection.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert additive.key_projection.weight.std().item() == pytest.approx(0.001, rel=0.1)
    for uniform in (
        GeneralAttention(50, 50).key_projection.weight,
        LocationAttention(50, 50).position_keys,
    ):
        assert 0.095 < uniform.abs().max().item() <= 0.1
    sensitive = LocationSensitiveAttention(50, 50, 50)
    assert sensitive.location_convolution.weight.shape == (10, 1, 201)
    assert sensitive.location_convolution.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert sensitive.query_projection.bias.eq(0).all()
    assert CosineAttention().logit_scale.exp().item() == pytest.approx(10)
    assert KernelRegression(bandwidth=0.3).log_bandwidth.exp().item() == pytest.approx(0.3)


def test_the_temperature_of_cosines_has_a_floor():
    q, k, v = torch.randn(1, 2, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    module = CosineAttention(max_scale=100)
    nn.init.constant_(module.logit_scale, math.log(1000))
    at_floor = CosineAttention(initial_scale=100, max_scale=100)
    torch.testing.assert_close(module(q, k, v), at_floor(q, k, v))


def test_a_cosine_does_not_know_lengths_and_a_row_of_0_is_like_none():
    q, k, v = torch.randn(1, 2, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    module = CosineAttention()
    torch.testing.assert_close(module(3 * q, k / 7, v), module(q, k, v))
    torch.testing.assert_close(module(0 * q, k, v), v.mean(1, keepdim=True).expand(1, 2, 4))


def test_kernel_regression_keeps_its_digits_far_from_the_origin():
    points, values = torch.rand(1, 50, 2), torch.randn(1, 50, 1)
    module = KernelRegression(bandwidth=0.1)
    far = torch.tensor([4096.0, -2048.0])  # exact in float32, to 2^-11 of which the points round
    moved = (points + far).double()
    expected, _ = CASES["kernel regression"].formula(
        module.double(), [moved, moved, values.double()]
    )
    actual = module.float()(points + far, points + far, values)
    torch.testing.assert_close(actual, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: GeneralAttention(6, 5).keys(torch.zeros(2, 3, 6)),
            "[GeneralAttention] memory: expected [B,S,key_size] = [*, *, 5], got [2, 3, 6]",
        ),
        (
            lambda: AdditiveAttention(6, 5, 4)(*torch.zeros(3, 2, 3, 4)),
            "[AdditiveAttention] query: expected [B,T,query_size] = [*, *, 6], got [2, 3, 4]",
        ),
        (
            lambda: LocationAttention(4, 2)(*torch.zeros(2, 2, 3, 4)),
            "[LocationAttention] values: expected [B,S,Dv] with S <= max_length = 2, got [2, 3, 4]",
        ),
        (
            lambda: LocationSensitiveAttention(4, 4, 4, width=4),
            "[LocationSensitiveAttention] width: expected an odd number, got 4",
        ),
        (
            lambda: LocationSensitiveAttention(4, 4, 4)(*torch.zeros(3, 2, 3, 4)),
            "[LocationSensitiveAttention] query: expected one step, [B,1,query_size], got [2, 3, 4]",
        ),
        (
            lambda: KernelRegression(bandwidth=0),
            "[KernelRegression] bandwidth: expected a positive number, got 0",
        ),
        (
            lambda: CosineAttention(initial_scale=200),
            "[CosineAttention] initial_scale: expected a number in (0, max_scale = 100], got 200",
        ),
        (
            lambda: ContentLocationAttention(4)(*torch.zeros(3, 2, 3, 5)),
            "[ContentLocationAttention] query: expected [B,T,size] = [*, *, 4], got [2, 3, 5]",
        ),
    ],
)
def test_errors_say_what_was_expected_in_one_line(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


# The same weights in published implementations.


def test_dot_is_torchs_scaled_dot_product_attention():
    q, k, v = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 4)
    torch.testing.assert_close(
        DotAttention()(q, k, v), F.scaled_dot_product_attention(q, k, v), rtol=1e-5, atol=1e-5
    )


def test_general_is_torchs_bilinear_layer():
    bilinear = nn.Bilinear(6, 5, 1, bias=False)
    module = GeneralAttention(query_size=6, key_size=5)
    module.load_state_dict({"key_projection.weight": bilinear.weight[0]})
    q, memory, v = torch.randn(2, 3, 6), torch.randn(2, 4, 5), torch.randn(2, 4, 3)
    pairs = q.unsqueeze(2).expand(-1, -1, 4, -1), memory.unsqueeze(1).expand(-1, 3, -1, -1)
    expected = bilinear(*(x.contiguous() for x in pairs)).squeeze(-1).softmax(-1) @ v
    torch.testing.assert_close(module(q, module.keys(memory), v), expected, rtol=1e-5, atol=1e-5)


def test_cosine_is_swin_v2s():
    from transformers import Swinv2Config
    from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

    config = Swinv2Config(qkv_bias=True, attention_probs_dropout_prob=0.0)
    swin = Swinv2SelfAttention(config, dim=8, num_heads=1, window_size=(3, 3)).eval()
    for parameter in swin.continuous_position_bias_mlp.parameters():
        nn.init.zeros_(parameter)  # the same bias for all keys
    nn.init.constant_(swin.logit_scale, 1.7)
    module = CosineAttention()
    module.load_state_dict({"logit_scale": swin.logit_scale.view(())})
    x = torch.randn(2, 9, 8)
    expected, weights = swin(x, output_attentions=True)
    actual = module(swin.query(x), swin.key(x), swin.value(x), return_weights=True)
    torch.testing.assert_close(actual, (expected, weights.squeeze(1)), rtol=1e-5, atol=1e-5)


def test_kernel_regression_is_the_weighted_mean_of_nadaraya_and_watson():
    x, y = torch.rand(1, 20, 1), torch.randn(1, 20, 1)
    grid = torch.linspace(0, 1, 7).view(1, 7, 1)
    kernel = torch.distributions.Normal(grid, 0.2).log_prob(x.mT).exp()  # [1,7,20]
    expected = kernel @ y / kernel.sum(-1, keepdim=True)
    actual = KernelRegression(bandwidth=0.2)(grid, x, y)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


# The articles' worked examples; docs/mechanisms/worked-examples.md shows them.


def test_two_keys():
    query, keys = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[2.0, 1.0], [1.0, 0.0]]])
    values = torch.tensor([[[1.0, 1.0], [2.0, 0.0]]])
    module = DotAttention(scaled=False)
    output, weights = module(query, keys, values, return_weights=True)
    torch.testing.assert_close(weights[0, 0], torch.tensor([0.952574, 0.047426]), rtol=0, atol=1e-6)
    torch.testing.assert_close(output[0, 0], torch.tensor([1.047426, 0.952574]), rtol=0, atol=1e-6)
    # 0.982, 0.018 are the weights of scores 4 and 0; <q, k2> is 1.
    printed = torch.tensor([4.0, 0.0]).softmax(-1)
    torch.testing.assert_close(printed, torch.tensor([0.982, 0.018]), rtol=0, atol=5e-4)


def test_given_weights():
    weights = torch.tensor([0.8, 0.2])
    values = torch.tensor([[1.0, 1.0], [2.0, 0.0]]).view(1, 1, 2, 2)
    nothing = torch.zeros(1, 1, 2, 0)
    context = heed.attention(
        nothing[:, :, :1],
        nothing,
        values,
        kind="none",
        score_mod=lambda score, b, h, t, s: weights.log()[s],
    )
    torch.testing.assert_close(context.flatten(), torch.tensor([1.2, 0.8]), rtol=0, atol=1e-6)


def test_an_mlp_score_is_one_number_for_each_pair():
    module = AdditiveAttention(query_size=2, key_size=2, size=3)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    query, memory = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[2.0, 1.0], [1.0, 0.0]]])
    W, U = module.query_projection, module.key_projection.weight
    scores = [module.score_weight[0] @ torch.tanh(W(query[0, 0]) + U @ k) for k in memory[0]]
    assert all(score.dim() == 0 for score in scores)
    _, weights = module(query, module.keys(memory), memory, return_weights=True)
    torch.testing.assert_close(weights[0, 0], torch.stack(scores).softmax(-1))


def test_self_attention_over_values_of_ones_gives_ones():
    Q = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [4.0, 1.0]]])
    K = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [4.0, 1.0]]])
    output, weights = DotAttention()(Q, K, torch.ones(1, 3, 2), return_weights=True)
    torch.testing.assert_close(output, torch.ones(1, 3, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(weights, (Q @ K.mT / math.sqrt(2)).softmax(-1))
    assert weights.std() > 0.1  # for any weights at all, since each row of them sums to 1


def test_a_single_head_with_its_projections():
    x = torch.randn(2, 7, 8)
    q, k, v = (nn.Linear(8, 4)(x) for _ in range(3))
    expected = (q @ k.mT / math.sqrt(4)).softmax(dim=-1) @ v
    torch.testing.assert_close(DotAttention()(q, k, v), expected, rtol=1e-5, atol=1e-6)
