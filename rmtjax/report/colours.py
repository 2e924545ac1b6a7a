"""The colours of pages and pictures by name; a colour has the same meaning everywhere."""

_LIGHT = {
    "ink": "#1d2430",
    "muted": "#5d6878",
    "rule": "#dfe3e9",
    "paper": "#fefefe",
    "before": "#3a6ea8",
    "after": "#c24e22",
    "update": "#1f7f68",
    "null": "#8d97a6",
    "second": "#80519b",
    "fit": "#b3261e",
}
_DARK = {
    "ink": "#e4e7ec",
    "muted": "#9aa5b5",
    "rule": "#303845",
    "paper": "#151a21",
    "before": "#82aee6",
    "after": "#f18a5d",
    "update": "#5cc4a4",
    "null": "#77818f",
    "second": "#c094dc",
    "fit": "#ff8a80",
}
# Colours of things that are compared: kinds of layer, families of arms.
_KINDS_LIGHT = ("#3a6ea8", "#c24e22", "#1f7f68", "#80519b", "#9a7400", "#b5366f", "#4b7a1e", "#5d6878")
_KINDS_DARK = ("#82aee6", "#f18a5d", "#5cc4a4", "#c094dc", "#dcb650", "#ee86b4", "#a0cc6c", "#9aa5b5")

LIGHT = _LIGHT | {f"k{k}": colour for k, colour in enumerate(_KINDS_LIGHT)}
DARK = _DARK | {f"k{k}": colour for k, colour in enumerate(_KINDS_DARK)}


def look(place: int) -> tuple[str, str]:
    """Colour and shape of the thing number `place`; after eight, colours repeat with other shapes."""
    shapes = ("circle", "square", "triangle", "diamond")
    return f"k{place % 8}", shapes[(place + place // 8) % 4]
