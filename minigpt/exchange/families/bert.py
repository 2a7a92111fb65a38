"""BERT (Devlin et al. 2019)."""

from collections.abc import Mapping
from typing import Any

from minigpt.exchange.activations import activation
from minigpt.exchange.family import Architecture, Family, Row, Setting, labels
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.heads import AnswerExtractor, MaskedLM, SequenceClassifier, TokenClassifier

UNPOOLED: Mapping[str, Any] = {"pooler": None}
POOLED: Mapping[str, Any] = {"pooler": "tanh"}
ANSWERS = (Row("qa_outputs.{p}", "classifier.{p}"),)
CLASSES = (Row("classifier.{p}", "classifier.{p}"),)

# RoBERTa's are the same, but for the values of some.
SETTINGS = (
    Setting("vocab_size", "vocab_size", 30522),
    Setting("n_layer", "num_hidden_layers", 12),
    Setting("n_head", "num_attention_heads", 12),
    Setting("n_embd", "hidden_size", 768),
    Setting("n_inner", "intermediate_size", 3072),
    Setting("n_segments", "type_vocab_size", 2),
    Setting("dropout", "hidden_dropout_prob", 0.1),
    Setting("attention_dropout", "attention_probs_dropout_prob", 0.1),
    Setting("norm_eps", "layer_norm_eps", 1e-12),
    *labels(),
)
FIXED = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "problem_type": (None, "single_label_classification"),  # one of the labels is right, not a number or several
}
_LAYER, _OURS = "encoder.layer.{i}", "h.{i}"
NAMES = (
    Row("embeddings.word_embeddings.weight", "wte.weight"),
    Row("embeddings.token_type_embeddings.weight", "wse.weight"),
    Row("embeddings.LayerNorm.{p}", "ln.{p}"),
    Row(f"{_LAYER}.attention.self.query.{{p}}", f"{_OURS}.attn.q_proj.{{p}}"),
    Row(f"{_LAYER}.attention.self.key.{{p}}", f"{_OURS}.attn.k_proj.{{p}}"),
    Row(f"{_LAYER}.attention.self.value.{{p}}", f"{_OURS}.attn.v_proj.{{p}}"),
    Row(f"{_LAYER}.attention.output.dense.{{p}}", f"{_OURS}.attn.out_proj.{{p}}"),
    Row(f"{_LAYER}.attention.output.LayerNorm.{{p}}", f"{_OURS}.ln_1.{{p}}"),
    Row(f"{_LAYER}.intermediate.dense.{{p}}", f"{_OURS}.mlp.up.{{p}}"),
    Row(f"{_LAYER}.output.dense.{{p}}", f"{_OURS}.mlp.down.{{p}}"),
    Row(f"{_LAYER}.output.LayerNorm.{{p}}", f"{_OURS}.ln_2.{{p}}"),
)
OLDER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

_WORDS = (
    Row("cls.predictions.transform.dense.{p}", "dense.{p}"),
    Row("cls.predictions.transform.LayerNorm.{p}", "ln.{p}"),
    Row("cls.predictions.bias", "bias"),
)

FAMILY = Family(
    model_type="bert",
    classes={
        "BertModel": Architecture(BERT, absent={"pooler.dense.weight": UNPOOLED}, bare=True),
        "BertForMaskedLM": Architecture(MaskedLM, _WORDS, UNPOOLED),
        "BertForSequenceClassification": Architecture(SequenceClassifier, CLASSES, POOLED),
        "BertForTokenClassification": Architecture(TokenClassifier, CLASSES, UNPOOLED),
        "BertForQuestionAnswering": Architecture(AnswerExtractor, ANSWERS, UNPOOLED),
    },
    config=BERTConfig,
    settings=(
        *SETTINGS,
        Setting("block_size", "max_position_embeddings", 512),
        activation("hidden_act", "gelu"),
    ),
    fixed=FIXED,
    written={"pad_token_id": 0, "initializer_range": 0.02},
    prefix="bert.",
    own="bert.",
    names=(
        *NAMES,
        Row("embeddings.position_embeddings.weight", "wpe.weight"),
        Row("pooler.dense.{p}", "pooler.{p}"),
    ),
    copies={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=("embeddings.position_ids", "pooler.dense.{p}", "cls.seq_relationship.{p}"),
    older=OLDER,
)
