"""Thoughts of a model, and the marks of its chat template, do not belong to its answer. Pure.

The formats are those of the models' chat templates: tags (DeepSeek, Qwen, Claude, Seed), brackets
(Magistral), GPT-OSS's channels, Cohere's, Kimi's, Gemma's.
"""

import re

_TAG = r"(?:\w{1,12}:)?(?:ant|longcat_)?think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratchpad"
_OPEN = (
    rf"<(?:{_TAG})(?:\s[^<>]{{0,80}})?>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>|<unused94>"
    r"|<\|channel\|?>\s{0,3}(?:analysis|thought|commentary)\b"
)
_CLOSE = (
    rf"</(?:{_TAG})>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>|<unused95>|<channel\|>"
    r"|<\|end\|>"
)
_OPENING, _CLOSING = re.compile(_OPEN, re.I), re.compile(_CLOSE, re.I)
_THINKS = re.compile(r"\s*(?:<\|start\|>\w{1,20})?\s*(?:" + _OPEN + ")", re.I)
_MARKS = re.compile(r"<\|start\|>\w{1,20}|<\|channel\|>\s{0,3}final\b|<\|\w{1,40}\|>", re.I)
_END = re.compile(r"(?:</s>|<end_of_turn>|<eos>|\[/INST\]|<\|\w{1,40}\|>)\Z", re.I)
_ENDS_MAX, _END_LENGTH = 8, 44
_WRAPPED = re.compile(r"<(answer|output|response|final|final_answer)>(.*)</\1>", re.S | re.I)


def without_thoughts(text: str) -> str:
    """The answer alone. Thoughts stand at its beginning, or between two marks; the first mark may be a part
    of the prompt. Thoughts that do not end leave nothing.
    """
    shown, has_thought = _without_ends(text), False
    while begins := _THINKS.match(shown):
        end = _CLOSING.search(shown, begins.end())
        if end is None:
            return ""
        shown, has_thought = shown[end.end() :], True
    shown, inner = _without_inner(shown)
    parts = _CLOSING.split(shown)  # of thoughts within thoughts, or of those that began in the prompt
    if has_thought or inner:  # a second mark of the end after the answer says nothing
        parts = [part for part in parts if part.strip()] or [""]
    shown = _MARKS.sub("", parts[-1]).strip()
    wrapped = _WRAPPED.fullmatch(shown)
    return wrapped[2].strip() if wrapped else shown


def _without_ends(text: str) -> str:
    """The text without the marks that a chat template ends it with."""
    text = text.strip()
    for _ in range(_ENDS_MAX):
        found = _END.search(text, max(0, len(text) - _END_LENGTH))
        if found is None:
            break
        text = text[: found.start()].rstrip()
    return text


def _without_inner(text: str) -> tuple[str, bool]:
    """Without thoughts that stand between two marks within the answer, and whether there were some."""
    kept, at = [], 0
    while (begin := _OPENING.search(text, at)) and (end := _CLOSING.search(text, begin.end())):
        kept.append(text[at : begin.start()])
        at = end.end()
    return "".join([*kept, text[at:]]), at > 0
