"""A tokenizer of some words, with BERT's special tokens: no training, so that every id is known."""

from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from minigpt.tokenizer_file import wrapped

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_tokenizer(words, template=True):
    """A WordPiece whose tokens after the five special ones are `words`, in order."""
    vocabulary = [*SPECIALS, *words]
    backend = Backend(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(SPECIALS)
    if template:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    return wrapped(backend)
