"""Word lists of the check: closed classes as far as prompts use them, and small groups of synonyms and kinds.

Lemmas, parts of speech and numbers come from lemminflect and text2num; only what those do not know is here.
"""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


def groups(text: str) -> dict[str, str]:
    """ "big large; small little" -> each word to the first of its group. A word may stand in one group only."""
    table: dict[str, str] = {}
    for group in text.split(";"):
        for word in group.split():
            if word in table:
                raise ValueError(f"{word!r} stands in two groups: {table[word]!r} and {group.split()[0]!r}")
            table[word] = group.split()[0]
    return table


def relations(text: str) -> dict[str, frozenset[str]]:
    """ "in: wear fill; on: ride" -> each word to those behind it."""
    return {name.strip(): word_set(rest) for name, rest in (part.split(":") for part in text.split(";"))}


DETERMINERS = word_set(
    "a an the this that these those its his her their our my your each every either any some all other another such"
    " more extra several many few numerous multiple various countless"
)
SINGLE = word_set("single lone solitary sole another")
SEVERAL = word_set("these those some all several many few numerous multiple various countless")
MORE = word_set("another extra more")
PRONOUNS = word_set(
    "it he she they him them himself herself itself themselves who whom which what there everything something others"
    " ones i you we me us whose"
)
BE = word_set("is are was were be been being am seems seem appears becomes become remains stays")
AUXILIARIES = word_set("has have had having do does did can could will would shall should may might must")
CONJUNCTIONS = word_set("and or but nor yet while as whereas because so if when where although though plus than &")
ADVERBS = word_set(
    "very quite rather too also just only still almost nearly so always often again away together apart alone up down"
    " out off back forward here everywhere high low far nearby overhead upright ever even once now then perhaps mid"
    " outdoors indoors aloft well fully side-by-side back-to-back face-to-face hand-in-hand upside-down exactly"
    " straight"
)
NEGATORS = word_set(
    "no not never without none neither nor nobody nothing lacking sans cannot minus devoid-of free-of free-from"
    " empty-of absence-of lack-of instead-of rather-than clear-of bare-of"
)
PREPOSITIONS = groups(
    "on atop upon onto on-top-of across-the-top-of; under beneath below underneath at-the-foot-of; above over"
    " high-above; in inside within into inside-of in-the-middle-of amid among amidst amongst; near beside by alongside"
    " next-to close-to adjacent-to at-the-side-of near-to along; behind in-back-of; front in-front-of before ahead-of;"
    " between in-between; around surrounding; against; at; outside outside-of; through across; toward towards to; from"
    " out-of off-of; facing opposite; left left-of; right right-of; with of featuring showing depicting having full-of"
    " filled-with made-of made-from; for about like during beyond past after via per since until as"
)
CLOSED = {
    **dict.fromkeys(ADVERBS, "adv"),
    **dict.fromkeys(CONJUNCTIONS, "conj"),
    **dict.fromkeys(AUXILIARIES | BE, "aux"),
    **dict.fromkeys(PRONOUNS, "pron"),
    **dict.fromkeys(DETERMINERS, "det"),
    **dict.fromkeys(PREPOSITIONS.keys() - {"front", "left", "right"}, "prep"),
    **dict.fromkeys(NEGATORS, "neg"),
    "'s": "poss",
}
"""Closed-class words to their tag."""
PHRASES = [word.replace("-", " ") for word in CLOSED if "-" in word] + ["ice cream", "low poly", "pixel art"]
"""Of several words; they are read as one word, with hyphens."""
SPATIAL = word_set("on under above in near behind front between around against outside left right facing at")
FIRM = word_set("on under above behind front between outside left right")
"""Of these relations the rewrite must have one that implies it; the others need only not be contradicted."""
INVERSE = {"on": "under", "above": "under", "left": "right", "right": "left", "behind": "front", "front": "behind"}
INVERSE |= {"near": "near", "facing": "facing", "against": "against", "under": "on"}
"""A on B says B under A."""
IMPLIED_BY = relations(
    "at: at near in on front behind against; on: on ride above-on; in: in wear fill with; near: near left right front"
    " behind at against around flank between facing with; around: around surround; against: against lean on; facing:"
    " facing face look front; with: with wear hold carry have own in on near bear sport feature clutch grip raise show"
    " depict use; wear: wear in with have; hold: hold carry with; ride: ride on"
)
"""A relation is kept where the rewrite has one of these between the same two things."""
HOLDS = relations("in: contain hold have with; around: surround; on: with hold")
"""A in B: B holds A."""
SYMMETRIC = word_set("near facing against at around with between")
OPEN_PLACES = word_set(
    "water river lake sea ocean pond tree grass street field sky snow beach meadow road air sand desert hill lawn"
    " garden farm branch rain park sidewalk pool train bus boat ship plane island yard mud sofa chair bed hammock"
    " mountain canal lane alley"
)
"""Where "in" and "on" say the same."""

