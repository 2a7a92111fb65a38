"""DistilBERT (Sanh et al. 2019): BERT without segments, which classifies with a map of its own."""

from minigpt.exchange.activations import activation
from minigpt.exchange.families.bert import ANSWERS, CLASSES, FIXED
from minigpt.exchange.family import Architecture, Family, Row, Setting, labels
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.heads import AnswerExtractor, MaskedLM, SequenceClassifier, TokenClassifier

_UNPOOLED = {"n_segments": 0, "pooler": None}
_WORDS = (
    Row("vocab_transform.{p}", "dense.{p}"),
    Row("vocab_layer_norm.{p}", "ln.{p}"),
    Row("vocab_projector.bias", "bias"),
)
_LAYER, _OURS = "transformer.layer.{i}", "h.{i}"

FAMILY = Family(
    model_type="distilbert",
    classes={
        "DistilBertModel": Architecture(BERT, config=_UNPOOLED, bare=True),
        "DistilBertForMaskedLM": Architecture(MaskedLM, _WORDS, _UNPOOLED),
        "DistilBertForSequenceClassification": Architecture(
            SequenceClassifier,
            (Row("pre_classifier.{p}", "bert.pooler.{p}"), *CLASSES),
            {"n_segments": 0, "pooler": "relu"},
        ),
        "DistilBertForTokenClassification": Architecture(TokenClassifier, CLASSES, _UNPOOLED),
        "DistilBertForQuestionAnswering": Architecture(AnswerExtractor, ANSWERS, _UNPOOLED),
    },
    config=BERTConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 30522),
        Setting("block_size", "max_position_embeddings", 512),
        Setting("n_layer", "n_layers", 6),
        Setting("n_head", "n_heads", 12),
        Setting("n_embd", "dim", 768),
        Setting("n_inner", "hidden_dim", 3072),
        Setting("dropout", "dropout", 0.1),
        Setting("attention_dropout", "attention_dropout", 0.1),
        activation("activation", "gelu"),
        *labels(),
    ),
    fixed={name: FIXED[name] for name in ("tie_word_embeddings", "problem_type")},
    written={"pad_token_id": 0, "initializer_range": 0.02},
    prefix="distilbert.",
    own="bert.",
    names=(
        Row("embeddings.word_embeddings.weight", "wte.weight"),
        Row("embeddings.position_embeddings.weight", "wpe.weight"),
        Row("embeddings.LayerNorm.{p}", "ln.{p}"),
        Row(f"{_LAYER}.attention.q_lin.{{p}}", f"{_OURS}.attn.q_proj.{{p}}"),
        Row(f"{_LAYER}.attention.k_lin.{{p}}", f"{_OURS}.attn.k_proj.{{p}}"),
        Row(f"{_LAYER}.attention.v_lin.{{p}}", f"{_OURS}.attn.v_proj.{{p}}"),
        Row(f"{_LAYER}.attention.out_lin.{{p}}", f"{_OURS}.attn.out_proj.{{p}}"),
        Row(f"{_LAYER}.sa_layer_norm.{{p}}", f"{_OURS}.ln_1.{{p}}"),
        Row(f"{_LAYER}.ffn.lin1.{{p}}", f"{_OURS}.mlp.up.{{p}}"),
        Row(f"{_LAYER}.ffn.lin2.{{p}}", f"{_OURS}.mlp.down.{{p}}"),
        Row(f"{_LAYER}.output_layer_norm.{{p}}", f"{_OURS}.ln_2.{{p}}"),
    ),
    copies={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
    ignored=("embeddings.position_ids",),
)
