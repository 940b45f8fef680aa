"""Attention over words, then over sentences (Yang et al. 2016)."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from heed.nn._heads import output_and_weights
from heed.nn.attention_pooling import AttentionPooling


class HierarchicalOutput(NamedTuple):
    output: Tensor  # [B,E'], the documents
    word_weights: Tensor | None  # [B,N,T], of the words of each sentence; only if asked for
    sentence_weights: Tensor | None  # [B,N]


class HierarchicalAttention(nn.Module):
    """sentence[i] = sum_t softmax_t(<u_w, tanh(W_w h[i,t] + b_w)>) h[i,t], document likewise.

    Words are read by a bidirectional GRU, pooled by attention into sentences, which a second GRU
    reads and a second attention pools into the document. Yang et al. 2016, "Hierarchical Attention
    Networks for Document Classification".

    Args:
        embed_size: E, width of a word.
        hidden_size: of the hidden layers of both attentions.
        encoder_size: of each direction of both GRUs, so that E' = 2 encoder_size; 0: no GRUs, for
            words that know their context already, and E' = E.
    """

    def __init__(self, embed_size: int, hidden_size: int, *, encoder_size: int = 0) -> None:
        super().__init__()
        width = 2 * encoder_size or embed_size
        self.word_encoder = _gru(embed_size, encoder_size)
        self.word_attention = AttentionPooling(width, hidden_size=hidden_size)
        self.sentence_encoder = _gru(width, encoder_size)
        self.sentence_attention = AttentionPooling(width, hidden_size=hidden_size)

    def reset_parameters(self) -> None:
        for module in self.children():
            module.reset_parameters()  # type: ignore[operator]

    def forward(
        self,
        words: Tensor,
        word_lengths: Tensor | None = None,
        sentence_lengths: Tensor | None = None,
        *,
        return_weights: bool = False,
    ) -> HierarchicalOutput:
        """words [B,N,T,E]; word_lengths int64 [B,N], words of each sentence; sentence_lengths
        int64 [B], sentences of each document. None: all."""
        B, N, T, _ = words.shape
        x = words.flatten(0, 1)  # [B*N,T,E]
        of_words = None if word_lengths is None else word_lengths.flatten()
        read = _encode(self.word_encoder, x, of_words)
        pooled, word_weights = output_and_weights(
            self.word_attention(read, of_words, return_weights=return_weights)
        )
        sentences = pooled.view(B, N, -1)
        read = _encode(self.sentence_encoder, sentences, sentence_lengths)
        output, sentence_weights = output_and_weights(
            self.sentence_attention(read, sentence_lengths, return_weights=return_weights)
        )
        return HierarchicalOutput(
            output.squeeze(1),
            None if word_weights is None else word_weights.view(B, N, T),
            None if sentence_weights is None else sentence_weights.squeeze(1),
        )


def _gru(input_size: int, encoder_size: int) -> nn.GRU | None:
    if encoder_size == 0:
        return None
    return nn.GRU(input_size, encoder_size, batch_first=True, bidirectional=True)


def _encode(gru: nn.GRU | None, x: Tensor, lengths: Tensor | None) -> Tensor:
    """x [B,T,E], lengths [B] -> [B,T,2 encoder_size]."""
    if gru is None:
        return x
    if lengths is None:
        return gru(x)[0]
    # An empty row may not be packed; the attention after it reads none of it.
    packed = pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]
