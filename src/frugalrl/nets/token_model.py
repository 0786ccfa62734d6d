"""Causal language models of Hugging Face transformers: made from sizes, or read from a folder."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frugalrl.nets.config import TokenNetConfig
from frugalrl.types import UserError


class TokenModel(nn.Module):
    """A causal language model as a function of tokens, with and without a cache of keys and values.

    All rows of a call have the same length, so there is no padding and no attention mask.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        # the keyword was renamed within the versions that we take
        names = inspect.signature(lm.forward).parameters
        self._cache_keyword = "cache" if "cache" in names else "past_key_values"

    @property
    def vocabulary(self) -> int:
        """V, the number of tokens."""
        return int(self.lm.config.vocab_size)

    def forward(self, ids: Tensor, keep: int = 0) -> Tensor:
        """[N, L] -> logits [N, L, V], or of the last ``keep`` positions alone; float32 or wider."""
        return _wide(self.lm(input_ids=ids, use_cache=False, logits_to_keep=keep).logits)

    def empty_cache(self) -> Any:
        """Where ``extend`` keeps keys and values."""
        return _transformers().DynamicCache(config=self.lm.config)

    def extend(self, ids: Tensor, cache: Any) -> Tensor:
        """Append [N, L] to what the cache holds; returns the logits [N, V] of the token that comes next."""
        given = {self._cache_keyword: cache}
        return _wide(self.lm(input_ids=ids, use_cache=True, logits_to_keep=1, **given).logits[:, -1])


def build_token_model(config: TokenNetConfig, *, vocabulary: int, longest: int) -> TokenModel:
    """A model over at least ``vocabulary`` tokens for sequences of ``longest`` tokens, ready for inference.

    Raises UserError: transformers is missing, the folder holds no model, or one that is too small for the task.
    """
    lm = _random(config, vocabulary, longest) if config.checkpoint is None else _read(Path(config.checkpoint))
    known = lm.config
    if known.vocab_size < vocabulary:
        raise UserError(
            f"net.checkpoint={config.checkpoint} has {known.vocab_size} tokens and the task {vocabulary}: its tokens "
            f"must be those of the task, in the same order"
        )
    positions = getattr(known, "max_position_embeddings", longest)
    if positions < longest:
        raise UserError(
            f"net.checkpoint={config.checkpoint} takes {positions} tokens and the task needs {longest}; give a smaller "
            f"length with --env-kwargs"
        )
    return TokenModel(lm.eval())


def _random(config: TokenNetConfig, vocabulary: int, longest: int) -> Any:
    library = _transformers()
    sizes = library.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=longest,
        initializer_range=config.init_std,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return library.LlamaForCausalLM(sizes)


def _read(folder: Path) -> Any:
    """A model from a local folder; nothing is fetched, nothing is unpickled, no code of the folder is run."""
    if not (folder / "config.json").is_file():
        raise UserError(f"net.checkpoint={folder} holds no config.json; give the folder of a model")
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"net.checkpoint={folder} has a config.json but no weights (*.safetensors); save the model there with "
            f"save_pretrained, or leave net.checkpoint out for random weights"
        )
    library = _transformers()
    try:
        lm, told = library.AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # a broken folder makes transformers raise anything
        raise UserError(f"net.checkpoint={folder} cannot be read: {' '.join(str(error).split())[:300]}") from error
    wrong = sorted({*told["missing_keys"], *(str(key) for key in told.get("mismatched_keys", ()))})
    if wrong:
        raise UserError(f"net.checkpoint={folder} has no weights that fit {', '.join(wrong[:3])}; give a whole model")
    return lm


def _transformers() -> Any:
    try:
        library: Any = importlib.import_module("transformers")
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise UserError("language models need the package transformers; run: pip install 'frugalrl[lm]'") from error
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
