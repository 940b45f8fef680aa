"""ONNX's attention operators over torch tensors, with the operators' own names and meanings.

Inputs and attributes keep their names in lower case, and what a node omits is omitted here. The
definitions are those of onnx 1.23: Attention from opset 23, LinearAttention from opset 27, and
FlexAttention 1 of the domain ai.onnx.preview.
"""

from heed.onnx.attention import attention
from heed.onnx.flex_attention import flex_attention
from heed.onnx.linear_attention import linear_attention

__all__ = ["attention", "flex_attention", "linear_attention"]