COLLECTIVES = (
    "group|set|bunch|row|line|number|lot|lots|series|collection|pack|herd|flock|crowd|pile|stack|cluster|handful|variety"
    "|dozens|hundreds|thousands|plenty|array|assortment|school|swarm|gathering|colony|heap"
)
"""A flock of birds counts as several birds."""
IGNORED = word_set(
    "color colour hue shade tone image picture scene view depiction thing kind type sort sense hint touch air bit"
    " rest quality detail resolution k 4k 8k hd uhd masterpiece artstation"
)
"""Frames and quality tags: no objects of the picture."""
VAGUE = word_set("best high-quality detailed highly-detailed trending hd visible other same")
VIEWS = word_set("@from-above @from-below @from-behind @from-afar @monochrome")

COLOURS = groups(
    "red crimson scarlet ruby cherry vermilion maroon burgundy reddish; orange tangerine amber ginger; yellow golden"
    " gold lemon blond blonde yellowish; green emerald lime olive jade greenish; blue azure navy cobalt sapphire"
    " sky-blue bluish indigo cerulean; purple violet lavender lilac purplish magenta; pink rose fuchsia rosy pinkish;"
    " brown chestnut tan chocolate brownish brunette; black ebony jet; white ivory snow-white pearl whitish; gray grey"
    " silver charcoal grayish greyish; beige cream; turquoise teal cyan aqua; colorful multicolored colourful"
    " multicoloured rainbow"
)
SHADES = {"dark": "dark-shaded", "deep": "dark-shaded", "light": "light-shaded", "pale": "light-shaded"}
PRAISE = word_set("bright vivid vibrant rich soft brilliant intense pastel neon hot glossy clear")
"""Before a colour they say nothing that could be lost."""
ADJECTIVES = groups(
    "big large huge giant enormous massive gigantic towering oversized immense colossal great; small little tiny"
    " miniature petite compact; old ancient aged elderly weathered antique vintage; young youthful; happy joyful"
    " cheerful smiling; fast quick swift speeding; beautiful gorgeous stunning pretty lovely; cute adorable; shiny"
    " gleaming glossy polished shining; quiet silent peaceful calm tranquil serene still; scary frightening spooky"
    " eerie creepy; empty deserted vacant; furry fluffy; round circular spherical; wet soaked damp; broken shattered"
    " cracked; dirty grimy filthy; thin slim slender; asleep sleeping; cozy cosy; wooden wood timber; metal metallic;"
    " glass glassy; open opened; closed shut; foggy misty hazy; striped stripy; angry furious; snowy snow-covered"
    " snow-capped; rainy rain-soaked; stone stony; spotted speckled dotted; futuristic sci-fi; frozen icy; messy"
    " cluttered untidy; crowded busy bustling packed; torn ragged tattered; luxurious lavish opulent; abandoned"
    " derelict; mysterious enigmatic; sunny sunlit; stormy tempestuous raging; fat chubby plump; brave fearless"
)
EXCLUSIVE = frozenset(
    tuple(pair.split("/"))
    for pair in (
        "big/small old/young old/new old/modern happy/sad happy/angry angry/calm tall/short long/short wet/dry open/closed"
        " empty/full empty/crowded hot/cold thick/thin fast/slow clean/dirty round/square striped/spotted striped/plain"
        " wooden/metal wooden/glass wooden/stone wooden/plastic wooden/brick metal/stone foggy/sunny sunny/rainy"
        " sunny/stormy @left/@right @top/@bottom @background/@foreground sit/stand sit/lie stand/lie dark/bright"
        " wide/narrow male/female straight/curly asleep/awake cute/ugly beautiful/ugly dark-shaded/light-shaded"
        " quiet/stormy quiet/angry fat/thin rough/smooth soft/hard"
    ).split()
)
"""Pairs of attributes that one thing does not have at once."""
KNOWN_ADJECTIVES = ADJECTIVES.keys() | COLOURS.keys() | SHADES.keys() | PRAISE | {w for pair in EXCLUSIVE for w in pair}
KNOWN_ADJECTIVES -= {"glass", "timber", "wood", "stone", "metal", "brick", "plastic", "still", "neon"}
MATERIALS = word_set(
    "wooden metal glass stone marble bronze steel iron copper brass plastic paper leather brick concrete clay"
    " porcelain ceramic gold silver velvet silk wool ice crystal granite"
)
NOUNS = groups(
    "person human individual figure someone people pedestrian; man gentleman guy fellow; woman lady; child kid"
    " youngster toddler; boy lad; girl lass; baby infant newborn; dog hound canine; cat feline kitty; horse steed;"
    " rabbit bunny hare; cow cattle; pig hog; car automobile; bike bicycle; motorcycle motorbike; plane airplane"
    " aeroplane aircraft; ship vessel; house cottage home cabin; street road lane avenue; sofa couch settee; forest"
    " woods woodland wood; sea ocean; stone rock boulder; hat cap; photo photograph snapshot photography; rug carpet"
    " mat; cup mug; mountain peak; hill hillside; field meadow pasture; beach shore seaside; path trail pathway; lamp"
    " lantern; sunset dusk; sunrise dawn; television tv; phone telephone smartphone cellphone; laptop notebook; store"
    " shop; airport airfield; bag handbag purse; trash garbage; lawn grass; flower blossom bloom; drawing sketch;"
    " doctor physician; soldier warrior; rooster cockerel; chair armchair; pavement sidewalk; jacket coat; plate dish;"
    " ground floor; city metropolis; watercolor watercolour; theater theatre; night nighttime; harbor harbour; movie"
    " film; present gift; puppy pup; wizard sorcerer; spaceship spacecraft; autumn fall; robot android; policeman cop"
)
KINDS = relations(
    "person: man woman child boy girl baby crowd tourist passerby doctor chef soldier worker farmer player rider"
    " couple family hiker swimmer surfer stranger shopper villager artist musician teacher student audience sailor;"
    " man: king prince monk knight wizard boxer; woman: queen princess nun bride ballerina; child: boy girl baby;"
    " animal: dog cat horse cow pig bird rabbit sheep goat lion tiger bear elephant fox deer monkey mouse fish duck"
    " wolf frog; dog: puppy retriever terrier labrador poodle corgi dachshund bulldog husky beagle dalmatian spaniel;"
    " cat: kitten tabby siamese; horse: pony stallion mare foal; car: sedan coupe vehicle taxi convertible limousine;"
    " vehicle: car truck bus bike motorcycle van taxi train tram scooter tractor; boat: canoe kayak ferry yacht"
    " gondola raft dinghy; tree: oak pine maple birch palm willow fir cypress acacia cedar; flower: rose tulip daisy"
    " sunflower lily orchid poppy iris peony; fruit: apple banana pear grape strawberry peach cherry lemon orange"
    " mango; bird: eagle owl parrot crow raven pigeon dove swan duck gull heron falcon robin sparrow finch seagull;"
    " hat: fedora beanie bowler beret sombrero; fish: goldfish salmon trout koi shark carp; insect: bee butterfly"
    " beetle ant dragonfly; building: house tower church skyscraper castle barn temple"
)
"""What a rewrite may make of a general word, and what contradicts its negation: "no people" and then a man."""
NO_COMPOUNDS = word_set(
    "butterfly dragonfly pineapple hedgehog carpet starfish jellyfish seahorse ladybird mushroom peacock cupcake"
    " toadstool crayfish silverfish hotdog scarecrow snowman gingerbread woman human barman strawberry eggplant"
)
"""End in a word that they are no kind of; a "businessman" is a man."""

