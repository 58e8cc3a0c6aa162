"""Where the prunable parts of an architecture lie: names of tensors within a layer, and the keys of config.json.

Two layouts cover what is supported: BERT's, and Llama's. Knows no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.kernel.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Names are those of modules inside a layer, without `.weight` and `.bias`.

    A feed-forward channel is one row of each of `rises` and one column of `falls`. A key-value group is a run of rows
    of `keys`, the rows of its query heads in `queries`, and their columns of `joins`; empty where an architecture ties
    the number of heads to its width.
    """

    layer: re.Pattern[str]
    rises: tuple[str, ...]
    falls: str
    queries: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    joins: str = ""

    def place(self, tensor: str) -> tuple[int, str, str] | None:
        """Return layer, module and kind (weight or bias) of a tensor inside a layer; None for one outside."""
        found = self.layer.match(tensor)
        if found is None:
            return None
        module, _, kind = tensor[found.end() :].rpartition(".")
        return int(found[1]), module, kind

    def renumbered(self, tensor: str, layer: int) -> str:
        """Return a tensor's name in another layer."""
        found = self.layer.match(tensor)
        if found is None:
            raise ValueError(f"{tensor} lies in no layer")
        return f"{tensor[: found.start(1)]}{layer}{tensor[found.end(1) :]}"

    def layers(self, tensors: Iterable[str]) -> int:
        """Count the layers that tensors belong to."""
        return 1 + max((place[0] for name in tensors if (place := self.place(name))), default=-1)


_BERT: Final = Layout(
    layer=re.compile(r"(?:\w+\.)?encoder\.layer\.(\d+)\."), rises=("intermediate.dense",), falls="output.dense"
)
_LLAMA: Final = Layout(
    layer=re.compile(r"(?:model\.)?layers\.(\d+)\."),
    rises=("mlp.gate_proj", "mlp.up_proj"),
    falls="mlp.down_proj",
    queries=("self_attn.q_proj",),
    keys=("self_attn.k_proj", "self_attn.v_proj"),
    joins="self_attn.o_proj",
)
LAYOUTS: Final = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA),
}


def layout_of(family: str) -> Layout:
    """Return the layout of an architecture. Raises BadInput `training.not_prunable`."""
    layout = LAYOUTS.get(family)
    if layout is None:
        raise BadInput(
            "training.not_prunable",
            f"Parts of the architecture {family[:40]!r} cannot be taken out here.",
            hint=f"Those that can: {', '.join(sorted(LAYOUTS))}.",
        )
    return layout
