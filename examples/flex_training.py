"""Trains a small language model whose attention is written for FlexAttention: ALiBi, a bias per
distance that is learnt as T5's, and documents packed into one row.

python examples/flex_training.py [steps]

With torch's import instead of Heed's the same script needs a GPU: on a CPU, torch's FlexAttention
has no backward.
"""

import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heed.flex_attention import create_block_mask, flex_attention

B, H, T, D, V = 8, 4, 128, 16, 32  # rows, heads, tokens of a row, width of a head, tokens known
BUCKETS = 16  # of distances


def packed_documents() -> tuple[Tensor, Tensor]:
    """Rows of documents, each a random word said again and again: tokens and document numbers,
    both [B,T + 1]. What comes next is known to whoever looks back one word."""
    tokens = torch.empty(B, T + 1, dtype=torch.long)
    document = torch.empty(B, T + 1, dtype=torch.long)
    for row in range(B):
        start = number = 0
        while start <= T:
            end = min(start + int(torch.randint(24, 64, ())), T + 1)
            word = torch.randint(V, (int(torch.randint(2, 7, ())),))
            tokens[row, start:end] = word.repeat(32)[: end - start]
            document[row, start:end] = number
            start, number = end, number + 1
    return tokens, document


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(H * D, 3 * H * D)
        self.to_out = nn.Linear(H * D, H * D)
        self.bias = nn.Parameter(torch.zeros(BUCKETS, H))
        self.register_buffer("slope", 2.0 ** (-8 * torch.arange(1, H + 1) / H))

    def forward(self, x: Tensor, document: Tensor) -> Tensor:
        def alibi_and_t5(score, b, h, q_idx, kv_idx):
            distance = q_idx - kv_idx
            far = 8 + (torch.log(distance.clamp(min=1) / 8) * (8 / math.log(16))).int()
            bucket = torch.where(distance < 8, distance.clamp(min=0), far.clamp(8, BUCKETS - 1))
            return score - self.slope[h] * distance + self.bias[bucket, h]

        def same_document(b, h, q_idx, kv_idx):
            return (document[b, q_idx] == document[b, kv_idx]) & (kv_idx <= q_idx)

        q, k, v = self.to_qkv(x).view(B, T, 3, H, D).permute(2, 0, 3, 1, 4)  # [B,H,T,D] each
        mask = create_block_mask(same_document, B, None, T, T, device="cpu")
        out = flex_attention(q, k, v, score_mod=alibi_and_t5, block_mask=mask)
        return self.to_out(out.transpose(1, 2).reshape(B, T, H * D))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, H * D)
        self.attention = nn.ModuleList(Attention() for _ in range(2))
        self.norm = nn.ModuleList(nn.LayerNorm(H * D) for _ in range(3))
        self.to_tokens = nn.Linear(H * D, V)

    def forward(self, tokens: Tensor, document: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for attention, norm in zip(self.attention, self.norm, strict=False):
            x = x + attention(norm(x), document)
        return self.to_tokens(self.norm[-1](x))


def train(steps: int = 300) -> list[float]:
    """The losses, in nats a token."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for step in range(steps):
        tokens, document = packed_documents()
        logits = model(tokens[:, :-1], document[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    train(*map(int, sys.argv[1:]))