VERB_GROUPS = groups(
    "run sprint race dash jog gallop; walk stroll wander stride trot amble; sleep nap doze slumber snooze; eat munch"
    " devour nibble feed dine chew; drink sip; look gaze stare peer watch observe; jump leap hop bound; hold grasp"
    " clutch grip carry cradle; chase pursue; throw toss hurl pitch; fly soar glide hover; sit perch settle; stand"
    " tower; lie recline sprawl lounge curl rest; wear don sport dress; ride straddle; read peruse; smile grin beam;"
    " shine glow gleam glisten; talk chat speak converse; hug embrace cuddle; climb scale ascend; swim paddle; dance"
    " twirl; play frolic; paint depict; drive steer; sing croon; cook fry grill; catch grab; fight battle; push shove;"
    " pull drag tug haul; fall tumble drop; cut slice chop; kick boot; surround encircle; cover blanket coat; float"
    " drift bob; make build construct create; cross traverse; hide conceal; shout yell scream; laugh giggle; steal"
    " rob; burn blaze; hang dangle"
)
VERBS = VERB_GROUPS.keys() | word_set(
    "balance bark bend bite blend bloom blow bounce brew bring buy call circle clean close come contain crawl crouch"
    " cry deliver dig draw emerge face feature fill flow fold follow frame gather give go graze grow guard hammer howl"
    " huddle hunt juggle keep kiss kneel knit launch lay lead lean leave lick lift line lit load loom meet melt move"
    " open overlook pass peel perform pet pick plant point pose pour pray reach reflect remain repair ripple rise roar"
    " roll row sail say sell serve sew shoot show skate ski sniff spin splash spread stack stay stop stretch stroke"
    " support surf swing take teach touch trail turn type use wait wash wave weave work wrap write"
)
"""Read as verbs where they might be nouns too."""
POSTURE = word_set("sit stand lie be stay hang remain wait pose place position locate set rest park tuck")
"""With a place behind them they say no more than the place does."""
CLOTHES = word_set("dress suit gown outfit clothes robe coat jacket shirt uniform kimono cloak attire garment costume")
LEMMAS = {"people": "person", "leaves": "leaf", "woods": "woods", "glasses": "glasses", "sunglasses": "sunglasses"}
"""Singulars that the dictionary gives otherwise."""
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
NOT_VERBS = word_set(
    "ceiling building painting morning evening string wedding earring railing clothing lightning lighting opening"
    " meeting landing king ring wing spring thing hundred bed shed bird drawing rigging parking icing duckling sapling"
    " dumpling setting swing red wicked naked sacred"
)
ENGLISH = word_set("the of with and a an in on at is are to by from under behind no without")
