"""Attention among blocks: neighbours, global and drawn blocks (Zaheer et al. 2020, BigBird)."""

import torch
from torch import Tensor, nn

from heed.attention import Corner
from heed.nn._heads import Output, attend_heads, check_heads


class BlockAttention(nn.Module):
    """Scaled dot products between blocks of block_size tokens; i of the query, j of the key:

        |i - j| <= neighbours  or  i < global_blocks  or  j < global_blocks  or  j in drawn[h, i]

    Zaheer et al. 2020, "Big Bird: Transformers for Longer Sequences"; without global and drawn
    blocks and with neighbours = 0 it is blockwise attention (Qiu et al. 2020). Time grows with
    T * block_size * (2 neighbours + 1 + 2 global_blocks + random_blocks).

    Args:
        block_size: tokens of a block.
        heads: H; the last dimension of query, keys and values is split among them.
        neighbours: blocks seen on either side.
        global_blocks: the first blocks, which see all and are seen by all.
        random_blocks: blocks drawn for each block of queries and head, perhaps one seen already.
        seed: which blocks are drawn is a function of it, the heads and the number of blocks.
        causal: None, "top_left" or "bottom_right": in addition to the rule above; the queries'
            places count from this corner.
        dropout: probability with which a weight is dropped while training.
    """

    def __init__(
        self,
        block_size: int,
        *,
        heads: int = 1,
        neighbours: int = 1,
        global_blocks: int = 0,
        random_blocks: int = 0,
        seed: int = 0,
        causal: Corner | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("BlockAttention", heads)
        if block_size < 1:
            raise ValueError(f"[BlockAttention] block_size: expected at least 1, got {block_size}")
        self.block_size = block_size
        self.heads = heads
        self.neighbours = neighbours
        self.global_blocks = global_blocks
        self.random_blocks = random_blocks
        self.seed = seed
        self.causal: Corner | None = causal
        self.dropout = dropout

    def drawn(self, T: int, S: int) -> Tensor:
        """Blocks of keys that each block of queries sees besides (perhaps one that it sees already):
        int64 [H,blocks of queries' places,random]."""
        places = max(T, S) if self.causal == "bottom_right" else T
        rows, columns = -(-places // self.block_size), -(-S // self.block_size)
        generator = torch.Generator().manual_seed(self.seed)
        sizes = (self.heads, rows, self.random_blocks)
        return torch.randint(max(columns, 1), sizes, generator=generator)

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> Output:
        """query [B,T,H*D], keys [B,S,H*D], values [B,S,H*Dv], lengths int64 [B] of keys.

        Returns output [B,T,H*Dv], with return_weights (output, weights [B,H,T,S]).
        """
        T, S = query.shape[1], keys.shape[1]
        drawn = self.drawn(T, S)
        from_the_end = self.causal == "bottom_right"
        # Names of its own, not self's, so that the program is known in the next call.
        block_size, neighbours = self.block_size, self.neighbours
        global_blocks, random_blocks, rows = self.global_blocks, self.random_blocks, drawn.shape[1]

        def seen(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
            place = t - T + (S if lengths is None else lengths[b]) if from_the_end else t
            i, j = place // block_size, s // block_size
            mask = (i - j).abs() <= neighbours
            if global_blocks > 0:
                mask = mask | (i < global_blocks) | (j < global_blocks)
            # Queries before the first place see nothing; the clamp proves the index to be inside.
            row = i.clamp(0, rows - 1) if from_the_end else i
            for n in range(random_blocks):
                mask = mask | (drawn[h, row, n] == j)
            return mask

        return attend_heads(
            query,
            keys,
            values,
            self.heads,
            return_weights,
            mask_mod=seen,
            causal=self.causal,
            kv_lengths=lengths,
            dropout_p=self.dropout if self.training else 0.0,
        )

    def extra_repr(self) -> str:
        return (
            f"block_size={self.block_size}, heads={self.heads}, neighbours={self.neighbours}, "
            f"global_blocks={self.global_blocks}, random_blocks={self.random_blocks}, "
            f"causal={self.causal}"
        )
