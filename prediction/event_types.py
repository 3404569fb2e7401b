"""Event types of QuakeML, and which of them a class is."""

from collections.abc import Mapping

# QuakeML 1.2, enumeration EventType; a test compares it with ObsPy's
QUAKEML_TYPES = (
    "not existing",
    "not reported",
    "earthquake",
    "anthropogenic event",
    "collapse",
    "cavity collapse",
    "mine collapse",
    "building collapse",
    "explosion",
    "accidental explosion",
    "chemical explosion",
    "controlled explosion",
    "experimental explosion",
    "industrial explosion",
    "mining explosion",
    "quarry blast",
    "road cut",
    "blasting levee",
    "nuclear explosion",
    "induced or triggered event",
    "rock burst",
    "reservoir loading",
    "fluid injection",
    "fluid extraction",
    "crash",
    "plane crash",
    "train crash",
    "boat crash",
    "other event",
    "atmospheric event",
    "sonic boom",
    "sonic blast",
    "acoustic noise",
    "thunder",
    "avalanche",
    "snow avalanche",
    "debris avalanche",
    "hydroacoustic event",
    "ice quake",
    "slide",
    "landslide",
    "rockslide",
    "meteorite",
    "volcanic eruption",
)
OTHER = "other event"


def event_type(class_name: str, chosen: Mapping[str, str]) -> str:
    """Return the QuakeML type of a class: the chosen one, the class itself, or ``other event``.

    Upper case, spaces, ``_`` and ``-`` make no difference: ``IceQuake`` is ``ice quake``.
    """
    types = {_plain(name): name for name in QUAKEML_TYPES}
    types |= {_plain(name): found for name, found in chosen.items()}
    return types.get(_plain(class_name), OTHER)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character not in " _-")
