"""RoBERTa (Liu et al. 2019): BERT, whose positions are counted from 2, and which classifies with a map of its own."""

from minigpt.exchange.changes import after_rows
from minigpt.exchange.families.bert import ANSWERS, CLASSES, FIXED, NAMES, OLDER, POOLED, SETTINGS, UNPOOLED
from minigpt.exchange.family import Architecture, Family, Row, Setting
from minigpt.models.bert import BERT, BERTConfig
from minigpt.models.heads import AnswerExtractor, MaskedLM, SequenceClassifier, TokenClassifier

_UNUSED = 2  # rows of the table of positions: pad_token_id + 1
_WORDS = (
    Row("lm_head.dense.{p}", "dense.{p}"),
    Row("lm_head.layer_norm.{p}", "ln.{p}"),
    Row("lm_head.bias", "bias"),
)

FAMILY = Family(
    model_type="roberta",
    classes={
        "RobertaModel": Architecture(
            BERT, (Row("pooler.dense.{p}", "pooler.{p}"),), absent={"pooler.dense.weight": UNPOOLED}, bare=True
        ),
        "RobertaForMaskedLM": Architecture(MaskedLM, _WORDS, UNPOOLED),
        "RobertaForSequenceClassification": Architecture(
            SequenceClassifier,
            (Row("classifier.dense.{p}", "bert.pooler.{p}"), Row("classifier.out_proj.{p}", "classifier.{p}")),
            POOLED,
        ),
        "RobertaForTokenClassification": Architecture(TokenClassifier, CLASSES, UNPOOLED),
        "RobertaForQuestionAnswering": Architecture(AnswerExtractor, ANSWERS, UNPOOLED),
    },
    config=BERTConfig,
    settings=(
        Setting("vocab_size", "vocab_size", 50265),
        *(setting for setting in SETTINGS if setting.ours != "vocab_size"),
        Setting(
            "block_size",
            "max_position_embeddings",
            512,
            read=lambda rows: rows - _UNUSED,
            write=lambda positions: positions + _UNUSED,
        ),
        Setting("activation", "hidden_act", "gelu", values={"gelu": "gelu"}),  # which the head of masked words always has
    ),
    fixed=FIXED | {"pad_token_id": (_UNUSED - 1,)},
    written={"bos_token_id": 0, "eos_token_id": 2, "initializer_range": 0.02},
    prefix="roberta.",
    own="bert.",
    names=(*NAMES, Row("embeddings.position_embeddings.weight", "wpe.weight", after_rows(_UNUSED))),
    copies={"lm_head.decoder.weight": "embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"},
    ignored=("embeddings.position_ids", "pooler.dense.{p}"),
    older=OLDER,
)
