"""What people write to ask for a style: phrasings to train on, and phrasings held out.

The built-in text encoder reads words as groups of 3 to 5 letters. Held-out phrasings are a fair
question to it: forms and compounds of words that it has met, in sentences that it has not. Most
share no whole word with what is trained but such as "a" and "in"; a word with no kin among those
trained, like "suibokuga", would ask for what cannot be known.
"""

import re
from functools import lru_cache
from string import ascii_lowercase
from typing import NamedTuple

import numpy as np

from ..errors import StyleError

TEMPLATES = (
    "{bare}",
    "turn it into {name}",
    "make this look like {name}",
    "as {name}",
    "in the style of {name}",
    "{bare} style",
    "redraw the video as {name}",
    "{bare} effect",
)

KEPT = 0.85  # share of words that a hurried writer does not leave out,
SLIPS = 0.3  # and of those, with a letter wrong


class _Words(NamedTuple):
    """Of one style, apart by semicolons; the first name is the plain one."""

    names: str
    held_out: str


def trained(style: str) -> tuple[str, ...]:
    """All phrasings to train on, the plain one first."""
    return tuple(
        template.format(name=name, bare=_bare(name))
        for name in phrases(_words(style).names)
        for template in TEMPLATES
    )


def held_out(style: str) -> tuple[str, ...]:
    """Phrasings that must not be trained on: they measure whether words are understood."""
    return phrases(_words(style).held_out)


def plain(style: str) -> str:
    """The phrasing that a list of styles shows."""
    return trained(style)[0]


def hurried(phrase: str, rng: np.random.Generator) -> str:
    """The phrase with words left out, in another order, letters wrong: so the style must be known
    by parts of words. A slip never gives a word that is held out."""
    words = [word for word in phrase.split() if rng.random() < KEPT] or [phrase]
    slipped = [slip(word, rng) if rng.random() < SLIPS else word for word in words]
    mixed = [
        new if _unheard().isdisjoint(_words_in(new)) else word
        for word, new in zip(words, slipped, strict=True)
    ]
    return " ".join(mixed[n] for n in rng.permutation(len(mixed)))


def slip(word: str, rng: np.random.Generator) -> str:
    """One letter lost, or another one put in."""
    place, lost = int(rng.integers(len(word))), rng.random() < 0.5 and len(word) > 3
    letter = "" if lost else ascii_lowercase[rng.integers(len(ascii_lowercase))]
    return word[:place] + letter + word[place + lost :]


def phrases(text: str) -> tuple[str, ...]:
    """Phrasings of one wish, apart by semicolons."""
    return tuple(phrase for part in text.split(";") if (phrase := part.strip()))


@lru_cache(maxsize=1)
def _unheard() -> frozenset[str]:
    """Words that are held out, and in no phrasing to train on."""
    heard, held = (
        {word for style in _WORDS for phrase in some(style) for word in _words_in(phrase)}
        for some in (trained, held_out)
    )
    return frozenset(held - heard)


def _words_in(phrase: str) -> list[str]:
    return re.findall(r"\w+", phrase.lower())


def _bare(name: str) -> str:
    article, _, rest = name.partition(" ")
    return rest if article in ("a", "an") else name


def _words(style: str) -> _Words:
    if style not in _WORDS:
        raise StyleError(f"There is no style {style!r}. The styles are {', '.join(_WORDS)}.")
    return _WORDS[style]


