"""The gateway that the workers ask: by which key, which models, which of them have no price.

A shell beside the fleet may have other settings than the workers, or none of theirs. So workers say it with
their heartbeat (app.runs.workers), and what they say counts.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from app.settings import Settings
from app.usage.prices import models_without_price


@dataclass(frozen=True, slots=True)
class Asked:
    """The gateway as a process asks it. `key` is the fingerprint of URL and key, never the key. `models` are
    asked first, `others` in their place. `unpriced` are those of both without a known price;
    `is_free`: their calls count as free.
    """

    key: str
    key_name: str
    withheld: str | None
    models: tuple[str, ...]
    others: tuple[str, ...]
    unpriced: tuple[str, ...]
    is_free: bool
    call_tokens: int
    """LLM tokens that any call reserves at least."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Asked | None":
        """Gateway and models that a worker wrote down. One of another release may tell more; None when it
        told less.
        """
        if any(field.name not in values for field in fields(cls)):
            return None
        known = {field.name: values[field.name] for field in fields(cls)}
        lists = ("models", "others", "unpriced")
        return cls(**known | {name: tuple(known[name]) for name in lists})

    def fallback_of(self, model: str) -> str | None:
        """Return the model that replaces one that is gone."""
        return next((other for other in self.others if other != model), None)

    @property
    def price_problem(self) -> str | None:
        """Say which models no budget can hold, because they have no price; None when all have one."""
        if not self.unpriced:
            return None
        what = "their calls are counted as free" if self.is_free else "no budget can hold their calls"
        return (
            f"no price is known for {', '.join(self.unpriced)}, so {what}: set PACELINE_USAGE__PRICES "
            f'(\'[{{"model": "{self.unpriced[0]}", "input": 0.6, "output": 2.2}}]\', '
            "dollars per million tokens)"
        )


def asked_by(settings: Settings, key: str, now: datetime) -> Asked:
    """Return the gateway and models of a process with these settings; `key` as Admission knows it."""
    gateway = settings.gateway
    named = (gateway.post_model, gateway.comment_model, gateway.visit_model, gateway.style_model)
    models = tuple(dict.fromkeys(model for model in named if model))
    return Asked(
        key=key,
        key_name=settings.gateway_key_name,
        withheld=settings.withheld_key,
        models=models,
        others=gateway.fallback_models,
        unpriced=tuple(models_without_price(gateway.every_model, now, settings.usage)),
        is_free=settings.usage.unknown_prices == "warn",
        call_tokens=gateway.max_tokens,
    )
