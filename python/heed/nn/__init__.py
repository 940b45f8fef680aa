"""Attention mechanisms as torch modules, one a file; docs/mechanisms has a page for each.

They run on the operators of `heed`, and their parameters have the names and sizes of the modules
in C++ (`heed/nn`), so that state dicts interchange. Letters in shapes are those of `heed`; E is the
width of a model.
"""

from heed.nn.adaptive_span_attention import AdaptiveSpanAttention
from heed.nn.additive_attention import AdditiveAttention
from heed.nn.alibi import Alibi
from heed.nn.attention_pooling import AttentionPooling
from heed.nn.attention_positions import AttentionHeads, AttentionPositions
from heed.nn.block_attention import BlockAttention
from heed.nn.cbam import Cbam, CbamOutput
from heed.nn.content_location_attention import ContentLocationAttention
from heed.nn.cosine_attention import CosineAttention
from heed.nn.coverage_attention import CoverageAttention, CoverageOutput
from heed.nn.document_attention import DocumentAttention
from heed.nn.dot_attention import DotAttention
from heed.nn.dynamic_sparse_attention import DynamicSparseAttention
from heed.nn.feed_forward import FeedForward
from heed.nn.general_attention import GeneralAttention
from heed.nn.hierarchical_attention import HierarchicalAttention, HierarchicalOutput
from heed.nn.kernel_regression import KernelRegression
from heed.nn.key_value_cache import KeyValueCache
from heed.nn.learned_positions import LearnedPositions
from heed.nn.linear_attention import LinearAttention
from heed.nn.local_attention import LocalAttention
from heed.nn.local_predictive_attention import LocalPredictiveAttention
from heed.nn.location_attention import LocationAttention
from heed.nn.location_sensitive_attention import LocationSensitiveAttention
from heed.nn.longformer_attention import LongformerAttention
from heed.nn.multi_head_attention import MultiHeadAttention
from heed.nn.non_local_attention import NonLocalAttention
from heed.nn.random_feature_attention import RandomFeatureAttention
from heed.nn.relative_positions import RelativePositions
from heed.nn.relative_positions_2d import RelativePositions2d
from heed.nn.rotary_positions import RotaryPositions, RotaryScaling
from heed.nn.sentinel_attention import SentinelAttention, SentinelOutput, VisualSentinel
from heed.nn.set_attention import (
    InducedSetAttentionBlock,
    MultiheadAttentionBlock,
    PoolingByMultiheadAttention,
    SetAttentionBlock,
)
from heed.nn.sinusoidal_positions import SinusoidalPositions
from heed.nn.squeeze_excitation import SqueezeExcitation
from heed.nn.t5_bias import T5Bias
from heed.nn.token_embedding import TokenEmbedding
from heed.nn.top_k_attention import TopKAttention
from heed.nn.transformer_decoder import (
    TransformerDecoder,
    TransformerDecoderCache,
    TransformerDecoderLayer,
    TransformerDecoderLayerCache,
)
from heed.nn.transformer_encoder import TransformerEncoder, TransformerEncoderLayer
from heed.nn.transformer_xl_positions import TransformerXLPositions

__all__ = [
    "AdaptiveSpanAttention",
    "AdditiveAttention",
    "Alibi",
    "AttentionHeads",
    "AttentionPooling",
    "AttentionPositions",
    "BlockAttention",
    "Cbam",
    "CbamOutput",
    "ContentLocationAttention",
    "CosineAttention",
    "CoverageAttention",
    "CoverageOutput",
    "DocumentAttention",
    "DotAttention",
    "DynamicSparseAttention",
    "FeedForward",
    "GeneralAttention",
    "HierarchicalAttention",
    "HierarchicalOutput",
    "InducedSetAttentionBlock",
    "KernelRegression",
    "KeyValueCache",
    "LearnedPositions",
    "LinearAttention",
    "LocalAttention",
    "LocalPredictiveAttention",
    "LocationAttention",
    "LocationSensitiveAttention",
    "LongformerAttention",
    "MultiHeadAttention",
    "MultiheadAttentionBlock",
    "NonLocalAttention",
    "PoolingByMultiheadAttention",
    "RandomFeatureAttention",
    "RelativePositions",
    "RelativePositions2d",
    "RotaryPositions",
    "RotaryScaling",
    "SentinelAttention",
    "SentinelOutput",
    "SetAttentionBlock",
    "SinusoidalPositions",
    "SqueezeExcitation",
    "T5Bias",
    "TokenEmbedding",
    "TopKAttention",
    "TransformerDecoder",
    "TransformerDecoderCache",
    "TransformerDecoderLayer",
    "TransformerDecoderLayerCache",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TransformerXLPositions",
    "VisualSentinel",
]
