"""Cases of products of matrices, convolutions, norms, pools and torch's own layers."""

from __future__ import annotations

from port.ported import Case

PLANE = {"x": "B 6 T U"}
IMAGE = {"x": "B 6 8 10"}
BEHIND = {"x": "B T 6"}
TWO = {"x": "B 6 T", "y": "B T 5"}


def layer(code: str, given: str = "B 6 T", call: str = "self.m(x)", **more: float) -> Case:
    return Case(call, {"x": given}, {"m": code}, **more)  # type: ignore[arg-type]


CASES = [
    # Products.
    Case("x @ y", TWO),
    Case("torch.matmul(x, y)", TWO),
    Case("torch.bmm(x, y)", TWO),
    Case("x.mm(y)", {"x": "B 6", "y": "6 T"}),
    Case("x.mv(y)", {"x": "T 6", "y": "6"}),
    Case("torch.dot(x, y)", {"x": "T", "y": "T"}, bound=30),
    Case("x @ y", {"x": "B 6 T", "y": "T 5"}),
    Case("x @ y", {"x": "5 6", "y": "B 6 T"}),
    Case("x @ y", {"x": "B 6 T", "y": "T"}),
    Case("x @ y", {"x": "B 1 6 T", "y": "4 T 5"}),
    Case("x @ x.transpose(1, 2)"),
    Case("x.transpose(1, 2) @ self.w", {"x": "B 6 T"}, parameters={"w": (6, 4)}),
    Case("self.w @ x", {"x": "B 6 T"}, parameters={"w": (4, 6)}),
    Case("torch.outer(x, y)", {"x": "T", "y": "U"}),
    Case("torch.addmm(b, x, y)", {"b": "T", "x": "B 6", "y": "6 T"}),
    Case("torch.addmm(b, x, y, beta=0.5, alpha=2)", {"b": "T", "x": "B 6", "y": "6 T"}),
    Case("torch.baddbmm(b, x, y)", {"b": "B 6 5", "x": "B 6 T", "y": "B T 5"}),
    Case("torch.baddbmm(b, x, y, beta=0, alpha=0.3)", {"b": "B 6 5", "x": "B 6 T", "y": "B T 5"}),
    Case("torch.addmv(b, x, y)", {"b": "T", "x": "T 6", "y": "6"}),
    Case("torch.einsum('bct,bcu->btu', x, y)", {"x": "B 6 T", "y": "B 6 U"}),
    Case("torch.einsum('bct,cd->bdt', x, y)", {"x": "B 6 T", "y": "6 5"}),
    Case("torch.einsum('...ct,dc->...dt', x, y)", {"x": "B 6 T", "y": "5 6"}),
    Case("torch.einsum('bct,bct->b', x, y)", {"x": "B 6 T", "y": "B 6 T"}),
    Case("torch.einsum('ij,jk', x, y)", {"x": "B 6", "y": "6 T"}),
    Case("torch.einsum('b h t d, b h s d -> b h t s', x, y)", {"x": "B 3 T 4", "y": "B 3 U 4"}),
    Case("torch.einsum('bct,dc->bdt', x, self.w)", parameters={"w": (5, 6)}),
    Case("torch.tensordot(x, y, dims=([1], [0]))", {"x": "B 6 T", "y": "6 5"}),
    Case("torch.vdot(x[0, 0], x[0, 1])", bound=60),
    Case("torch.inner(x, y)", {"x": "B 6", "y": "T 6"}),
    Case("F.linear(x, self.w, self.b)", BEHIND, parameters={"w": (5, 6), "b": (5,)}),
    Case("F.linear(x, self.w)", BEHIND, parameters={"w": (5, 6)}),
    Case(
        "F.bilinear(x, y, self.w, self.b)",
        {"x": "B 6", "y": "B 4"},
        parameters={"w": (5, 6, 4), "b": (5,)},
    ),
    Case("self.m(x, y)", {"x": "B T 6", "y": "B T 4"}, {"m": "nn.Bilinear(6, 4, 5)"}),
    # Attention.
    Case("F.scaled_dot_product_attention(x, y, y)", {"x": "B 3 T 8", "y": "B 3 U 8"}),
    Case("F.scaled_dot_product_attention(x, x, x, is_causal=True)", {"x": "B 3 T 8"}),
    Case(
        "F.scaled_dot_product_attention(x, y, y, attn_mask=m)",
        {"x": "B 3 T 8", "y": "B 3 U 8", "m": "B 1 T U"},
    ),
    Case(
        "F.scaled_dot_product_attention(x, x, x, attn_mask=x.sum(-1, keepdim=True) > -9, scale=0.3)",
        {"x": "B 3 T 8"},
    ),
    Case(
        "F.scaled_dot_product_attention(x, y, y, enable_gqa=True)", {"x": "B 4 T 8", "y": "B 2 T 8"}
    ),
    layer("nn.MultiheadAttention(6, 2, batch_first=True)", "B T 6", "self.m(x, x, x)[0]"),
    layer("nn.MultiheadAttention(6, 2)", "T B 6", "self.m(x, x, x, need_weights=False)[0]"),
    Case(
        "self.m(x, x, x, key_padding_mask=m)[0]",
        {"x": "B T 6", "m": "B T:bool"},
        {"m": "nn.MultiheadAttention(6, 2, batch_first=True)"},
    ),
    Case(
        "self.m(x, y, y)[0]",
        {"x": "B T 6", "y": "B U 6"},
        {"m": "nn.MultiheadAttention(6, 2, batch_first=True)"},
    ),
    layer("nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)", "B T 8"),
    layer("nn.TransformerEncoderLayer(8, 2, 16, activation='gelu', norm_first=True)", "T B 8"),
    layer(
        "nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)", "B T 8"
    ),
    Case(
        "self.m(x, y)",
        {"x": "B T 8", "y": "B U 8"},
        {"m": "nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)"},
    ),
    # Convolutions.
    layer("nn.Conv1d(6, 5, 3)"),
    layer("nn.Conv1d(6, 5, 3, padding=1)"),
    layer("nn.Conv1d(6, 5, 1)"),
    layer("nn.Conv1d(6, 5, 5, stride=2, padding=2, bias=False)"),
    layer("nn.Conv1d(6, 5, 3, padding=2, dilation=2)"),
    layer("nn.Conv1d(6, 8, 3, padding=1, groups=2)"),
    layer("nn.Conv1d(6, 6, 7, padding=3, groups=6)"),
    layer("nn.Conv1d(6, 12, 3, padding=1, groups=6)"),
    layer("nn.Conv1d(6, 6, 4, stride=2, padding=1, groups=6)"),
    layer("nn.Conv1d(6, 5, 4, padding='same')"),
    layer("nn.Conv1d(6, 5, 3, padding='same', dilation=3)"),
    layer("nn.Conv1d(6, 5, 3, padding='valid')"),
    *(
        layer(f"nn.Conv1d(6, 5, 5, padding=2, padding_mode='{mode}')")
        for mode in ("reflect", "replicate", "circular")
    ),
    layer("nn.Conv1d(6, 5, 4, padding='same', padding_mode='reflect')"),
    layer("nn.Conv1d(1, 8, 16, stride=4)", "B 1 80"),
    Case("self.m(x[:, None])", {"x": "B 80"}, {"m": "nn.Conv1d(1, 8, 15, padding=7)"}),
    layer("nn.Conv1d(6, 5, 3)", call="self.m(x).relu().transpose(1, 2)"),
    layer("nn.Conv2d(6, 5, 3)", "B 6 T U"),
    layer("nn.Conv2d(6, 5, 3, padding=1)", "B 6 T U"),
    layer("nn.Conv2d(6, 5, 1)", "B 6 T U"),
    layer("nn.Conv2d(6, 5, 1, stride=2, bias=False)", "B 6 T U"),
    layer("nn.Conv2d(6, 5, 3, stride=(2, 1), padding=1)", "B 6 T U"),
    layer("nn.Conv2d(6, 5, (3, 5), padding=(1, 2), dilation=(1, 2))", "B 6 T U"),
    layer("nn.Conv2d(6, 6, 3, padding=1, groups=6)", "B 6 T U"),
    layer("nn.Conv2d(6, 6, (5, 3), padding=(2, 1), groups=3)", "B 6 T U"),
    layer("nn.Conv2d(1, 5, 3, padding=1)", "B 1 T U"),
    layer("nn.Conv2d(6, 5, (1, 3), padding='same')", "B 6 T U"),
    layer("nn.Conv2d(6, 5, 3, padding=(2, 1), padding_mode='circular')", "B 6 T U"),
    layer("nn.ConvTranspose1d(6, 5, 4, stride=2, padding=1)"),
    layer("nn.ConvTranspose1d(6, 5, 3, stride=2, padding=1, output_padding=1)"),
    layer("nn.ConvTranspose1d(6, 4, 3, stride=2, groups=2, dilation=2)"),
    layer("nn.ConvTranspose1d(6, 6, 4, stride=2, padding=1, groups=6, bias=False)"),
    layer(
        "nn.ConvTranspose2d(6, 5, 3, stride=(2, 1), padding=1, output_padding=(1, 0))", "B 6 T U"
    ),
    layer("nn.ConvTranspose2d(6, 4, (3, 4), stride=2, groups=2)", "B 6 T U"),
    layer("nn.ConvTranspose1d(6, 5, 4, stride=2)", call="self.m(x)[..., :-2].relu()"),
    Case("F.conv1d(x, self.w, self.b, padding=1)", parameters={"w": (5, 6, 3), "b": (5,)}),
    Case("F.conv1d(x, self.w, stride=2, dilation=2, groups=2)", parameters={"w": (4, 3, 3)}),
    Case("F.conv1d(x, self.w, padding='same')", parameters={"w": (4, 6, 4)}),
    Case("F.conv2d(x, self.w, padding=(1, 0))", PLANE, parameters={"w": (5, 6, 3, 3)}),
    Case("F.conv_transpose1d(x, self.w, stride=2, output_padding=1)", parameters={"w": (6, 5, 3)}),
    Case("F.conv_transpose1d(x, self.w, stride=2, groups=2)", parameters={"w": (6, 2, 4)}),
    Case(
        "F.conv_transpose2d(x, self.w, stride=2, padding=1)", PLANE, parameters={"w": (6, 5, 3, 3)}
    ),
    Case("F.conv1d(x[:, None], torch.ones(1, 1, 5) / 5, padding=2)", {"x": "B T"}),
    layer("nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 5, 3, padding=1))"),
    layer("nn.utils.weight_norm(nn.Conv1d(6, 5, 3, padding=1))"),
    layer("nn.utils.weight_norm(nn.ConvTranspose1d(6, 5, 4, stride=2))"),
    layer("nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 6, 4, groups=2, padding=1), dim=2)"),
    layer("nn.utils.parametrizations.weight_norm(nn.Linear(6, 5))", "B T 6"),
    layer("nn.utils.spectral_norm(nn.Conv1d(6, 5, 3))"),
    # Norms.
    layer("nn.BatchNorm1d(6)"),
    layer("nn.BatchNorm1d(6)", "B 6"),
    layer("nn.BatchNorm1d(6, affine=False, eps=1e-3)"),
    layer("nn.BatchNorm2d(6)", "B 6 T U"),
    layer("nn.BatchNorm1d(6, track_running_stats=False)"),
    layer("nn.LayerNorm(6)", "B T 6"),
    layer("nn.LayerNorm(6, eps=1e-3)", "B T 6"),
    layer("nn.LayerNorm(6, bias=False)", "B T 6"),
    layer("nn.LayerNorm(6, elementwise_affine=False)", "B T 6"),
    layer("nn.LayerNorm((6, 8))", "B 6 8"),
    layer("nn.LayerNorm(6)", "B 6 T", "self.m(x.transpose(1, 2)).transpose(1, 2)"),
    layer("nn.GroupNorm(2, 6)"),
    layer("nn.GroupNorm(1, 6, eps=1e-8)"),
    layer("nn.GroupNorm(3, 6, affine=False)", "B 6 T U"),
    layer("nn.GroupNorm(2, 6)", "B 6"),
    layer("nn.InstanceNorm1d(6)"),
    layer("nn.InstanceNorm1d(6, affine=True)"),
    layer("nn.InstanceNorm2d(6, affine=True, eps=1e-3)", "B 6 T U"),
    layer("nn.InstanceNorm1d(6, affine=True, track_running_stats=True)"),
    layer("nn.RMSNorm(6)", "B T 6"),
    layer("nn.RMSNorm(6, eps=1e-3, elementwise_affine=False)", "B T 6"),
    Case("F.layer_norm(x, (6,))", BEHIND),
    Case(
        "F.layer_norm(x + 100, (6,), self.w, self.b, 1e-3)",
        BEHIND,
        parameters={"w": (6,), "b": (6,)},
    ),
    Case("F.group_norm(x, 2, self.w, self.b)", parameters={"w": (6,), "b": (6,)}),
    Case("F.instance_norm(x)"),
    Case("F.rms_norm(x, (6,))", BEHIND),
    Case("F.local_response_norm(x, 2)"),
    # Pools.
    Case("F.max_pool1d(x, 3)"),
    Case("F.max_pool1d(x, 3, stride=2, padding=1, dilation=2)"),
    Case("F.max_pool1d(x, 4, ceil_mode=True)"),
    Case("F.max_pool2d(x, 2)", PLANE),
    Case("F.max_pool2d(x, (3, 2), stride=(2, 1), padding=1, ceil_mode=True)", PLANE),
    Case("F.avg_pool1d(x, 3)"),
    Case("F.avg_pool1d(x, 4, stride=3, padding=2, ceil_mode=True)"),
    Case("F.avg_pool1d(x, 3, stride=2, padding=1, count_include_pad=False)"),
    Case("F.avg_pool2d(x, 2)", PLANE),
    Case(
        "F.avg_pool2d(x, (3, 2), stride=2, padding=(1, 0), ceil_mode=True, count_include_pad=False)",
        PLANE,
    ),
    Case("F.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)", PLANE),
    Case("F.avg_pool2d(x, 2, divisor_override=3)", PLANE),
    Case("F.lp_pool1d(x, 2, 3)"),
    Case("F.adaptive_avg_pool1d(x, 1)"),
    Case("F.adaptive_avg_pool1d(x, 5)"),
    Case("F.adaptive_max_pool1d(x, 1)"),
    Case("F.adaptive_max_pool1d(x, 5)"),
    Case("F.adaptive_avg_pool2d(x, 1)", PLANE),
    Case("F.adaptive_avg_pool2d(x, (1, None))", PLANE),
    Case("F.adaptive_avg_pool2d(x, (5, 4))", PLANE),
    Case("F.adaptive_max_pool2d(x, (5, 4))", PLANE),
    layer("nn.MaxPool1d(3, 2)"),
    layer("nn.AdaptiveAvgPool1d(1)", call="self.m(x).squeeze(-1)"),
    layer("nn.AdaptiveAvgPool2d((1, 1))", "B 6 T U", "self.m(x).flatten(1)"),
    # Other sizes.
    Case("F.interpolate(x, scale_factor=2)"),
    Case("F.interpolate(x, scale_factor=0.5)"),
    Case("F.interpolate(x, scale_factor=2.0, mode='linear')"),
    Case("F.interpolate(x, scale_factor=1.7, mode='linear')"),
    Case("F.interpolate(x, scale_factor=0.4, mode='linear')"),
    Case("F.interpolate(x, size=17, mode='linear', align_corners=True)"),
    Case("F.interpolate(x, size=47, mode='nearest')"),
    Case("F.interpolate(x, scale_factor=1.5, mode='nearest-exact')"),
    Case("F.interpolate(x, size=y.shape[-1])", {"x": "B 6 T", "y": "B U"}),
    Case("F.interpolate(x, scale_factor=2)", PLANE),
    Case("F.interpolate(x, scale_factor=(1.5, 2), mode='bilinear')", PLANE),
    Case("F.interpolate(x, size=(11, 9), mode='bilinear', align_corners=True)", PLANE),
    Case("F.interpolate(x, scale_factor=1.5, mode='nearest-exact')", PLANE),
    Case("F.interpolate(x, scale_factor=0.5, mode='area')"),
    layer("nn.Upsample(scale_factor=2)"),
    layer("nn.Upsample(scale_factor=2, mode='bilinear')", "B 6 T U"),
    # Recurrent layers.
    layer("nn.LSTM(6, 5, batch_first=True)", "B T 6", "self.m(x)[0]"),
    layer("nn.LSTM(6, 5)", "T B 6", "self.m(x)[0]"),
    layer(
        "nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)", "B T 6", "self.m(x)[0]"
    ),
    layer(
        "nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)",
        "B T 6",
        "y, (h, c) = self.m(x)\ny, h, c",
    ),
    layer("nn.LSTM(6, 5, num_layers=2)", "T B 6", "y, (h, c) = self.m(x)\nh[-1], c"),
    layer(
        "nn.LSTM(6, 5, batch_first=True)",
        "B T 6",
        "y, (h, c) = self.m(x)\ny2, _ = self.m(x, (h, c))\ny2",
    ),
    Case(
        "self.m(x, (h, c))[0]",
        {"x": "B T 6", "h": "1 B 5", "c": "1 B 5"},
        {"m": "nn.LSTM(6, 5, batch_first=True)"},
    ),
    Case(
        "self.m(x, (h, c))",
        {"x": "T B 6", "h": "2 B 5", "c": "2 B 5"},
        {"m": "nn.LSTM(6, 5, bidirectional=True)"},
    ),
    layer(
        "nn.LSTM(6, 5, batch_first=True)", "B 6 T", "self.m(x.transpose(1, 2))[0].transpose(1, 2)"
    ),
    layer("nn.GRU(6, 5, batch_first=True)", "B T 6", "self.m(x)[0]"),
    layer("nn.GRU(6, 5, num_layers=2, bidirectional=True)", "T B 6", "self.m(x)[0]"),
    layer(
        "nn.GRU(6, 5, num_layers=2, bidirectional=True, batch_first=True)", "B T 6", "self.m(x)[1]"
    ),
    layer("nn.GRU(6, 5, batch_first=True)", "B T 6", "y, h = self.m(x)\ny[:, -1] + h[-1]"),
    Case("self.m(x, h)", {"x": "B T 6", "h": "1 B 5"}, {"m": "nn.GRU(6, 5, batch_first=True)"}),
    Case(
        "self.m(x, torch.zeros(1, x.shape[0], 5))[0]",
        {"x": "B T 6"},
        {"m": "nn.GRU(6, 5, batch_first=True)"},
    ),
    layer("nn.RNN(6, 5, batch_first=True)", "B T 6", "self.m(x)[0]"),
    layer("nn.RNN(6, 5, num_layers=2, bidirectional=True)", "T B 6", "self.m(x)[1]"),
    layer("nn.RNN(6, 5, nonlinearity='relu', batch_first=True)", "B T 6", "self.m(x)[0]"),
    Case("self.m(x, h)", {"x": "B T 6", "h": "1 B 5"}, {"m": "nn.RNN(6, 5, batch_first=True)"}),
    # Attention.
    layer("nn.MultiheadAttention(6, 2, batch_first=True)", "B T 6", "self.m(x, x, x)[0]"),
    layer("nn.MultiheadAttention(6, 3)", "T B 6", "self.m(x, x, x, need_weights=False)[0]"),
    layer("nn.MultiheadAttention(6, 2, bias=False)", "T B 6", "y, w = self.m(x, x, x)\ny, w"),
    Case(
        "self.m(x, y, y)[0]",
        {"x": "B T 6", "y": "B U 6"},
        {"m": "nn.MultiheadAttention(6, 2, batch_first=True)"},
    ),
    Case(
        "self.m(x, y, y * 2, key_padding_mask=torch.arange(y.shape[1])[None] > 4)[0]",
        {"x": "1 T 6", "y": "1 U 6"},
        {"m": "nn.MultiheadAttention(6, 2, batch_first=True)"},
    ),
    Case(
        "mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()\nself.m(x, x, x, attn_mask=mask)[0]",
        {"x": "B T 6"},
        {"m": "nn.MultiheadAttention(6, 2, batch_first=True)"},
    ),
    Case(
        "self.m(x, x, x, attn_mask=m)[0]",
        {"x": "B 5 6", "m": "5 5"},
        {"m": "nn.MultiheadAttention(6, 2, batch_first=True)"},
    ),
    layer("nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)", "B T 6"),
    layer("nn.TransformerEncoderLayer(6, 2, 8, norm_first=True, activation='gelu')", "T B 6"),
    # Others.
    layer(
        "nn.Sequential(nn.Conv1d(6, 5, 3, padding=1), nn.ReLU(), nn.BatchNorm1d(5), nn.Dropout(0.1), nn.Conv1d(5, 4, 1))"
    ),
    layer(
        "nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5, bias=False), nn.Sigmoid())",
        "B T 6",
    ),
    layer(
        "nn.Linear(6, 8)", "B T 6", "self.m(x).unflatten(-1, (2, 4)).transpose(1, 2).softmax(-1)"
    ),
]