_WORDS = {
    "ink wash": _Words(
        names="an ink wash painting; an ink wash; a sumi-e painting; a chinese brush painting; "
        "a japanese ink painting; a brush and ink drawing; diluted ink on rice paper; "
        "black ink with a soft wash; an ink brush drawing",
        held_out="inky, washy brushwork; brushstrokes, inked and washed; everything inked by "
        "brushes; inkwash; washes done in inks; brushed with inks; "
        "paint the scene in ink, like a wash; a drawing made of ink and brush",
    ),
    "pencil sketch": _Words(
        names="a pencil sketch; a pencil drawing; a graphite drawing; a hand-drawn sketch; "
        "a sketch with hatching; a rough pencil sketch; a sketchbook page; "
        "a graphite pencil study; a shaded pencil drawing",
        held_out="sketched in pencils; pencilled, hatched lines; sketchy pencilwork; sketches "
        "done by pencils; sketchlike, hatched; penciling and sketching; "
        "drawn by hand with a pencil; the page of a sketchbook, in graphite",
    ),
    "cel cartoon": _Words(
        names="a cel cartoon; a cartoon; an anime; a comic; an animated cartoon; cel shading; "
        "a comic book page; a cel shaded animation; toon shading; an anime cartoon",
        held_out="cartoonish rendering; cartoony, toonish shades; cartoons come alive; "
        "animes and cartoons; cartoonlike, comical; a cartooned scene; "
        "cartoonish, cel-like rendering; shading like an anime cel",
    ),
    "pixel blocks": _Words(
        names="pixel blocks; pixel art; big square pixels; a pixelated picture; "
        "an 8-bit video game; a retro pixel game; blocky pixels; low resolution blocks; "
        "a pixelated game; chunky pixel blocks",
        held_out="pixelised into squares; pixelly blockwork; blockiness, pixelization; "
        "pixelate everything; pixelation, retrogaming; blocklike, pixely; "
        "a game with blocky, big pixels; retro, pixelated, blocks",
    ),
    "oil painting": _Words(
        names="an oil painting; oil on canvas; an oil paint picture; thick oil paint; "
        "an impasto painting; an old master oil painting; a palette knife painting; "
        "an oil brush stroke painting; a painted oil canvas",
        held_out="oily, painterly brushstrokes; oils upon canvases; painterly impastos; "
        "an oiled, canvaslike surface; paints in oils; oilpainted; "
        "painted with thick oil; a canvas covered in oil paint",
    ),
    "watercolor": _Words(
        names="a watercolor painting; a watercolor; a watercolour; an aquarelle; "
        "wet watercolor on white paper; a transparent watercolor; light watercolor paint; "
        "a watercolour illustration; an aquarelle painting",
        held_out="watercolored; airy watercolors; watery aquarelles; watercolouring; "
        "a watercoloured scene; watercolorish; "
        "painted with wet, transparent watercolor; paper and light watercolour",
    ),
    "neon edges": _Words(
        names="neon edges; glowing neon lines; neon lights; a neon sign; "
        "glowing outlines on black; a neon glow; neon outlines; electric neon contours; "
        "neon tubes at night; cyberpunk neon",
        held_out="neonlike glows; edged by neons; glowy outlining; neonlit edging; "
        "neony, glowy outliner; outlined in neons; "
        "at night with glowing neon; lines that glow like a neon tube",
    ),
    "halftone": _Words(
        names="a halftone print; halftone; halftone dots; a newspaper print; newsprint dots; "
        "a dotted newspaper picture; ben-day dots; a raster of dots; a black dot pattern",
        held_out="halftoned, dotty; halftones; newspapery, dotty; dotlike halftoning; "
        "newspapers, rasterized; rastered halftones; "
        "a picture made of printed dots; newspaper dots, as in a halftone",
    ),
    "blueprint": _Words(
        names="a blueprint; a blueprint drawing; an architect's blueprint; "
        "a technical drawing; white lines on blue; a technical blueprint; "
        "an engineering plan; a building plan; a drafting plan",
        held_out="blueprinted; technically drafted blueprints; blueprinting for architects; "
        "architectural blueprints; engineered, draftsmanlike plans; bluish architectural drafts; "
        "a plan drawn in white on blue; the drawing of an engineering architect",
    ),
    "pop poster": _Words(
        names="a pop poster; a pop art poster; pop art; a screen print; a campaign poster; "
        "a silkscreen poster; a flat color poster; a bold poster print; a striped pop print",
        held_out="posterised, poppy; posterized; a postered popart; posterlike silkscreens; "
        "screenprinted posters; popart screenprint; "
        "bold and flat like a poster; the poster of a campaign, in pop colors",
    ),
    "thermal": _Words(
        names="a thermal camera; thermal vision; a heat map; an infrared camera; "
        "thermal imaging; a thermal picture; infrared heat vision; heat vision; a thermal scan",
        held_out="thermally seen; thermals; heatmap, infrareds; heatmapping, thermally; "
        "infra thermography; heated thermographs; "
        "seen by a camera for heat; a map of thermal infrared",
    ),
    "sepia film": _Words(
        names="a sepia film; sepia; a sepia photograph; an old photograph; a vintage film; "
        "a sepia tone; an antique photo; an old brown photo; an old sepia movie; "
        "a faded vintage photograph",
        held_out="sepiatone; sepias from oldtime photography; photos, older and brownish; "
        "vintages in sepias; sepiatoned films; photographs, brownish, fading; "
        "a photograph, old, brown and faded; film with a vintage sepia tone",
    ),
    "woodcut": _Words(
        names="a woodcut; a woodcut print; a linocut; a woodblock print; an engraving; "
        "a wood engraving; a medieval woodcut; a hand cut woodblock; a linocut print; "
        "an old book engraving",
        held_out="woodcuts; woodcutting, engraved; linocuts; engravings, woody; woodblocks; "
        "linocutting, wooden; "
        "cut in wood by hand; printed from a medieval woodblock",
    ),
    "stained glass": _Words(
        names="a stained glass window; stained glass; a cathedral window; a church window; "
        "leaded glass; glass panes in lead; a glass mosaic; colorful window glass; "
        "a gothic glass window",
        held_out="glassy staining; stainedglass windows; cathedrals, glasslike; "
        "leadlight glasswork; churches, windowpanes; glasswork windows; "
        "the window of a gothic church; glass, stained and leaded",
    ),
    "pastel chalk": _Words(
        names="pastel chalk; a chalk drawing; a pastel drawing; chalk on dark paper; "
        "soft pastel; colored chalk strokes; a chalkboard drawing; a street chalk picture; "
        "crayon and chalk",
        held_out="chalky; chalked in pastelly tones; chalks; pastels, crayons; "
        "chalklike pastelwork; chalkboards, chalkier; "
        "drawn on a dark chalkboard; soft strokes of chalk, on the street",
    ),
    "paper cutout": _Words(
        names="a paper cutout; a paper cut; layered paper; cut paper layers; a paper collage; "
        "papercut art; stacked paper sheets; a cutout collage; paper craft",
        held_out="papery cutouts; papercuts; papercrafted layering; cutouts, collaged; "
        "papercutting; collages, papery; "
        "sheets of paper cut and stacked; a collage of layers, craft of paper",
    ),
    "cross stitch": _Words(
        names="cross stitch; an embroidery; an embroidered picture; needlework; "
        "stitched thread; a stitched sampler; embroidery on cloth; needlepoint; "
        "a cross stitch pattern",
        held_out="crossstitched; stitching, embroideries; stitches; embroider everything; "
        "stitchery, threaded; needleworked stitchwork; "
        "thread stitched across cloth; a pattern of stitch and needlework",
    ),
    "stone relief": _Words(
        names="a stone relief; a bas-relief; a marble relief; carved stone; a stone carving; "
        "an embossed stone; chiseled stone; a plaster relief; a marble carving; "
        "an ancient temple relief",
        held_out="reliefs, stony; stonework; stonelike embossing; marbled reliefs; "
        "carvings, stones; stonecarved, stonily; "
        "carved in marble, like a temple; chiseled, a relief of ancient plaster",
    ),
}
