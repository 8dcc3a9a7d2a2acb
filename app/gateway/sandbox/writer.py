"""Plausible short texts without a model: always the same for the same request id."""

from random import Random

OPENINGS = (
    "Spent the morning on",
    "Still thinking about",
    "A small note on",
    "Today I learned something about",
    "Nobody talks enough about",
    "Three tries later, I finally understand",
    "Unpopular view on",
    "If you have ten minutes, read up on",
    "I keep coming back to",
    "What I would tell a beginner about",
)
SUBJECTS = (
    "slow mornings",
    "old maps",
    "sourdough",
    "night trains",
    "tide tables",
    "second-hand books",
    "garden soil",
    "chess endgames",
    "bicycle repair",
    "street photography",
    "bird calls",
    "radio plays",
    "long walks",
    "mountain weather",
    "handwriting",
    "old cameras",
    "public benches",
    "paper planes",
)
THOUGHTS = (
    "the details matter more than the plan",
    "it rewards patience",
    "you notice more the second time",
    "the best part is sharing it",
    "I was wrong about the hard bit",
    "it is mostly about showing up",
    "a little every day beats a lot once",
    "the simple way was there all along",
    "it changed how I look at the rest of the week",
    "asking a neighbour helped most",
)
ENDINGS = ("", " What do you think?", " Who else?", " More soon.", " Tell me yours.", " Worth a try.")


PLACES = (
    "at home",
    "on the train",
    "in the garden",
    "at the library",
    "by the river",
    "before breakfast",
    "after a long day",
    "with a neighbour",
    "in the rain",
    "on a Sunday",
    "at the market",
    "with my sister",
)
TONES = ("warm", "dry", "curious", "blunt", "playful")


def write_style(request_id: str) -> dict[str, object]:
    """How somebody writes, when a JSON object is asked for."""
    dice = Random(request_id)
    return {
        "tone": dice.choice(TONES),
        "emoji_frequency": dice.choice(("none", "rare", "often")),
        "preferred_emojis": ["🌱"],
        "avg_sentence_length": "short",
        "capitalization": "standard",
        "common_phrases": [dice.choice(OPENINGS)],
        "vocabulary_style": "plain",
        "punctuation_style": "full stops",
        "sample_voice": "Small steps, every day.",
        "language": "en",
    }


def write(request_id: str) -> str:
    """A text of one or two sentences; one in twenty is longer than anybody asked for."""
    dice = Random(request_id)
    text = f"{dice.choice(OPENINGS)} {dice.choice(SUBJECTS)} {dice.choice(PLACES)}: "
    text += f"{dice.choice(THOUGHTS)}."
    if dice.random() < 0.05:
        text += "".join(f" And then {dice.choice(SUBJECTS)}: {dice.choice(THOUGHTS)}." for _ in range(6))
    return text + dice.choice(ENDINGS)
